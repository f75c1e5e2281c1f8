"""What differs between two output folders, and between two files."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from lowtide.difference import scale_effect, value_effect, width_effect
from support import CALIBRATION, MODEL, Run


@pytest.fixture
def other(run: Run, tmp_path: Path) -> Path:
    folder = tmp_path / "other"
    chosen = ("--set", "output_feature_16bit_names_list=stem/relu6", "--strategy", "manual")
    denied = ("--set", "deny_list:layer_type=Gemm")
    data = ("--data", CALIBRATION, "--frames", 12, "--output", folder)
    outcome = run("compile", MODEL, "--target", "am68a", *data, *chosen, *denied)
    assert outcome.status == 0, outcome.err
    return folder


def of(found: list[dict[str, Any]], layer: str, field: str, tensor: str = "") -> dict[str, Any]:
    wanted = {"layer": layer, "field": field, "tensor": tensor}
    return next(entry for entry in found if wanted.items() <= entry.items())


def test_every_kind_of_difference_is_named_with_both_sides(run: Run, compiled: Path, other: Path) -> None:
    outcome = run("diff", compiled, other, "--json")
    assert outcome.status == 0, outcome.err
    found = outcome.json
    settings = {entry["name"]: (entry["before"], entry["after"]) for entry in found["settings"]}
    assert int(settings["frames"][0]) > int(settings["frames"][1])
    assert settings["strategy"] == ("None", "manual")
    assert settings["deny_list:layer_type"] == ("", "Gemm")
    assert "digest of data" in settings
    assert not any(name.startswith("version") for name in settings)
    layers = found["layers"]
    placement = of(layers, "logits", "placement")
    assert (placement["before"], placement["after"]) == ("accelerator", "host")
    assert placement["effect_db"] is None
    assert layers.index(placement) == 0
    bits = of(layers, "stem/relu6", "bits")
    assert (bits["before"], bits["after"]) == ("8", "16")
    assert bits["effect_db"] == pytest.approx(8 * 6.02, abs=0.01)
    # 8 bits are 48 dB, of which the room up to the limit of the Clip takes a little.
    assert of(layers, "stem/relu6", "scale", "output")["effect_db"] == pytest.approx(47.5, abs=0.5)
    assert of(layers, "stem/relu6", "error alone")["effect_db"] > 30
    assert of(layers, "block2/pointwise/bn", "range")
    largest = of(found["outputs"], "logits", "max_error")
    ratio = float(largest["after"]) / float(largest["before"])
    assert largest["effect_db"] == pytest.approx(abs(20 * math.log10(ratio)), abs=0.01)
    error = of(found["outputs"], "logits", "error")
    assert error["after"].endswith("dB")


def test_what_has_no_effect_of_its_own_has_a_dash(run: Run, compiled: Path, other: Path) -> None:
    lines = run("diff", compiled, other).out.splitlines()
    (cosine,) = [line for line in lines if " cosine " in line]
    assert cosine.split()[-1] == "-"


def test_effects_descend(run: Run, compiled: Path, other: Path) -> None:
    rows = run("diff", compiled, other, "--json").json["layers"]
    effects = [float("inf") if row["effect_db"] is None else row["effect_db"] for row in rows]
    assert effects == sorted(effects, reverse=True)
    assert len(set(effects)) > 5


def test_a_folder_does_not_differ_from_itself(run: Run, compiled: Path) -> None:
    assert "no difference" in run("diff", compiled, compiled).out
    assert run("diff", compiled, compiled, "--json").json["same"] is True


def test_the_terminal_shows_the_largest_and_says_how_many_there_are(
    run: Run, compiled: Path, other: Path
) -> None:
    text = run("diff", compiled, other).out
    total = int(re.search(r"the 20 of (\d+) with the largest effect", text)[1])  # type: ignore[index]
    assert total == len(run("diff", compiled, other, "--json").json["layers"]) > 20
    assert "largest effect" not in run("diff", compiled, other, "--all").out


def test_layers_of_one_folder_only_are_named(run: Run, compiled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    data = ("--data", CALIBRATION, "--frames", 4, "--output", folder)
    chosen = ("--set", "prepare=infer-shapes,fold-constants,infer-shapes")
    assert run("compile", MODEL, "--target", "generic", *data, *chosen).status == 0
    rows = run("diff", compiled, folder, "--json").json["layers"]
    assert any(row["field"] == "layer" and row["before"] == "not there" for row in rows)
    rows = run("diff", folder, compiled, "--json").json["layers"]
    assert any(row["field"] == "layer" and row["after"] == "not there" for row in rows)


def test_two_quantization_protos_are_compared_by_the_plugin_that_reads_them(
    run: Run, compiled: Path, other: Path
) -> None:
    files = (compiled / "quant_params.prototxt", other / "quant_params.prototxt")
    found = run("diff", *files, "--json").json["differences"]
    assert of(found, "logits", "layer")["after"] == "not there"
    assert run("diff", files[0], other, "--json").json["differences"] == found
    assert "no difference" in run("diff", files[0], files[0]).out


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ("nothing", "there is no such file or folder"),
        ("compiled/model.onnx", "files in .onnx and .prototxt cannot be compared"),
        (".", "holds no quantization proto"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_name(
    run: Run, compiled: Path, second: str, words: str
) -> None:
    outcome = run("diff", compiled / "quant_params.prototxt", second)
    assert outcome.status == 2
    assert words in outcome.err


def test_a_folder_that_no_compile_wrote_is_refused(run: Run, compiled: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    outcome = run("diff", compiled, "empty")
    assert outcome.status == 2
    assert "LT901" in outcome.err


def test_effects_are_ratios_in_decibels() -> None:
    assert scale_effect((1.0, 2.0), (2.0, 2.0)) == pytest.approx(6.02, abs=0.01)
    assert scale_effect((1.0,), (1.0, 4.0)) == pytest.approx(12.04, abs=0.01)
    assert scale_effect((1.0, 1.0), (1.0, 1.0, 1.0)) == float("inf")
    assert width_effect((-1.0, 1.0), (0.0, 1.0)) == pytest.approx(6.02, abs=0.01)
    assert width_effect((0.0, 0.0), (0.0, 1.0)) == 0.0
    assert value_effect((1.0, -2.0), (1.0, 0.0)) == pytest.approx(6.02, abs=0.01)
    assert value_effect((1.0,), (1.0, 2.0)) == float("inf")
