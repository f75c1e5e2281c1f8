"""What a compile refuses, what it measures, and running its result."""

from __future__ import annotations

import itertools
import re
from typing import Any, cast

import attrs
import numpy as np
import onnxruntime as ort
import pytest

import lowtide
from lowtide.compiler.progress import Clock, Progress
from lowtide.compiler.request import CompileRequest
from lowtide.compiler.result import CompileResult
from lowtide.compiler.stages import Compilation
from lowtide.errors import (
    DataError,
    LowtideError,
    OptionError,
    QuantizationError,
    UnknownNameError,
    UnsupportedByTargetError,
    UnsupportedModelError,
)
from lowtide.ir import parse_graph
from lowtide.options import OptionLayer
from lowtide.plugin import Provider, discover, hookimpl
from support import CALIBRATION, MODEL, TEST

REGISTRY = discover()


@pytest.fixture(scope="module")
def result() -> CompileResult:
    return lowtide.compile(MODEL, target="am68a", data=str(CALIBRATION), frames=4, registry=REGISTRY)


def image(count: int = 1) -> np.ndarray[Any, Any]:
    with np.load(TEST) as data:
        found: np.ndarray[Any, Any] = data["image"][:count].astype(np.float32)
    return found


def begin(target: str = "am68a", frames: int | None = None, **options: object) -> Compilation:
    layers = [OptionLayer("test", options)]
    request = CompileRequest(model=MODEL, target=target, frames=frames, options=layers, registry=REGISTRY)
    return Compilation.begin(request)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"target": "am86a"}, UnknownNameError, ("am86a", "am68a")),
        ({"tensor_bit": 8}, OptionError, ("tensor_bit", "tensor_bits")),
        ({"tensor_bits": 12}, OptionError, ("tensor_bits", "12")),
        ({"frames": 0}, OptionError, ("frames", "0")),
        ({"target": "tda4vm", "quantization_scale_type": 4}, UnsupportedByTargetError, ("tda4vm", "0")),
    ],
)
def test_a_compile_that_cannot_begin_says_why(
    arguments: dict[str, Any], error: type[LowtideError], words: tuple[str, ...]
) -> None:
    with pytest.raises(error) as caught:
        begin(**arguments)
    for word in words:
        assert word in str(caught.value)


def test_the_device_sets_options_and_the_user_overrides_them() -> None:
    compilation = begin(target="generic", tensor_bits=8)
    assert compilation.target.name == "generic"
    origins = {option.key: option.origin for option in compilation.resolved.effective}
    assert origins["tensor_bits"] == "test"


@pytest.mark.parametrize("options", ["net.yaml", {1, 2}, [{"tensor_bits": 8}]])
def test_options_of_another_form_are_refused(options: Any) -> None:
    with pytest.raises(OptionError, match="expected a mapping"):
        lowtide.compile(MODEL, target="am68a", options=options, registry=REGISTRY)


def test_missing_data_is_asked_for() -> None:
    with pytest.raises(DataError, match="--data"):
        lowtide.compile(MODEL, target="am68a", registry=REGISTRY)


def test_a_graph_that_is_quantized_by_nodes_is_refused() -> None:
    graph = parse_graph("""graph "g" {
  input %x: float32[1, 2]
  const %s: float32[] = [0.5]
  const %z: uint8[] = [3]
  %q: uint8[1, 2] = QuantizeLinear(%x, %s, %z) nodes "quant_in"
  %y: float32[1, 2] = DequantizeLinear(%q, %s, %z)
  return %y
}
""")
    with pytest.raises(UnsupportedModelError, match="fold-qdq"):
        lowtide.compile(graph, target="generic", data=np.zeros((2, 1, 2), np.float32), registry=REGISTRY)


def test_a_graph_compiles_as_its_file_does_and_is_not_changed(result: CompileResult) -> None:
    before = lowtide.compile(MODEL, target="am68a", options={"tensor_bits": 32}, registry=REGISTRY).reference
    nodes = [node.op for node in before]
    found = lowtide.compile(before, target="am68a", data=str(CALIBRATION), frames=4, registry=REGISTRY)
    np.testing.assert_array_equal(
        found.run({"image": image()})["logits"], result.run({"image": image()})["logits"]
    )
    assert [node.op for node in before] == nodes


def test_a_network_stays_float_without_data() -> None:
    found = lowtide.compile(MODEL, target="am68a", options={"tensor_bits": 32}, registry=REGISTRY)
    assert found.report.calibration is None
    assert found.report.outputs == ()
    assert all(value.type.quant is None for value in found.graph.values.values())


def test_a_network_that_runs_on_the_host_only_stays_float() -> None:
    ops = "Conv,Clip,Relu,Add,GlobalAveragePool,Flatten,Gemm"
    options = {"deny_list:layer_type": ops}
    found = lowtide.compile(
        MODEL, target="am68a", data=str(CALIBRATION), frames=4, options=options, registry=REGISTRY
    )
    assert found.report.device.accelerator_layers == 0
    np.testing.assert_array_equal(
        found.run({"image": image()})["logits"], found.run({"image": image()}, mode="float")["logits"]
    )


def test_the_end_of_a_compile_is_announced_once_and_not_after_a_failure() -> None:
    heard: list[CompileResult] = []

    class Observer:
        @hookimpl
        def lowtide_compile_finished(self, result: CompileResult) -> None:
            heard.append(result)

    registry = discover()
    registry.add_plugin(Observer(), Provider("test", "1", "test"))
    with pytest.raises(DataError):
        lowtide.compile(MODEL, target="generic", data=np.zeros((1, 2), np.float32), registry=registry)
    assert not heard
    found = lowtide.compile(MODEL, target="generic", data=str(CALIBRATION), frames=2, registry=registry)
    assert len(heard) == 1
    assert heard[0] is found


