"""Faults are put into calibration frames: `check --data` names each, and its remedy restores the metric."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from colours import pictures, save, save_frames
from support import Run

COUNT = 48


@pytest.fixture
def model(run: Run, tmp_path: Path) -> Path:  # `run` changes into the folder first
    del run
    return save(tmp_path)


def found(run: Run, model: Path, data: object, *more: str) -> dict[str, dict[str, Any]]:
    """The findings about frames by code; the last of each."""
    outcome = run("check", model, "--target", "am68a", "--data", data, "--json", *more)
    findings = outcome.json["frames"]["findings"]
    assert outcome.status == (2 if any(entry["fatal"] for entry in findings) else 0), outcome.err
    return {entry["code"]: entry for entry in findings}


def accuracy(run: Run, model: Path, calibration: Path, test: Path, output: str) -> float:
    quick = ("--set", "accuracy_level=0", "--calibrator", "minmax")
    compiled = run("compile", model, "--target", "am68a", "--data", calibration, "--output", output, *quick)
    assert compiled.status == 0, compiled.err
    outcome = run("evaluate", output, "--data", test, "--metric", "top1", "--json")
    return float(outcome.json["metrics"]["top1"]["fixed"])


def frames(seed: int = 1) -> NDArray[np.float32]:
    return pictures(COUNT, seed)[0]


def test_good_frames_have_no_finding_but_their_number(run: Run, model: Path) -> None:
    entries = found(run, model, save_frames(Path("good.npz"), frames()))
    assert set(entries) <= {"LT776"}


PREPARED: dict[str, tuple[Callable[[NDArray[Any]], NDArray[Any]], str]] = {
    "blue first": (lambda x: x[:, ::-1], "wrong order"),
    "divided by 255 twice": (lambda x: x / 255, "scale or mean"),
    "not divided by 255": (lambda x: x * 255, "scale or mean"),
    "normalised as ImageNet": (
        lambda x: (
            (x - np.array([[[0.485]], [[0.456]], [[0.406]]])) / np.array([[[0.229]], [[0.224]], [[0.225]]])
        ),
        "scale or mean",
    ),
    "from -1 to 1, blue first": (lambda x: x[:, ::-1] * 2 - 1, "wrong order and scale or mean"),
}


@pytest.mark.parametrize("fault", PREPARED)
def test_frames_prepared_for_another_network_are_named_and_the_remedy_restores_the_accuracy(
    run: Run, model: Path, fault: str
) -> None:
    spoil, words = PREPARED[fault]
    test, labels = pictures(80, 9)
    spoilt = save_frames(Path("calib.npz"), spoil(frames()).astype(np.float32))
    spoilt_test = save_frames(Path("test.npz"), spoil(test).astype(np.float32), labels)
    entry = found(run, model, spoilt)["LT775"]
    assert words in entry["cause"]
    assert re.search(r"bn1.*: 0\.\d+ instead of", entry["evidence"])
    expression = entry["remedy"].removeprefix("save the frames as ")
    expression, _, constants = expression.partition(", with ")
    mean, deviation = np.zeros((3, 1, 1)), np.ones((3, 1, 1))
    if constants:
        numbers = np.array(re.findall(r"[\d.]+\d", constants), float).reshape(2, 3, 1, 1)
        mean, deviation = numbers[0], numbers[1]
    mended = [
        eval(expression, {"x": x, "mean": mean, "deviation": deviation})  # noqa: S307 - as a user would type it
        for x in (spoil(frames()), spoil(test))
    ]
    calibration = save_frames(Path("mended.npz"), mended[0].astype(np.float32))
    mended_test = save_frames(Path("mended_test.npz"), mended[1].astype(np.float32), labels)
    assert "LT775" not in found(run, model, calibration)
    if fault in {"blue first", "divided by 255 twice"}:  # the others are alike, and compiles take time
        assert accuracy(run, model, spoilt, spoilt_test, "spoilt") < 0.6
        assert accuracy(run, model, calibration, mended_test, "mended") > 0.95


def test_channels_last_reshaped_instead_of_transposed_are_named(run: Run, model: Path) -> None:
    last = frames().transpose(0, 2, 3, 1)
    entry = found(run, model, save_frames(Path("mixed.npz"), last.reshape(-1, 3, 20, 20)))["LT775"]
    assert "layout" in entry["cause"]
    order = tuple(map(int, re.findall(r"\d+", entry["remedy"].partition("instead")[0])))
    mended = last.transpose(order)
    assert np.array_equal(mended, frames())


def test_options_for_pictures_are_literal_and_help(run: Run, model: Path) -> None:
    folder = Path("images")
    folder.mkdir()
    for number, picture in enumerate(frames()):
        pixels = (picture.transpose(1, 2, 0) * 255).round().astype(np.uint8)
        Image.fromarray(pixels[:, :, ::-1].copy()).save(folder / f"{number:03}.png")
    entry = found(run, model, folder)["LT775"]
    flags = shlex.split(entry["remedy"].partition("--options file ")[2])
    assert [flag.partition("=")[0] for flag in flags if flag != "--set"] == ["input_mean", "input_scale"]
    Path("options.yaml").write_text(re.search(r"preprocess: \{.*\}", entry["remedy"])[0] + "\n", "utf-8")  # type: ignore[index]
    assert "LT775" in found(run, model, folder, *flags)
    assert "LT775" in found(run, model, folder, "--options", "options.yaml")
    assert "LT775" not in found(run, model, folder, "--options", "options.yaml", *flags)


def test_one_outlier_frame_is_named_and_without_it_the_accuracy_is_back(run: Run, model: Path) -> None:
    spoilt = frames()
    spoilt[17] *= 400
    entry = found(run, model, save_frames(Path("calib.npz"), spoilt))["LT774"]
    assert entry["place"] == "frame 17"
    assert re.search(r"times the range of the others, .* robust standard deviations", entry["evidence"])
    test = save_frames(Path("test.npz"), *pictures(80, 9))
    kept = save_frames(Path("kept.npz"), np.delete(spoilt, 17, 0))
    assert "LT774" not in found(run, model, kept)
    assert accuracy(run, model, Path("calib.npz"), test, "spoilt") < 0.6
    assert accuracy(run, model, kept, test, "kept") > 0.95
    assert "--calibrator percentile" in entry["remedy"]


def test_a_frame_with_nan_stops_a_compile_and_is_named_with_all_others(run: Run, model: Path) -> None:
    spoilt = frames()
    spoilt[[5, 30], 0, 2, 2] = np.nan
    data = save_frames(Path("calib.npz"), spoilt)
    assert run("compile", model, "--target", "am68a", "--data", data, "--output", "out").status == 2
    outcome = run("check", model, "--target", "am68a", "--data", data, "--json")
    assert outcome.status == 2
    named = [entry["place"] for entry in outcome.json["frames"]["findings"] if entry["code"] == "LT771"]
    assert named == ["frame 5", "frame 30"]
    assert outcome.json["frames"]["good"] == COUNT - 2
    kept = save_frames(Path("kept.npz"), np.delete(spoilt, [5, 30], 0))
    assert accuracy(run, model, kept, save_frames(Path("test.npz"), *pictures(80, 9)), "out") > 0.95


def test_numbers_that_overflow_inside_the_network_are_named_with_the_tensor(run: Run, model: Path) -> None:
    spoilt = frames()
    spoilt[4] = 3e38 * np.sign(spoilt[4] - 0.5)
    entry = found(run, model, save_frames(Path("calib.npz"), spoilt))["LT778"]
    assert entry["place"] == "frame 4"
    assert "has the element" in entry["evidence"]


def test_the_same_frame_twice_and_constant_frames_are_named(run: Run, model: Path) -> None:
    spoilt = frames()
    spoilt[20] = spoilt[3]
    spoilt[40] = 0.25
    entries = found(run, model, save_frames(Path("calib.npz"), spoilt))
    assert entries["LT773"]["evidence"] == "frame 3, frame 20"
    assert entries["LT772"]["place"] == "frame 40"
    assert entries["LT772"]["evidence"] == "every element of x is 0.25"


def test_files_that_are_no_frames_are_all_named(run: Run, model: Path) -> None:
    folder = Path("frames")
    folder.mkdir()
    for number, frame in enumerate(frames()[:8]):
        np.save(folder / f"{number}.npy", frame)
    np.save(folder / "4.npy", frames()[4, :, :10])
    (folder / "6.npy").write_bytes(b"\x93NUMPY damaged")
    outcome = run("check", model, "--target", "am68a", "--data", folder, "--json")
    assert outcome.status == 2
    bad = {e["place"]: e["evidence"] for e in outcome.json["frames"]["findings"] if e["fatal"]}
    assert set(bad) == {"4.npy", "6.npy"}
    assert "expected the shape" in bad["4.npy"]
    assert (outcome.json["frames"]["frames"], outcome.json["frames"]["good"]) == (8, 6)


def test_the_terminal_shows_how_many_frames_are_enough(run: Run, model: Path) -> None:
    same = (
        np.concatenate([frames()[:12]] * 8)
        + np.float32(1e-4) * np.arange(96, dtype=np.float32)[:, None, None, None]
    )
    text = run("check", model, "--target", "am68a", "--data", save_frames(Path("calib.npz"), same)).out
    count = re.search(r"(\d+) of 96 frames: from there on the ranges of", text)
    assert count
    assert int(count[1]) < 72
    assert "tensors still moving" in text


def test_random_frames_are_not_judged(run: Run, model: Path) -> None:
    outcome = run("check", model, "--target", "am68a", "--data", "random:16", "--json")
    assert outcome.json["frames"]["basis"] == "nothing: the frames are random numbers"
    assert "LT775" not in {entry["code"] for entry in outcome.json["frames"]["findings"]}
