"""Quality gates on the command line: everything is written, then the exit status says what was missed."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import CALIBRATION, MODEL, TEST, Run

COMPILE = ("compile", MODEL, "--target", "am68a", "--data", CALIBRATION, "--frames", 8, "--no-cache")


def test_missed_gates_of_a_compile_have_a_line_each_and_the_output_is_written(run: Run) -> None:
    outcome = run(*COMPILE, "--require", "sqnr>=20", "--require", "sqnr>=90", "--require", "layers_16bit>0")
    assert outcome.status == 1
    lines = [line for line in outcome.err.splitlines() if "is missed" in line]
    assert [line.split()[0] for line in lines] == ["sqnr>=90", "layers_16bit>0"]
    assert Path("out/manifest.json").is_file()
    assert "outputs against the float network" in outcome.out


def test_gates_that_are_met_leave_the_status_at_zero(run: Run) -> None:
    outcome = run(
        *COMPILE, "--require", "sqnr>=20", "--require", "top1>=0.9", "--require", "host_layers<9", "--json"
    )
    assert outcome.status == 0, outcome.err
    assert outcome.json["outputs"][0]["sqnr_db"] >= 20


def test_a_metric_by_name_is_measured_on_the_frames_of_the_compile(run: Run) -> None:
    outcome = run(*COMPILE, "--require", "top1>1")
    assert outcome.status == 1
    assert "top1>1 is missed: found" in outcome.err


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ("snr>=3", "did you mean sqnr?"),
        ("sqnr=3", "expected NAME>=NUMBER"),
        ("latency_ms<=x", "expected a number"),
    ],
)
def test_a_gate_that_cannot_be_read_stops_before_any_work(run: Run, gate: str, words: str) -> None:
    for command in (COMPILE, ("evaluate", "nothing", "--data", TEST, "--metric", "top1")):
        outcome = run(*command, "--require", gate)
        assert outcome.status == 2
        assert words in outcome.err
        assert not Path("out").exists()


def test_a_gate_on_figures_of_frames_needs_frames(run: Run) -> None:
    outcome = run("compile", MODEL, "--target", "am68a", "--require", "sqnr>=3")
    assert outcome.status == 2
    assert "--require sqnr>=3: is measured on frames, and none are given (--data DATA)" in outcome.err


def test_a_gate_on_the_latency_of_a_device_without_a_model_is_an_error(run: Run) -> None:
    outcome = run(
        "compile", MODEL, "--target", "generic", "--data", CALIBRATION, "--require", "latency_ms<=5"
    )
    assert outcome.status == 2
    assert "there is no latency model of generic" in outcome.err
    assert not Path("out").exists()


def test_evaluate_judges_metrics_and_figures_of_the_report(run: Run, compiled: Path) -> None:
    data = ("evaluate", compiled, "--data", TEST, "--frames", 20)
    assert run(*data, "--require", "top1>=0.9", "--require", "host_layers<1").status == 0
    missed = run(*data, "--require", "top1>=1.5", "--metric", "sqnr", "--json")
    assert missed.status == 1
    assert set(missed.json["metrics"]) == {"sqnr", "top1"}
    assert missed.err.count("is missed") == 1


def test_evaluate_has_nothing_to_do_without_a_metric(run: Run, compiled: Path) -> None:
    outcome = run("evaluate", compiled, "--data", TEST, "--require", "host_layers<1")
    assert outcome.status == 2
    assert "--metric is needed" in outcome.err
