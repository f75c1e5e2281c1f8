"""``lowtide options``, and compiles from a configuration that names everything but the data."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from support import CALIBRATION, MODEL, Outcome, Run

NAMES = "advanced_options:output_feature_16bit_names_list"


@pytest.fixture
def configuration(tmp_path: Path) -> dict[str, Any]:
    """A model-zoo configuration, beside which the model stands."""
    shutil.copy(MODEL, tmp_path / "net.onnx")
    return {
        "preprocess": {"resize": 16, "crop": 16, "backend": "cv2", "data_layout": "NCHW"},
        "session": {
            "target_device": "AM68A",
            "input_mean": [3],
            "input_scale": [0.5],
            "model_path": "net.onnx",
            "runtime_options": {
                "tensor_bits": 8,
                "advanced_options:calibration_frames": 1,
                "advanced_options:add_data_convert_ops": 3,
                "info": {"prequantized_model_type": 0},
            },
        },
        "postprocess": {},
    }


def with_file(run: Run, content: object, *arguments: object, command: str = "options") -> Outcome:
    Path("net_config.yaml").write_text(yaml.safe_dump(content), "utf-8")
    return run(command, "--options", "net_config.yaml", *arguments)


def pictures(frames: NDArray[Any]) -> str:
    Path("pictures").mkdir()
    for index, frame in enumerate(frames[:6]):
        pixels = (frame[0].astype(np.float32) * 255 / max(1, frame.max())).astype(np.uint8)
        Image.fromarray(pixels).save(f"pictures/{index}.png")
    return "pictures"


def test_a_configuration_prints_as_a_whole(run: Run, configuration: dict[str, Any]) -> None:
    configuration["session"]["runtime_options"][NAMES] = "1033, 711\n728 728, 743"
    outcome = with_file(run, configuration)
    assert outcome.status == 0, outcome.err
    lines = outcome.out.splitlines()
    for name in ("1033", "711", "743"):
        assert f"  {name}" in lines
    assert lines.count("  728") == 1
    assert "  728  (named before)" in lines
    words = " ".join(outcome.out.split())
    for part in (
        "is a placeholder",
        "kept for the vendor's tools",
        "resize shorter side to 16, bilinear",
        "crop to the centre, 16 high, 16 wide",
        "mean 3 subtracted",
        "scale times 0.5",
        "Pillow in place of OpenCV",
        "net.onnx, found as net.onnx",
        "an ordinary float model",
        "ignored postprocess",
    ):
        assert part in words, outcome.out


def test_nothing_given_prints_every_option(run: Run) -> None:
    outcome = run("options", "--json")
    assert {option["from"] for option in outcome.json["options"]} == {"default"}
    shown = "".join(run("options").out.split())
    assert "seed" in shown
    assert "without effect" not in run("options", "--set", "seed=1").out
    assert "calibrator" in run("options", "--set", "seed=1", "--all").out
    assert "calibrator" not in run("options", "--set", "seed=1").out
    assert [entry["option"] for entry in run("options", "--set", "seed=1", "--json").json["options"]] == [
        "seed"
    ]
    everything = run("options", "--set", "seed=1", "--all", "--json").json["options"]
    assert len(everything) == len(outcome.json["options"])


def test_what_overrode_what_is_shown(run: Run, configuration: dict[str, Any]) -> None:
    configuration["session"]["runtime_options"]["tensor_bits"] = 16
    outcome = with_file(run, configuration, "--set", "tensor_bits=8", "--json")
    option = next(entry for entry in outcome.json["options"] if entry["option"] == "tensor_bits")
    assert (option["value"], option["from"]) == (8, "--set")
    assert option["overridden"] == [{"value": 16, "from": "options file net_config.yaml"}]
    assert "overrides 16" in " ".join(with_file(run, configuration, "--set", "tensor_bits=8").out.split())


def test_the_device_brings_its_defaults_and_its_limits(run: Run, configuration: dict[str, Any]) -> None:
    assert with_file(run, configuration, "--json").json["device"] == "am68a"
    outcome = run("options", "--target", "tda4vm", "--set", "quantization_scale_type=4", "--json")
    assert outcome.json["device"] == "tda4vm"
    assert any("quantization_scale_type=4 on tda4vm" in problem for problem in outcome.json["problems"])
    assert "no compile: " in run("options", "--target", "tda4vm", "--set", "quantization_scale_type=4").out
    arguments = ("options", "--target", "tda4vm", "--set", "budget_ms=3", "--set", "strategy=uniform")
    assert "the strategy uniform" in " ".join(run(*arguments).out.partition("no compile: ")[2].split())


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("max_num_subgraphs=17", "takes 1 to 16 subgraphs, found 17"),
        ("num_cores=8", "am68a has 1 core, found 8"),
        ("quant_params_proto_path=missing/made.prototxt", "there is no folder missing"),
        ("tensor_bits=16", ""),
    ],
)
def test_what_a_compile_refuses_is_told_without_a_model(run: Run, assignment: str, problem: str) -> None:
    arguments = ("--target", "am68a", "--set", assignment)
    problems = run("options", *arguments, "--json").json["problems"]
    assert [problem in found for found in problems] == [True] * bool(problem)
    outcome = run("compile", MODEL, *arguments, "--data", CALIBRATION)
    assert (outcome.status, problem in outcome.err) == ((2, True) if problem else (0, True)), outcome.err


def test_what_has_no_effect_on_the_device_is_told_without_a_model(run: Run) -> None:
    clip = ("--target", "am68a", "--set", "bias_clipping=1", "--json")
    (option,) = run("options", *clip).json["options"]
    assert option["note"] == "without effect: biases of am68a have 32 bits"


def test_one_document_holds_all_that_is_printed(run: Run, configuration: dict[str, Any]) -> None:
    configuration["session"]["runtime_options"][NAMES] = "a, b, a"
    found = with_file(run, configuration, "--json").json
    assert found["duplicates"] == {NAMES: ["a"]}
    assert (found["model"], found["model_file"]) == ("net.onnx", "net.onnx")
    assert found["preprocess"]["resize"] == 16
    assert found["info"] == {"prequantized_model_type": 0}
    assert found["ignored"] == ["postprocess"]
    option = next(entry for entry in found["options"] if entry["option"] == NAMES)
    assert (option["value"], option["effect"]) == (["a", "b", "a"], "used")


@pytest.mark.parametrize("junk", ["[1", "session: 3", "session: {target_device: am99z}", "tensor_bits: [8]"])
def test_a_broken_file_is_refused_with_its_name(run: Run, junk: str) -> None:
    Path("bad.yaml").write_text(junk, "utf-8")
    outcome = run("options", "--options", "bad.yaml")
    assert outcome.status == 2
    assert "bad.yaml" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_configuration_and_data_are_enough_to_compile(
    run: Run, configuration: dict[str, Any], frames: NDArray[Any]
) -> None:
    outcome = with_file(run, configuration, "--data", pictures(frames), "--json", command="compile")
    assert outcome.status == 0, outcome.err
    report = outcome.json
    assert report["device"]["name"] == "am68a"
    options = {option["name"]: option for option in report["options"]}
    assert "all frames are used" in options["advanced_options:calibration_frames"]["note"]
    assert "LT757" in {found["code"] for found in report["diagnostics"]}
    # White becomes the largest value: (255 - 3) * 0.5.
    largest = re.search(r" to ([0-9.]+)", run("inspect", "out", "--match", "image").out)
    assert largest is not None
    assert float(largest[1]) == pytest.approx(126, abs=0.6)


def test_what_the_command_line_names_is_stronger(run: Run, configuration: dict[str, Any]) -> None:
    configuration["session"]["model_path"] = "elsewhere.onnx"
    arguments = ("net.onnx", "--target", "tda4vm", "--data", CALIBRATION, "--json")
    outcome = with_file(run, configuration, *arguments, command="compile")
    assert outcome.status == 0, outcome.err
    assert outcome.json["device"]["name"] == "tda4vm"


def test_a_missing_model_or_device_says_both_ways_to_name_it(run: Run, configuration: dict[str, Any]) -> None:
    for key, flag in (("model_path", "MODEL"), ("target_device", "--target")):
        session = {name: value for name, value in configuration["session"].items() if name != key}
        outcome = with_file(run, {"session": session}, "--data", CALIBRATION, command="compile")
        assert outcome.status == 2
        assert flag in outcome.err
        assert f"session.{key}" in " ".join(outcome.err.split())
    assert not Path("out").exists()


@pytest.mark.parametrize("name", ["am68a", "AM68A", "Am68A"])
def test_devices_are_found_in_any_case(run: Run, configuration: dict[str, Any], name: str) -> None:
    configuration["session"]["target_device"] = name
    assert with_file(run, configuration, "--json").json["device"] == "am68a"


def test_an_unknown_device_names_the_file_and_near_names(run: Run, configuration: dict[str, Any]) -> None:
    configuration["session"]["target_device"] = "AM68B"
    outcome = with_file(run, configuration, "--data", CALIBRATION, command="compile")
    assert outcome.status == 2
    for word in ("net_config.yaml, session.target_device", "am68b", "am68a"):
        assert word in outcome.err


def test_what_frames_show_while_they_are_read_is_printed_at_the_end(run: Run, compiled: Path) -> None:
    flat = np.random.default_rng(0).integers(0, 16, (3, 1, 16, 16)).astype(np.float32)
    flat[1] = 7
    np.savez("flat.npz", image=flat)
    for command in (
        ("run", compiled, "--output", "results.npz"),
        ("compare", compiled),
        ("evaluate", compiled, "--metric", "sqnr"),
    ):
        outcome = run(*command, "--data", "flat.npz")
        assert outcome.status == 0, outcome.err
        assert outcome.err.count("warning: LT752 frame 1, input image: every element is 7.0") == 1


def test_what_was_found_out_is_printed_before_the_error_that_follows(run: Run, compiled: Path) -> None:
    flat = np.full((2, 1, 16, 16), 7, np.float32)
    flat[1, 0, 2, 3] = np.nan
    np.savez("flat.npz", image=flat)
    outcome = run("compare", compiled, "--data", "flat.npz")
    assert outcome.status == 2
    assert 0 <= outcome.err.index("LT752 frame 0") < outcome.err.index("LT701 frame 1")


def published() -> list[Any]:
    root = os.environ.get("LOWTIDE_REAL_DATA")
    files = sorted((Path(root) / "vendor-configs").glob("*.yaml")) if root else []
    none = pytest.param(None, marks=pytest.mark.skip(reason="LOWTIDE_REAL_DATA names no folder"))
    return [pytest.param(file, id=file.stem) for file in files] or [none]


@pytest.mark.real
@pytest.mark.parametrize("file", published())
def test_every_published_configuration_prints(run: Run, file: Path) -> None:
    outcome = run("options", "--options", file)
    assert outcome.status == 0, outcome.err
    session = yaml.safe_load(file.read_text("utf-8"))["session"]
    lines = outcome.out.splitlines()
    listed = [name.strip() for name in session["runtime_options"][NAMES].split(",") if name.strip()]
    if len(listed) > 3:
        printed = [line[2:].removesuffix("  (named before)") for line in lines if re.match(r"  \S", line)]
        assert printed == listed
    words = "".join(outcome.out.split())
    assert "".join(session["model_path"].split()) in words
    for part in ("preprocessingofimages", "keptforthevendor'stools", "ignored"):
        assert part in words
