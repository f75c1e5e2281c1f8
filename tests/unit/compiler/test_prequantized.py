"""What a compile does with networks that are quantized already."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import lowtide
from lowtide.compiler.prequantized import choose_rule
from lowtide.compiler.request import CompileRequest
from lowtide.compiler.result import CompileResult
from lowtide.compiler.stages import Compilation
from lowtide.errors import DataError, UnsupportedByTargetError, UnsupportedModelError
from lowtide.ir import Graph, QuantParams, parse_graph, print_graph
from lowtide.options import OptionLayer
from lowtide.plugin import discover
from lowtide.precision import quantized_values
from lowtide.quantize.codes import same_numbers
from lowtide.quantize.operands import mac_operands
from lowtide.runtime import Session, to_model
from lowtide.target import scale_rule
from support import CALIBRATION
from unit.compiler.quantizers import images, in_runtime, labels, quantized, weight_codes

REGISTRY = discover()
FRAMES = 12
SOME = 60
Models = Callable[[str], Path]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    made: dict[str, Path] = {}

    def model(style: str) -> Path:
        if style not in made:
            made[style] = quantized(tmp_path_factory.mktemp(style), style)
        return made[style]

    return model


def compiled(
    model: Path | Graph, target: str = "am68a", *, data: bool = True, **options: object
) -> CompileResult:
    given: object = str(CALIBRATION) if data else None
    frames = FRAMES if data else None
    if isinstance(model, Graph) and data:
        given = images() / 16
    return lowtide.compile(
        model, target=target, data=given, frames=frames, options=options, registry=REGISTRY
    )


def results(result: CompileResult, frames: NDArray[Any]) -> NDArray[Any]:
    session = Session(to_model(result.graph, quantized=True))
    name = result.graph.inputs[0].name
    return np.concatenate([next(iter(session.run({name: f[np.newaxis]}).values())) for f in frames])


def accuracy(scores: NDArray[Any]) -> float:
    return float(np.mean(np.argmax(scores, axis=1) == labels()[: len(scores)]))


def stored_weights(graph: Graph) -> list[bytes]:
    found = [operands.weights for node in graph if (operands := mac_operands(node))]
    return sorted(value.constant.array().tobytes() for value in found if value.constant)


def told(result: CompileResult, code: str) -> list[str]:
    return [found.place for found in result.report.diagnostics if found.code == code]


def rounded(first: NDArray[Any], second: NDArray[Any], graph: Graph) -> NDArray[Any]:
    """How many steps of the output two results are apart."""
    quant = graph.outputs[0].type.quant
    assert quant is not None
    steps: NDArray[Any] = np.abs(first - second) / quant.scale[0]
    return steps


# --- kept codes ---


@pytest.mark.parametrize("style", ["u8s8", "s8s8", "u8u8"])
def test_generic_keeps_all_codes_and_computes_what_onnx_runtime_does(models: Models, style: str) -> None:
    frames = images()[:SOME]
    result = compiled(models(style), "generic", data=False)
    assert np.array_equal(results(result, frames), in_runtime(models(style), frames))
    assert stored_weights(result.graph) == weight_codes(models(style))


@pytest.mark.parametrize("style", ["u8s8", "s8s8"])
def test_a_device_that_has_the_scales_keeps_the_codes_of_the_file(models: Models, style: str) -> None:
    frames = images()[:SOME]
    result = compiled(models(style), data=False)
    assert stored_weights(result.graph) == weight_codes(models(style))
    assert np.array_equal(results(result, frames), in_runtime(models(style), frames))


def test_16_bit_activations_bring_16_bit_weights_of_the_same_codes(models: Models) -> None:
    result = compiled(models("a16w8"), data=False)
    assert set(result.plan.weights.values()) == {16}
    assert set(result.plan.activations.values()) == {16}
    assert len(told(result, "LT882")) == 1
    wide = [np.frombuffer(data, np.int16).astype(np.int8).tobytes() for data in stored_weights(result.graph)]
    assert sorted(wide) == weight_codes(models("a16w8"))
    frames = images()[:SOME]
    # Float sums in another order round some 16-bit codes to the one beside.
    assert rounded(results(result, frames), in_runtime(models("a16w8"), frames), result.graph).max() < 4


def test_options_about_widths_that_a_network_with_codes_does_not_take_are_told_of(models: Models) -> None:
    result = compiled(models("u8s8"), data=False, budget_ms=3, params_16bit_names_list="a")
    assert told(result, "LT867") == ["budget_ms", "advanced_options:params_16bit_names_list"]
    assert not told(compiled(models("u8s8"), data=False), "LT867")


def test_a_proto_that_is_there_is_not_read_for_a_network_that_keeps_its_codes(
    models: Models, tmp_path: Path
) -> None:
    proto = tmp_path / "params.prototxt"
    proto.write_text("none of ours")
    found = compiled(models("u8s8"), data=False, quant_params_proto_path=str(proto))
    assert told(found, "LT869") == [str(proto)]
    assert proto.read_text() == "none of ours"
    fresh = compiled(models("u8s8"), data=False, quant_params_proto_path=str(tmp_path / "new.prototxt"))
    assert told(fresh, "LT869") == []


def test_frames_change_nothing_in_a_network_that_has_all_scales(models: Models) -> None:
    first, second = compiled(models("u8s8")), compiled(models("u8s8"), data=False)
    assert print_graph(first.graph) == print_graph(second.graph)


def test_a_quantized_model_is_refused_when_the_options_say_that_it_is_none(models: Models) -> None:
    with pytest.raises(UnsupportedModelError, match=r"quantized already: image has .*recalibrate=data"):
        compiled(models("u8s8"), prequantized_model=0)


def test_a_device_without_zero_points_refuses_with_places_and_ways_out(models: Models) -> None:
    with pytest.raises(UnsupportedByTargetError) as raised:
        compiled(models("u8s8"), "tda4vm", data=False)
    text = str(raised.value)
    assert "recalibrate=convert" in text
    assert "recalibrate=data" in text
    assert {"LT874", "LT875", "LT877"} <= {line.split()[0] for line in text.splitlines()[1:]}
    assert all(len(line) < 200 for line in text.splitlines()[1:])


# --- conversion and calibration ---


def legal(result: CompileResult) -> bool:
    """Whether all numbers of a symmetric device are what its shifts can reach."""
    graph, powers = result.graph, result.options.options.quantization_scale_type == 1
    values = quantized_values(graph, result.target, result.placement)
    quants = [value.type.quant for value in values]
    found = all(quant is not None and quant.is_symmetric for quant in quants)
    for node in graph:
        operands = mac_operands(node)
        if operands is None:
            continue
        layer = next(v for v in graph.values.values() if v.name == (node.layer or node.output.name))
        a, w, y = operands.activation.type.quant, operands.weights.type.quant, layer.type.quant
        assert a is not None
        assert w is not None
        assert y is not None
        for scale in w.scale:
            shift = math.log2(y.scale[0] / (a.scale[0] * scale))
            found = found and abs(shift - round(shift)) < 1e-5
            found = found and (math.frexp(scale)[0] == 0.5 if powers else round(shift) >= 0)
    return found


@pytest.mark.parametrize("recalibrate", ["convert", "data"])
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("style", ["u8s8", "a16w8"])
def test_tda4vm_takes_a_network_with_zero_points_that_is_converted_or_calibrated(
    models: Models, style: str, number: int, recalibrate: str
) -> None:
    options: dict[str, Any] = {
        "quantization_scale_type": number,
        "channel_wise_quantization": 1,
        "recalibrate": recalibrate,
    }
    result = compiled(models(style), "tda4vm", **options)
    assert legal(result)
    assert accuracy(results(result, images())) > accuracy(in_runtime(models(style), images())) - 0.03
    widest = 16 if style == "a16w8" and recalibrate == "convert" else 8
    assert max(result.plan.activations.values()) == widest


def test_conversion_needs_no_frames_when_all_ranges_are_in_the_model(models: Models) -> None:
    options: dict[str, Any] = {"quantization_scale_type": 1, "recalibrate": "convert"}
    result = compiled(models("u8s8"), "tda4vm", data=False, **options)
    assert legal(result)
    assert told(result, "LT874")
    assert all(found.severity == "warning" for found in result.report.diagnostics if found.code == "LT874")


def test_conversion_changes_only_what_the_device_lacks(models: Models) -> None:
    result = compiled(models("u8u8"), data=False, recalibrate="convert")
    assert {found.code for found in result.report.diagnostics if found.severity == "warning"} == {"LT876"}
    kept = compiled(models("u8u8"), "generic", data=False)
    for value in quantized_values(result.graph, result.target, result.placement):
        before = kept.graph.values[value.name].type.quant
        assert before is not None
        assert value.type.quant is not None
        assert same_numbers(before, value.type.quant)
    assert accuracy(results(result, images())) > accuracy(in_runtime(models("u8u8"), images())) - 0.02


def test_calibrating_anew_starts_from_the_dequantized_weights(models: Models) -> None:
    result = compiled(models("u8s8"), recalibrate="data", prequantized_model=1)
    weights = [operands.weights for node in result.reference if (operands := mac_operands(node))]
    assert all(value.type.quant is None for value in weights)
    assert result.report.calibration is not None
    assert accuracy(results(result, images())) > accuracy(in_runtime(models("u8s8"), images())) - 0.02


# --- missing scales ---


def test_scales_at_the_inputs_of_products_alone_need_frames_and_say_for_what(models: Models) -> None:
    with pytest.raises(DataError, match=r"no calibration data is given, and no known range for \d+ tensors"):
        compiled(models("inputs"), data=False)
    result = compiled(models("inputs"))
    assert stored_weights(result.graph) == weight_codes(models("inputs"))
    values = quantized_values(result.graph, result.target, result.placement)
    assert all(value.type.quant is not None for value in values)
    told_of = told(result, "LT862")
    given = {
        v.name
        for v in compiled(models("inputs"), "generic", data=False).graph.values.values()
        if v.type.quant
    }
    assert set(told_of) == {value.name for value in values} - given
    assert accuracy(results(result, images())) > accuracy(in_runtime(models("inputs"), images())) - 0.02


AVERAGE = """graph "n" {
input %image: float32[1, 1, 16, 16] ~ uint8(scale=0.06)
const %w: float32[1, 1, 1, 1] ~ int8(scale=0.01) = [100]
%a: float32[1, 1, 16, 16] ~ uint8(scale=0.06, zero=1) = Conv(%image, %w)
%y: float32[1, 1, 1, 1] ~ uint8(scale=0.06, zero=1) = GlobalAveragePool(%a)
return %y
}"""


def test_a_converted_average_gets_its_own_range_when_there_are_frames() -> None:
    without = compiled(parse_graph(AVERAGE), "tda4vm", data=False, recalibrate="convert")
    assert without.ranges["y"] == without.ranges["a"]
    measured = compiled(parse_graph(AVERAGE), "tda4vm", recalibrate="convert")
    assert measured.ranges["y"].max < 0.6 * measured.ranges["a"].max
    assert measured.ranges["a"] == without.ranges["a"]
    assert told(measured, "LT862") == ["y"]


def test_average_pools_of_the_input_are_inferred_and_told() -> None:
    graph = parse_graph(
        AVERAGE.replace("~ uint8(scale=0.06, zero=1) = Glob", "= Glob").replace(", zero=1", "")
    )
    result = compiled(graph, data=False)
    assert result.graph.values["y"].type.quant == QuantParams("uint8", 0.06)
    assert told(result, "LT862") == ["y"]


def test_what_is_inferred_is_held_against_the_device_too() -> None:
    graph = parse_graph(AVERAGE.replace("~ uint8(scale=0.06, zero=1) = Glob", "= Glob"))
    with pytest.raises(UnsupportedByTargetError, match="zero point 1"):
        compiled(graph, data=False)


# --- rules ---


def begun(target: str, graph: Graph, **options: object) -> Compilation:
    layers = [OptionLayer("test", options)]
    c = Compilation.begin(CompileRequest(model=graph, target=target, options=layers, registry=REGISTRY))
    c.graph = graph
    return c


def test_powers_of_two_choose_the_power_of_two_rule_of_a_symmetric_device() -> None:
    powers = AVERAGE.replace("0.06", "0.0625")
    for text, wanted in ((powers, 1), (AVERAGE, 0)):
        c = begun("tda4vm", parse_graph(text))
        c.scale_type, c.rule = 0, scale_rule(c.target, 0)
        assert choose_rule(c, None)[0] == wanted
    chosen = begun("tda4vm", parse_graph(powers), quantization_scale_type=0)
    assert choose_rule(chosen, None)[0] == 0
    assert choose_rule(begun("am68a", parse_graph(powers)), None)[0] == 4


def test_the_format_of_a_model_prescribes_the_rule_unless_it_is_converted() -> None:
    graph = parse_graph(AVERAGE)
    assert choose_rule(begun("am68a", graph), 3)[0] == 3
    assert choose_rule(begun("am68a", graph, recalibrate="convert"), 3)[0] == 4
    assert choose_rule(begun("am68a", graph, quantization_scale_type=4), 3)[0] == 4
    with pytest.raises(UnsupportedByTargetError, match=r"scale type 3: .*recalibrate=convert"):
        choose_rule(begun("tda4vm", graph), 3)


# --- host layers ---


def test_a_layer_of_the_host_in_between_keeps_its_codes_and_the_network_its_numbers() -> None:
    graph = parse_graph("""graph "n" {
    input %image: float32[1, 1, 16, 16] ~ uint8(scale=0.0625)
    const %w: float32[1, 1, 1, 1] ~ int8(scale=0.0078125) = [100]
    %a: float32[1, 1, 16, 16] ~ uint8(scale=0.0625, zero=7) = Conv(%image, %w)
    %h: float32[1, 1, 16, 16] ~ uint8(scale=0.03, zero=9) = ThresholdedRelu(%a)
    %s: float32[1, 1, 16, 16] ~ uint8(scale=0.00390625) = Softmax(%h)
    %y: float32[1, 1, 16, 16] ~ uint8(scale=0.0625, zero=7) = Conv(%s, %w)
    return %y
    }""")
    result = compiled(graph)
    placed = {entry.layer: entry.device for entry in result.placement.assignments}
    assert placed == {"a": "accelerator", "h": "host", "s": "accelerator", "y": "accelerator"}
    frame = images()[:1]
    expected = Session(to_model(graph, quantized=True)).run({"image": frame})["y"]
    assert np.array_equal(result.run({"image": frame})["y"], expected)
    assert result.graph.values["h"].type.quant == QuantParams("uint8", 0.03, 9)