@pytest.mark.parametrize("number", ["inf", "-inf", "nan"])
@pytest.mark.parametrize("operand", ["w", "b"])
def test_weights_that_are_not_finite_are_named_and_no_frame_is_blamed(number: str, operand: str) -> None:
    constants = {"w": "[1.5, -0.5, 0.25, 1.0]", "b": "[0.5, 1.0]"}
    constants[operand] = constants[operand].replace("1.0", number)
    graph = parse_graph(
        f"""graph "spoiled" {{
  input %x: float32[1, 2, 4, 4]
  const %w: float32[2, 2, 1, 1] = {constants["w"]}
  const %b: float32[2] = {constants["b"]}
  %y: float32[1, 2, 4, 4] = Conv(%x, %w, %b)
  return %y
}}
"""
    )
    frames = np.ones((12, 2, 4, 4), np.float32)
    with pytest.raises(QuantizationError, match="weights hold NaN or infinity") as caught:
        lowtide.compile(graph, target="am68a", data=frames)
    assert caught.value.place is not None
    assert caught.value.place.endswith(f", {operand}")


def test_stages_are_timed_in_the_order_in_which_they_run(result: CompileResult) -> None:
    stages = [stage.stage for stage in result.report.times]
    once = ["import", "prepare", "place", "structure", "collect", "calibrate", "scales", "solve", "try"]
    assert stages[: len(once)] == once
    assert stages[-3:] == ["measure", "verify", "diagnose"]
    assert set(stages) - {*once, *stages[-3:]} == {"weights"}


def test_the_clock_takes_the_difference_of_both_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    @attrs.define
    class Listening(Progress):
        def stage(self, name: str) -> None:
            heard.append(name)

    walls, cpus = itertools.count(10.0, 2.5), itertools.count(1.0, 0.5)
    monkeypatch.setattr("lowtide.compiler.progress.time.perf_counter", lambda: next(walls))
    monkeypatch.setattr("lowtide.compiler.progress.time.process_time", lambda: next(cpus))
    clock = Clock(Listening())
    with clock.stage("one"):
        pass
    with clock.stage("two"):
        pass
    assert heard == ["one", "two"]
    assert [(item.stage, item.wall, item.cpu) for item in clock.times] == [
        ("one", 2.5, 0.5),
        ("two", 2.5, 0.5),
    ]


def test_progress_counts_every_frame_up_to_the_total() -> None:
    steps: list[tuple[str, int, int | None]] = []

    @attrs.define
    class Listening(Progress):
        now: str = ""

        def stage(self, name: str) -> None:
            self.now = name

        def advance(self, done: int, total: int | None) -> None:
            steps.append((self.now, done, total))

    lowtide.compile(
        MODEL, target="am68a", data=str(CALIBRATION), frames=5, registry=REGISTRY, progress=Listening()
    )
    assert [step for step in steps if step[0] == "collect"][-1] == ("collect", 5, 5)
    assert [step for step in steps if step[0] == "measure"][-1] == ("measure", 5, 5)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ({}, ("image", "no array")),
        ({"picture": image()}, ("picture", "image")),
        ({"image": [[1, 2]]}, ("image", "[1, 2]")),
        ({"image": np.full_like(image(), np.nan)}, ("image", "NaN")),
        (3, ("image", "[1, 1, 16, 16]")),
    ],
)
@pytest.mark.parametrize("mode", ["float", "qdq"])
def test_frames_that_do_not_fit_are_named(
    result: CompileResult, frame: object, words: tuple[str, ...], mode: Any
) -> None:
    with pytest.raises(DataError) as caught:
        result.run(frame, mode=mode)
    for word in words:
        assert word in str(caught.value)


def test_a_frame_is_run_as_calibration_data_gives_it(result: CompileResult) -> None:
    expected = result.run({"image": image()})["logits"]
    for frame in (image(), image()[0], {"image": image()[0].astype(np.float64)}):
        np.testing.assert_array_equal(result.run(frame)["logits"], expected)


def test_a_result_is_shown_in_a_line(result: CompileResult) -> None:
    assert re.fullmatch(r"<CompileResult of \S+ for am68a: \d+ layers; logits [\d.]+ dB>", repr(result))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"model": 3}, "model: expected the path of a model file or a lowtide.Graph, found int"),
        ({"target": None}, "target: expected the name of a device, found NoneType"),
        ({"preprocess": {"resize": 28}}, "preprocess: expected a lowtide.Preprocess, found dict"),
        ({"cache": "folder"}, "cache: expected a lowtide.calibrate.StatisticsCache, found str"),
    ],
)
@pytest.mark.parametrize("entry", [lowtide.compile, lowtide.tune])
def test_arguments_of_another_type_are_named(entry: Any, wrong: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError, match=re.escape(words)):
        entry(**{"model": MODEL, "target": "am68a", "data": str(CALIBRATION), "registry": REGISTRY} | wrong)


def test_an_unknown_mode_is_refused_with_the_known_ones(result: CompileResult) -> None:
    with pytest.raises(OptionError, match=re.escape("there is no mode 'fixed'")):
        result.run({"image": image()}, mode=cast(Any, "fixed"))


def test_float_mode_gives_what_onnx_runtime_gives_for_the_original_model(result: CompileResult) -> None:
    session = ort.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    expected = np.asarray(session.run(None, {"image": image()})[0])
    np.testing.assert_allclose(
        result.run({"image": image()}, mode="float")["logits"], expected, rtol=1e-4, atol=1e-4
    )
