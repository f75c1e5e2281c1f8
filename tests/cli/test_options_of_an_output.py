"""Options and preprocessing of commands that work on an output folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support import MODEL, TEST, Run

COMMANDS = [("run", "--output", "r.npz"), ("compare",), ("evaluate", "--metric", "sqnr")]


@pytest.fixture
def pictures() -> Path:
    Path("pictures").mkdir()
    with np.load(TEST) as arrays:
        for number, image in enumerate(arrays["image"][:10]):
            pixels = np.clip(np.squeeze(image), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(f"pictures/{number}.png")
    return Path("pictures")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["tensor_bits=16", "arithmetic=tflite", "calibrator=mse"])
def test_an_option_without_effect_on_an_output_folder_is_refused(
    run: Run, compiled: Path, command: tuple[str, ...], option: str
) -> None:
    outcome = run(command[0], compiled, "--data", TEST, "--frames", 2, *command[1:], "--set", option)
    assert outcome.status == 2
    assert f"--set: {option}: has no effect on an output folder" in outcome.err
    assert "leave it out, or compile with it" in outcome.err


def test_the_options_file_of_the_compile_is_taken_and_another_refused(run: Run) -> None:
    Path("options.yaml").write_text("tensor_bits: 16\n", "utf-8")
    given = ("--options", "options.yaml")
    arguments = ("compile", MODEL, "--target", "am68a", "--data", TEST, "--frames", 4, "--output", "wide")
    assert run(*arguments, *given).status == 0
    assert run("compare", "wide", "--data", TEST, "--frames", 2, *given).status == 0
    Path("options.yaml").write_text("tensor_bits: 8\n", "utf-8")
    outcome = run("compare", "wide", "--data", TEST, "--frames", 2, *given)
    assert outcome.status == 2
    assert "was compiled with another value" in outcome.err


def test_inspect_takes_no_options_for_an_output_folder(run: Run, compiled: Path) -> None:
    outcome = run("inspect", compiled, "--set", "tensor_bits=16")
    assert outcome.status == 2
    assert "leave --options and --set out" in outcome.err


def test_pictures_get_the_preprocessing_of_the_compile(run: Run, pictures: Path) -> None:
    options = {"preprocess": {"interpolation": "nearest"}, "input_mean": [100], "input_scale": [0.01]}
    Path("options.json").write_text(json.dumps(options), "utf-8")
    file = ("--options", "options.json")
    arguments = ("compile", MODEL, "--target", "am68a", "--data", pictures, "--output", "out")
    assert run(*arguments, *file).status == 0
    for number, given in enumerate([(), file, ("--set", "input_mean=0", "--set", "input_scale=1")]):
        outcome = run("run", "out", "--data", pictures, *given, "--output", f"{number}.npz")
        assert outcome.status == 0, outcome.err
        assert "LT753" not in outcome.err
    kept, repeated, other = (np.load(f"{number}.npz")["logits"] for number in range(3))
    np.testing.assert_array_equal(kept, repeated)
    assert (kept != other).any()
    for command in ("evaluate", "compare"):
        more = ("--metric", "sqnr") if command == "evaluate" else ()
        plain = run(command, "out", "--data", pictures, *more, "--json")
        assert plain.out == run(command, "out", "--data", pictures, *more, *file, "--json").out
