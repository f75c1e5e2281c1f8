"""What commands say about labels, and what they refuse before they work."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from support import MODEL, TEST, Run

FRAMES = 40


@pytest.fixture
def images() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    with np.load(TEST) as arrays:
        return np.asarray(arrays["image"][:FRAMES], np.float32)


@pytest.fixture
def counted(images: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Path:
    Path("counted").mkdir()
    for number, image in enumerate(images[:10]):
        np.save(f"counted/{number}.npy", image)
    return Path("counted")


@pytest.fixture
def mislabelled(images: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Path:
    with np.load(TEST) as arrays:
        (name,) = {"label", "labels", "y"} & set(arrays.files)
        wrong = (arrays[name][:FRAMES] + 1) % 10
    np.savez("wrong.npz", image=images, labels=wrong)
    return Path("wrong.npz")


def test_evaluate_says_what_it_takes_for_labels(run: Run, compiled: Path) -> None:
    outcome = run("evaluate", compiled, "--data", TEST, "--frames", 20, "--metric", "top1")
    assert outcome.status == 0
    assert "LT765" in outcome.err
    assert "labels for top1 are the array" in outcome.err
    assert "LT766" not in outcome.err
    assert "LT765" not in run("evaluate", compiled, "--data", TEST, "--frames", 5, "--metric", "sqnr").err


def test_evaluate_takes_a_count_of_files_for_no_labels(run: Run, compiled: Path, counted: Path) -> None:
    outcome = run("evaluate", compiled, "--data", counted, "--metric", "top1")
    assert outcome.status == 2
    assert "0.npy: the metric top1 needs a label" in outcome.err
    assert "numbers that only count files are none" in outcome.err


def test_labels_that_the_float_network_does_not_know_are_a_warning(
    run: Run, compiled: Path, mislabelled: Path
) -> None:
    outcome = run("evaluate", compiled, "--data", mislabelled, "--metric", "top1")
    assert outcome.status == 0
    assert "warning: LT766 wrong.npz: the float network has top1 0, which guessing reaches too" in outcome.err


def test_a_goal_that_wrong_labels_reach_comes_with_a_warning_also_when_nothing_is_tried_anew(
    run: Run, mislabelled: Path
) -> None:
    given = ("tune", MODEL, "--target", "am68a", "--data", mislabelled, "--goal", "top1>=float", "--no-cache")
    for _ in range(2):
        outcome = run(*given, "--set", "accuracy_level=0", "--output", "best")
        assert outcome.status == 0, outcome.err
        assert "reached" in outcome.out
        assert "warning: LT766 wrong.npz" in outcome.err
        assert "LT765" in outcome.err


def test_a_fraction_is_no_label(run: Run, compiled: Path, mislabelled: Path) -> None:
    with np.load(mislabelled) as arrays:
        np.savez("half.npz", image=arrays["image"], labels=np.full(FRAMES, 3.5))
    outcome = run("evaluate", compiled, "--data", "half.npz", "--metric", "top1")
    assert outcome.status == 2
    assert "frame 0: the metric top1 takes whole numbers as labels, found 3.5" in outcome.err


def test_a_gate_on_labels_that_frames_have_not_stops_a_compile_before_it_works(
    run: Run, counted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("lowtide.cli.compile.compile_request", never)
    given = ("compile", MODEL, "--target", "am68a", "--data", counted, "--require", "top1>=0.5")
    outcome = run(*given, "--require", "sqnr>=99")
    assert outcome.status == 2
    assert "0.npy: the metric top1 needs a label for every frame" in outcome.err


def test_a_gate_on_labels_says_what_they_are(run: Run, mislabelled: Path) -> None:
    given = ("compile", MODEL, "--target", "am68a", "--data", mislabelled, "--require", "top1>=0.5", "--json")
    outcome = run(*given)
    assert outcome.status == 1
    assert "LT765" in outcome.err
    assert "LT766" in outcome.err
    assert json.loads(outcome.out)["calibration"]["frames"] == FRAMES


def test_random_frames_are_warned_of_by_commands_on_an_output_folder(run: Run, compiled: Path) -> None:
    for command in (("run", "--output", "r.npz"), ("compare",), ("evaluate", "--metric", "sqnr")):
        outcome = run(command[0], compiled, "--data", "random:2", *command[1:])
        assert outcome.status == 0, outcome.err
        assert "warning: LT755 random:2" in outcome.err
