"""What a device makes of options, before any model is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lowtide
from lowtide.compiler.request import CompileRequest
from lowtide.compiler.stages import Compilation
from lowtide.errors import LowtideError, OptionError
from lowtide.options import OptionLayer
from lowtide.plugin import discover
from support import CALIBRATION, MODEL
from tflite_making import Op, T, const, make
from unit.compiler.quantizers import quantized

REGISTRY = discover()


def notes(target: str, **options: Any) -> dict[str, str]:
    """The notes of a compilation by the short names of options."""
    request = CompileRequest(
        model=MODEL, target=target, options=[OptionLayer("Python", options)], registry=REGISTRY
    )
    begun = Compilation.begin(request)
    return {option.key.rpartition(":")[2]: option.note for option in begun.resolved.effective}


@pytest.mark.parametrize(
    ("target", "options", "field", "why"),
    [
        ("am68a", {}, "channel_wise_quantization", "scale type 4 always has a scale per channel"),
        (
            "tda4vm",
            {"quantization_scale_type": 0},
            "channel_wise_quantization",
            "",
        ),
        ("am68a", {"quantization_scale_type": 1}, "channel_wise_quantization", ""),
        ("am68a", {}, "bias_clipping", "biases of am68a have 32 bits"),
        ("am68a", {"quantization_scale_type": 0}, "bias_clipping", "biases of am68a have 32 bits"),
        ("tda4vm", {}, "bias_clipping", ""),
    ],
)
def test_flags_that_the_device_has_no_use_for_say_so(
    target: str, options: dict[str, Any], field: str, why: str
) -> None:
    told = notes(target, **{field: 1}, **options)[field]
    assert told == (f"without effect: {why}" if why else "")


ITERATIVE = "calibrate-bias{method=iterative}"


@pytest.mark.parametrize("field", ["calibration_iterations", "bias_calibration_factor"])
@pytest.mark.parametrize(
    ("options", "used"),
    [
        ({"accuracy_level": 0}, False),
        ({"accuracy_level": 1}, False),
        ({"accuracy_level": 2}, True),
        ({"accuracy_level": 9}, True),
        ({"accuracy_level": 9, "bias_calibration": 0}, False),
        ({"accuracy_level": 0, "weights": ITERATIVE}, True),
        ({"accuracy_level": 2, "weights": "calibrate-bias"}, False),
        ({"weights": "calibrate-bias{method=iterative iterations=3 factor=0.1}"}, False),
        ({"recipe": f"use calibrator minmax; try weights {ITERATIVE}"}, True),
        ({"recipe": "vendor"}, True),
    ],
)
def test_options_of_a_pass_that_does_not_run_say_so(field: str, options: dict[str, Any], used: bool) -> None:
    told = notes("am68a", **{field: 1}, **options)[field]
    assert (told == "") is used, told
    assert used or "without effect: no step of the recipe" in told


def test_what_nobody_set_has_no_note() -> None:
    assert notes("am68a", accuracy_level=0)["calibration_iterations"] == ""


def test_a_proto_that_is_not_written_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "made.prototxt"
    assert (
        "no proto is written for generic"
        in notes("generic", quant_params_proto_path=path)["quant_params_proto_path"]
    )
    assert notes("am68a", quant_params_proto_path=path)["quant_params_proto_path"] == ""


def test_a_proto_goes_into_folders_that_exist(tmp_path: Path) -> None:
    path = tmp_path / "mistyped" / "made.prototxt"
    with pytest.raises(OptionError, match=r"there is no folder .*mistyped"):
        lowtide.compile(MODEL, target="am68a", data=CALIBRATION, options={"quant_params_proto_path": path})
    assert not path.parent.exists()


@pytest.mark.parametrize("field", ["num_cores", "core_number", "core_start_idx"])
def test_cores_that_the_device_has_not_are_refused(field: str) -> None:
    notes("am69a", **{field: 4})
    notes("am67a", **{field: 2})
    notes("generic", **{field: 9})
    with pytest.raises(OptionError, match=rf"{field} \(Python\): am62a has 1 core, found 2"):
        notes("am62a", **{field: 2})
    with pytest.raises(OptionError, match="am69a has 4 cores, found 5"):
        notes("am69a", **{field: 5})


def test_too_many_parts_are_refused_before_the_model_is_read() -> None:
    with pytest.raises(OptionError, match="takes 1 to 16 subgraphs, found 17"):
        notes("am68a", max_num_subgraphs=17)


def tflite(folder: Path) -> Path:
    """An integer TFLite file with one inner product."""
    tensors = [
        T(name="x", dtype="int8", shape=(1, 4), scale=(0.1,), zero=(0,)),
        const("w", np.arange(-6, 6, dtype=np.int8).reshape(3, 4), scale=(0.05,), zero=(0,)),
        const("b", np.array([1, 2, 3], np.int32), scale=(0.005,), zero=(0,)),
        T(name="y", dtype="int8", shape=(1, 3), scale=(0.02,), zero=(0,)),
    ]
    product = Op("FULLY_CONNECTED", (0, 1, 2), (3,), {"table": "FullyConnectedOptions"})
    path = folder / "made.tflite"
    path.write_bytes(make(tensors, [product], [0], [3]))
    return path


def compiled(model: Path, **options: Any) -> lowtide.CompileResult:
    return lowtide.compile(model, target="am68a", data="random:4", options=options, registry=REGISTRY)


def test_scales_of_tflite_are_for_networks_that_bring_them(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="integer TFLite file, and the network has no codes"):
        compiled(MODEL, quantization_scale_type=3)
    made = tflite(tmp_path)
    assert compiled(made, quantization_scale_type=3).report.device.scale_type == 3
    with pytest.raises(OptionError, match="recalibrate=data makes others"):
        compiled(made, quantization_scale_type=3, recalibrate="data")
    with pytest.raises(OptionError, match=r"s8s8.onnx is no such file"):
        compiled(quantized(tmp_path, "s8s8"), quantization_scale_type=3)


def test_a_float_network_may_try_the_rules_of_tflite_without_a_device() -> None:
    result = lowtide.compile(
        MODEL, target="generic", data=CALIBRATION, frames=12, options={"quantization_scale_type": 3}
    )
    assert result.report.device.scale_type == 3


def test_a_wrong_step_is_an_error_and_not_a_missing_note() -> None:
    with pytest.raises(LowtideError, match="no-such"):
        notes("am68a", calibration_iterations=3, weights="no-such")
