"""Quantized networks as a user meets them: refused with ways out, converted, with integers at the ends."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import lowtide
from lowtide.runtime import Session, to_model
from support import CALIBRATION, TEST, Outcome, Run
from unit.compiler.quantizers import in_runtime, labels, quantized

LONG = ";".join(f"model/block_{number}/batch_normalization/FusedBatchNormV3" for number in range(6))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantized(tmp_path_factory.mktemp("u8s8"), "u8s8")


def flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def refused(outcome: Outcome, *words: str) -> None:
    assert outcome.status == 2, outcome.out + outcome.err
    assert "Traceback" not in outcome.out + outcome.err
    for word in words:
        assert word in flat(outcome.out + outcome.err)
    assert not [path for path in Path().iterdir() if "out" in path.name]


def test_a_device_that_lacks_the_scales_refuses_with_place_finding_and_ways_out(
    run: Run, model: Path
) -> None:
    outcome = run("compile", model, "--target", "tda4vm", "--output", "out")
    refused(
        outcome, "LT502", "u8s8.onnx", "scale rule power-of-two", "recalibrate=convert", "recalibrate=data"
    )
    lines = [line for line in outcome.err.splitlines() if line.startswith("  LT8")]
    assert {line.split()[0] for line in lines} >= {"LT874", "LT875", "LT877"}
    assert len(lines) < 25


def test_check_lists_all_that_a_refusal_is_about(run: Run, model: Path) -> None:
    outcome = run("check", model, "--target", "tda4vm", "--json")
    assert outcome.status == 2
    found = outcome.json["findings"]
    assert {entry["action"] for entry in found} <= {"refused", "repaired", "kept"}
    count = sum(entry["action"] == "refused" for entry in found)
    compiled = run("compile", model, "--target", "tda4vm", "--output", "out")
    assert f"cannot take {count} of the model's scales" in compiled.err


@pytest.mark.parametrize("target", ["am68a", "generic"])
def test_a_device_that_has_the_scales_needs_no_data(run: Run, model: Path, target: str) -> None:
    assert run("check", model, "--target", target).status == 0
    outcome = run("compile", model, "--target", target, "--output", "out")
    assert outcome.status == 0, outcome.err
    assert Path("out/model.onnx").is_file()


def test_what_conversion_changed_is_in_the_report(run: Run, model: Path) -> None:
    chosen = ("--set", "recalibrate=convert", "--set", "advanced_options:channel_wise_quantization=1")
    outcome = run("compile", model, "--target", "tda4vm", *chosen, "--output", "out", "--json")
    assert outcome.status == 0, outcome.err
    found = {entry["code"]: entry for entry in outcome.json["diagnostics"]}
    assert "new codes for the same range" in found["LT874"]["message"]
    score = run("evaluate", "out", "--data", TEST, "--metric", "top1", "--json")
    assert score.status == 0, score.err
    with np.load(TEST) as data:
        frames = data["image"].astype(np.float32)
    reference = float(np.mean(np.argmax(in_runtime(model, frames), 1) == labels()))
    fixed = next(entry for entry in _numbers(score.json) if 0.9 < entry <= 1)
    assert fixed > reference - 0.03


def _numbers(document: Any) -> list[float]:
    if isinstance(document, dict):
        return [number for entry in document.values() for number in _numbers(entry)]
    if isinstance(document, list):
        return [number for entry in document for number in _numbers(entry)]
    return [float(document)] if isinstance(document, float) else []


def test_calibrating_anew_needs_data(run: Run, model: Path) -> None:
    chosen = ("--target", "tda4vm", "--set", "recalibrate=data", "--output", "out")
    refused(run("compile", model, *chosen), "no calibration data is given", "--data")
    assert run("compile", model, *chosen, "--data", CALIBRATION, "--frames", 8).status == 0


# --- integers at the ends ---


def scales(name: str, scale: float, zero: int, dtype: type) -> list[onnx.TensorProto]:
    return [
        numpy_helper.from_array(np.array(scale, np.float32), f"{name}_s"),
        numpy_helper.from_array(np.array(zero, dtype), f"{name}_z"),
    ]


def integers(path: str = "ints.onnx", name: str = "y") -> NDArray[Any]:
    """A convolution that takes and gives int8; returns frames for it."""
    made = [
        helper.make_node("DequantizeLinear", ["x", "x_s", "x_z"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "w_s", "w_z"], ["wf"]),
        helper.make_node("Conv", ["xf", "wf"], [name]),
        helper.make_node("QuantizeLinear", [name, "y_s", "y_z"], ["out"]),
    ]
    weights = numpy_helper.from_array(np.array([[[[3]], [[-5]]]] * 2, np.int8), "w")
    parameters = [weights, *scales("x", 0.5, 0, np.int8), *scales("w", 0.25, 0, np.int8)]
    parameters += scales("y", 1.0, 7, np.int8)
    ends = [helper.make_tensor_value_info(end, onnx.TensorProto.INT8, [1, 2, 4, 4]) for end in ("x", "out")]
    graph = helper.make_graph(made, "g", ends[:1], ends[1:], parameters)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    frames: NDArray[Any] = np.random.default_rng(0).integers(-128, 128, (6, 2, 4, 4)).astype(np.int8)
    np.savez("frames.npz", x=frames)
    return frames


def test_a_network_of_integers_compiles_runs_and_gives_the_integers_of_the_source(run: Run) -> None:
    frames = integers()
    outcome = run("compile", "ints.onnx", "--target", "generic", "--data", "frames.npz", "--output", "out")
    assert outcome.status == 0, outcome.err
    assert run("run", "out", "--data", "frames.npz", "--mode", "qdq", "--output", "r.npz").status == 0
    with np.load("r.npz") as results:
        assert results["out"].dtype == np.int8
        assert np.array_equal(results["out"].reshape(6, 2, 4, 4), in_runtime(Path("ints.onnx"), frames))
    compared = run("compare", "out", "--data", "frames.npz", "--json")
    assert compared.status == 0, compared.err
    score = run("evaluate", "out", "--data", "frames.npz", "--metric", "agreement", "--json")
    assert score.status == 0, score.err
    assert _numbers(score.json)[:2] == [1.0, 1.0]


def test_check_says_that_conversions_at_the_ends_are_no_layers_of_the_device(run: Run) -> None:
    integers()
    found = run("check", "ints.onnx", "--target", "am68a", "--json").json
    host = [entry for entry in found["layers"] if entry["device"] == "host"]
    assert {entry["operator"] for entry in host} == {"DequantizeLinear", "QuantizeLinear"}
    assert all("takes or gives integers" in entry["reason"] for entry in host)


def test_the_codes_of_integer_ends_are_those_of_the_tensors_inside(run: Run) -> None:
    frames = integers()
    outcome = run("compile", "ints.onnx", "--target", "am68a", "--output", "out", "--json")
    assert outcome.status == 0, outcome.err
    told = {entry["code"]: entry for entry in outcome.json["diagnostics"]}
    assert told["LT862"]["place"] == "y"
    assert "takes that of out" in told["LT862"]["message"]
    assert run("run", "out", "--data", "frames.npz", "--mode", "qdq", "--output", "r.npz").status == 0
    with np.load("r.npz") as results:
        assert np.array_equal(results["out"].reshape(6, 2, 4, 4), in_runtime(Path("ints.onnx"), frames))


def test_long_names_of_fused_tensors_are_shortened(run: Run) -> None:
    integers(name=LONG)
    outcome = run("compile", "ints.onnx", "--target", "tda4vm", "--output", "out")
    refused(outcome, "LT502", "(+5)")
    assert LONG not in outcome.err
    assert max(map(len, outcome.err.splitlines())) < 500


# --- real networks ---

REAL = pytest.mark.skipif("LOWTIDE_REAL_DATA" not in os.environ, reason="LOWTIDE_REAL_DATA names no folder")
NETWORKS = [
    ("ortq_cifar10_resnet20_qdq_s8s8_pt_sym.onnx", "image"),
    ("mlperf_resnet8_cifar10_int8.tflite", "code"),
]


def cifar(split: str, kind: str, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    with np.load(Path(os.environ["LOWTIDE_REAL_DATA"]) / "cifar10" / f"{split}.npz") as data:
        pixels, classes = data["x"][:count], data["y"][:count]
    if kind == "code":
        return (pixels.astype(np.int16) - 128).astype(np.int8), classes
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    ready: NDArray[Any] = ((pixels / 255 - mean) / deviation).transpose(0, 3, 1, 2).astype(np.float32)
    return ready, classes


@pytest.mark.real
@REAL
@pytest.mark.parametrize(("target", "number"), [("tda4vm", 0), ("tda4vm", 1), ("am68a", 4)])
@pytest.mark.parametrize("recalibrate", ["convert", "data"])
@pytest.mark.parametrize(("name", "kind"), NETWORKS)
def test_real_networks_lose_at_most_two_points_by_new_codes(
    name: str, kind: str, recalibrate: str, target: str, number: int
) -> None:
    chosen = {"recalibrate": recalibrate, "quantization_scale_type": number}
    source = Path(os.environ["LOWTIDE_REAL_DATA"]) / "models" / name
    frames, _ = cifar("calib", kind, 64)
    test, classes = cifar("test", kind, 1000)
    kept = lowtide.compile(source, target="generic")
    made = lowtide.compile(source, target=target, data=frames, options=chosen)
    scores: list[float] = []
    for result in (kept, made):
        session = Session(to_model(result.graph, quantized=True))
        entry = result.graph.inputs[0].name
        found = [np.argmax(next(iter(session.run({entry: frame[None]}).values()))) for frame in test]
        scores.append(float(np.mean(np.array(found) == classes)))
    assert scores[1] > scores[0] - 0.02
