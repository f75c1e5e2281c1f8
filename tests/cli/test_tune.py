"""``lowtide tune`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lowtide.compiler.api import compile_request
from support import CALIBRATION, MODEL, Run

QUICK = ("--frames", 12, "--set", "measure_frames=1", "--set", "accuracy_level=0", "--no-cache")


def test_the_demo_reaches_float_on_tda4vm_without_a_human_choosing(run: Run, tmp_path: Path) -> None:
    outcome = run("tune", MODEL, "--target", "tda4vm", "--data", CALIBRATION, *QUICK)
    assert outcome.status == 0, outcome.err
    assert "goal    top1>=float-0.01 and sqnr>=15: reached" in outcome.out
    assert "channel_wise_quantization=1" in outcome.out
    assert "accuracy by latency" in outcome.out
    assert (tmp_path / "out" / "tune" / "tried" / "01.yaml").is_file()
    assert run("evaluate", "out", "--data", CALIBRATION, "--frames", 8, "--metric", "top1").status == 0
    # The best again, from its options file.
    best = json.loads((tmp_path / "out" / "tune" / "tune.json").read_text("utf-8"))["chosen"]
    options = f"out/tune/tried/{best:02}.yaml"
    again = run(
        "compile", MODEL, "--target", "tda4vm", "--data", CALIBRATION, "--options", options, "--output", "b"
    )
    assert again.status == 0, again.err
    assert Path("b/model.onnx").read_bytes() == Path("out/model.onnx").read_bytes()


def test_a_missed_goal_is_status_1_and_the_best_is_there(run: Run) -> None:
    flags = ("--goal", "sqnr>=300", "--time-budget", "0.001", "--json")
    outcome = run("tune", MODEL, "--target", "am68a", "--data", CALIBRATION, *QUICK, *flags)
    assert outcome.status == 1
    found = outcome.json
    assert (found["reached"], found["end"], found["best"]) == (False, "the time is over", 1)
    assert found["tried"][0]["kept"]
    assert run("inspect", "out").status == 0


def test_an_interrupt_is_status_130_and_the_folder_is_there(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def interrupted(request: Any) -> Any:
        calls.append(request)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return compile_request(request)

    monkeypatch.setattr("lowtide.tuning.search.compile_request", interrupted)
    command = ("tune", MODEL, "--target", "am68a", "--data", CALIBRATION, *QUICK, "--goal", "sqnr>=300")
    outcome = run(*command)
    assert outcome.status == 130
    assert "interrupted" in outcome.err
    assert run("inspect", "out").status == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--data is needed"),
        (("--data", CALIBRATION, "--goal", "speed>=1"), "there is no figure 'speed'"),
        (("--data", CALIBRATION, "--goal", "top1>=float-x"), "expected a number"),
        (("--data", CALIBRATION, "--budget", "0.5"), "1 or more"),
        (("--data", "nowhere"), "no such file or folder"),
    ],
)
def test_bad_usage_is_status_2(run: Run, flags: tuple[object, ...], message: str) -> None:
    outcome = run("tune", MODEL, "--target", "am68a", *flags)
    assert outcome.status == 2
    assert message in outcome.err
