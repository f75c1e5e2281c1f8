"""A goal on the command line: the verdict is printed, and the exit status says what became of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowtide.compiler.oracle import MeasuringOracle
from lowtide.precision import Sensitivities
from support import CALIBRATION, MODEL, Run

COMPILE = ("compile", MODEL, "--target", "tda4vm", "--data", CALIBRATION, "--frames", 16, "--no-cache")


def test_a_goal_that_is_reached_is_said_with_figure_frames_and_latency(run: Run) -> None:
    outcome = run(*COMPILE, "--goal", "sqnr>=20")
    assert outcome.status == 0, outcome.err
    (line,) = [line for line in outcome.out.splitlines() if "reached" in line]
    words = line.strip("│ ").split()
    assert words[:3] == ["goal", "sqnr>=20:", "reached,"]
    assert words[4:] == ["dB", "on", "4", "frames", "in", words[-2], "ms"]
    assert float(words[3]) >= 20
    assert float(words[-2]) > 0


def test_a_missed_goal_is_status_1_and_the_output_is_written(run: Run) -> None:
    outcome = run(*COMPILE, "--goal", "sqnr>=300", "--json")
    assert outcome.status == 1
    assert outcome.json["goal"]["reached"] is False
    assert f"goal sqnr>=300: missed, {outcome.json['goal']['figure']:.6g} dB on 4 frames in " in outcome.err
    assert Path("out/manifest.json").is_file()


@pytest.mark.parametrize("wish", [("--goal", "sqnr>=300"), ("--set", "mixed_precision_factor=1.005")])
def test_an_interrupted_search_is_status_130_and_the_best_so_far_is_written(
    run: Run, monkeypatch: pytest.MonkeyPatch, wish: tuple[str, str]
) -> None:
    def interrupt(*_: object) -> Sensitivities:
        raise KeyboardInterrupt

    monkeypatch.setattr(MeasuringOracle, "sensitivities", interrupt)
    outcome = run(*COMPILE, *wish)
    assert outcome.status == 130
    assert "interrupted: the widths are the best that were measured until then" in outcome.err
    assert Path("out/manifest.json").is_file()
    assert ("goal sqnr>=300: missed" in outcome.err) == (wish[0] == "--goal")


@pytest.mark.parametrize("command", ["compile", "tune"])
def test_a_goal_that_the_worst_network_meets_stops_before_any_work(run: Run, command: str) -> None:
    outcome = run(command, *COMPILE[1:], "--goal", "sqnr<=30")
    assert outcome.status == 2
    assert "goal sqnr<=30: a higher sqnr is better" in outcome.err
    assert not Path("out").exists()
