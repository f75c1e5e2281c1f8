"""``lowtide.tune``: what is tried, what stays, when it stops, and how it goes on after an interrupt."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import onnx
import pytest
import yaml

import lowtide
from lowtide.compiler.api import compile_request
from lowtide.compiler.progress import Progress
from lowtide.errors import DataError, OptionError, OutputError
from lowtide.options import load_options_file
from lowtide.plugin import discover
from lowtide.target import Rung, Target, TuneData, load_target
from lowtide.tuning import Figures, Tried, TuneResult, api, parse_goal
from lowtide.tuning.judge import better
from lowtide.tuning.search import front
from unit.diagnosis.networks import Builder

REGISTRY = discover()
PLAIN = Rung(step="plain", options={"calibrator": "percentile{shrink=10}"})
BETTER = Rung(step="ranges", options={"calibrator": "minmax"})
WORSE = Rung(step="ranges", options={"calibrator": "percentile{shrink=20}"})
WIDE = Rung(step="16 bits", options={"tensor_bits": 16})
METRICS = ("sqnr", "top1")


@attrs.frozen
class Setting:
    """A small network with frames, in a folder of its own."""

    folder: Path
    model: Path
    frames: np.ndarray[Any, Any]
    compiled: list[Mapping[str, Any]]

    def tune(self, **arguments: Any) -> TuneResult:
        given = {"target": "am68a", "data": self.frames, "output": self.folder / "out", "goal": "sqnr>=200"}
        return lowtide.tune(self.model, **{"registry": REGISTRY, **given, **arguments})

    def record(self) -> Any:
        return json.loads((self.folder / "out" / "tune" / "tune.json").read_text("utf-8"))


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    net = Builder((1, 3, 8, 8))
    net.conv("y", net.node("Relu", "a", net.conv("c", "x", (6, 3), kernel=3)), (3, 6))
    onnx.save(net.model("y"), tmp_path / "net.onnx")
    made = Setting(tmp_path, tmp_path / "net.onnx", net.frames(12), [])

    def counted(request: Any) -> Any:
        made.compiled.append(dict(request.options[-1].values))
        return compile_request(request)

    monkeypatch.setattr("lowtide.tuning.search.compile_request", counted)
    return made


@pytest.fixture
def ladder(monkeypatch: pytest.MonkeyPatch) -> Any:
    def put(*rungs: Rung, goals: tuple[str, ...] = ("top1>=float-0.01", "sqnr>=20")) -> None:
        def load(name: str, registry: Any) -> Target:
            return attrs.evolve(load_target(name, registry), tune=TuneData(goals=goals, ladder=rungs))

        monkeypatch.setattr(api, "load_target", load)

    return put


def steps(found: TuneResult) -> list[tuple[str, bool]]:
    return [(str(entry.options.get("calibrator", "")), entry.kept) for entry in found.tried]


# --- goals ---


def test_a_goal_is_a_number_or_stands_beside_the_float_network() -> None:
    plain = parse_goal("top1>=0.7", METRICS)
    assert plain.met(0.7, 0.0, 0.0)
    assert not plain.met(0.69, 0.0, 99.0)
    beside = parse_goal("top1 >= float - 0.01", METRICS)
    assert str(beside) == "top1>=float-0.01"
    assert beside.met(0.56, 0.57, 0.0)
    assert not beside.met(0.55, 0.57, 0.0)
    assert parse_goal("top1>=float", METRICS).met(0.57, 0.57, 0.0)


def test_a_goal_on_a_metric_may_be_on_the_error_too() -> None:
    both = parse_goal("sqnr>=15 and top1>=float-0.01", METRICS)
    assert both.metric == "top1"
    assert str(both) == "sqnr>=15 and top1>=float-0.01"
    assert both.met(0.6, 0.6, 15.0)
    assert not both.met(0.6, 0.6, 14.0)
    assert not both.met(0.5, 0.6, 16.0)
    assert parse_goal("sqnr>=30", METRICS).met(31.0, float("inf"), 31.0)
    with pytest.raises(OptionError, match="expected one metric"):
        parse_goal("top1>=0.5 and agreement>=0.9", (*METRICS, "agreement"))


@pytest.mark.parametrize(
    "text", ["top1", "top1>=flat", "top2>=0.5", "top1>=float-much", "top1=>0.5", ">=float", "top1>=0 and", ""]
)
def test_what_is_no_goal_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="--goal"):
        parse_goal(text, METRICS)


# --- what is better ---


def figures(metric: float, parts: tuple[float, ...], sqnr_db: float, ms: float | None = None) -> Figures:
    return Figures(metric=metric, parts=parts, sqnr_db=sqnr_db, latency_ms=ms)


def test_the_metric_decides_where_it_is_sure() -> None:
    old, new = figures(0.5, (0.5, 0.4, 0.6, 0.5), 20.0), figures(0.6, (0.6, 0.5, 0.7, 0.6), 10.0)
    assert better(new, old, "higher")[0]
    assert not better(new, old, "lower")[0]


def test_the_error_at_the_outputs_decides_where_the_metric_does_not() -> None:
    old, new = figures(0.50, (0.5, 0.4, 0.6, 0.5), 20.0), figures(0.51, (0.7, 0.2, 0.5, 0.64), 10.0)
    kept, why = better(new, old, "higher")
    assert not kept
    assert "-10.00 dB" in why
    assert better(attrs.evolve(new, sqnr_db=21.0), old, "higher")[0]
    assert better(old, old, "higher") == (False, "nothing changes")


def test_the_front_leaves_out_what_something_is_better_than_in_both() -> None:
    points = [(1.0, 20.0), (1.2, 19.0), (2.0, 40.0), (1.0, 20.0)]
    tried = [
        Tried(
            number=number,
            step="",
            options={},
            figures=figures(0, (), db, ms),
            kept=False,
            why="",
            seconds=0,
        )
        for number, (ms, db) in enumerate(points)
    ]
    assert [entry.number for entry in front(tried)] == [0, 3, 2]


# --- the search ---


def test_a_rung_stays_only_if_frames_set_aside_say_so(setting: Setting, ladder: Any) -> None:
    ladder(PLAIN, BETTER, WORSE, WIDE)
    found = setting.tune()
    assert steps(found) == [
        ("percentile{shrink=10}", True),
        ("minmax", True),
        ("percentile{shrink=20}", False),
        ("minmax", True),
    ]
    assert found.best.options == {"calibrator": "minmax", "tensor_bits": 16}
    assert found.end == "the ladder is at its end"
    assert not found.reached
    assert found.frames == (6, 6)
    assert found.output.manifest["options"]["tensor_bits"] == "16"


def test_it_stops_at_the_goal(setting: Setting, ladder: Any) -> None:
    ladder(PLAIN, BETTER, WIDE)
    found = setting.tune(goal="sqnr>=30")
    assert found.reached
    assert len(found.tried) == 2
    assert found.end == "the goal sqnr>=30 is reached"


def test_without_a_goal_the_device_has_one_for_data_with_and_without_labels(
    setting: Setting, ladder: Any
) -> None:
    ladder(PLAIN, goals=("top1>=float-0.5", "sqnr>=20"))
    assert setting.tune(goal=None).goal.metric == "sqnr"
    labels = np.arange(12) % 3
    data = {"x": setting.frames, "labels": labels}
    assert setting.tune(goal=None, data=data, force=True).goal.metric == "top1"


def test_the_options_file_of_the_best_gives_the_same_bytes(setting: Setting, ladder: Any) -> None:
    ladder(PLAIN, BETTER)
    found = setting.tune(options={"measure_frames": 4})
    loaded = load_options_file(found.folder / "tune" / found.best.file)
    again = lowtide.compile(setting.model, target="am68a", data=setting.frames, options=[loaded.layer])
    again.save(setting.folder / "again")
    for name in ("model.onnx", "graph.ir"):
        assert (setting.folder / "again" / name).read_bytes() == (found.folder / name).read_bytes()


def test_a_described_preprocessing_is_in_the_options_file(setting: Setting, ladder: Any) -> None:
    ladder(PLAIN)
    chosen = lowtide.Preprocess(resize=10, crop=8, mean=(1.0,), scale=(0.5,), layout="NCHW")
    found = setting.tune(preprocess=chosen)
    loaded = load_options_file(found.folder / "tune" / found.best.file)
    assert loaded.preprocess is not None
    assert lowtide.Preprocess.from_mapping(loaded.preprocess) == chosen


def test_what_the_user_decides_no_rung_changes(setting: Setting, ladder: Any) -> None:
    ladder(PLAIN, BETTER, WIDE)
    found = setting.tune(options={"calibrator": "mse"})
    assert [dict(entry.options) for entry in found.tried] == [{}, {"tensor_bits": 16}]


def test_a_rung_that_is_not_possible_is_noted_and_passed_over(setting: Setting, ladder: Any) -> None:
    odd = Rung(step="odd", options={"quantization_scale_type": 3})
    clash = Rung(step="clash", options={"tensor_bits": 16, "mixed_precision_factor": 1.2})
    ladder(PLAIN, odd, clash, BETTER)
    found = setting.tune(target="tda4vm")
    assert [entry.figures is None for entry in found.tried] == [False, True, True, False]
    assert all(entry.why.startswith("not possible: LT") for entry in found.tried[1:3])
    assert found.best.number == 4


def test_over_the_budget_nothing_is_chosen(setting: Setting, ladder: Any) -> None:
    mixed = [
        Rung(step="mixed", options={"mixed_precision_factor": factor}) for factor in (1.3, 2.0, "budget")
    ]
    wide = Rung(step="16 bits", options={"tensor_bits": 16, "mixed_precision_factor": -1})
    ladder(PLAIN, BETTER, *mixed, wide)
    found = setting.tune(budget=1.5)
    factors = [entry.options.get("mixed_precision_factor") for entry in found.tried]
    assert 2.0 not in factors
    assert 1.5 in factors
    assert found.tried[0].figures is not None
    assert found.best.figures is not None
    plain, best = found.tried[0].figures.latency_ms, found.best.figures.latency_ms
    assert plain is not None
    assert best is not None
    assert best <= 1.5 * plain
    for entry in found.tried:
        if entry.figures is not None and (entry.figures.latency_ms or 0) > 1.5 * plain:
            assert "over the budget" in entry.why


def test_without_a_budget_rungs_that_need_one_are_left_out(setting: Setting, ladder: Any) -> None:
    ladder(PLAIN, Rung(step="mixed", options={"mixed_precision_factor": "budget"}))
    assert len(setting.tune().tried) == 1


# --- interrupts and resuming ---


@attrs.define
class Bomb(Progress):
    """Interrupts in the n-th time that frames are measured."""

    at: int
    seen: int = 0

    def stage(self, name: str) -> None:
        if name.endswith("measure"):
            self.seen += 1
            if self.seen == self.at:
                raise KeyboardInterrupt


def test_an_interrupt_leaves_the_best_and_the_same_call_goes_on(setting: Setting, ladder: Any) -> None:
    ladder(PLAIN, BETTER, WORSE, WIDE)
    with pytest.raises(KeyboardInterrupt):
        setting.tune(progress=Bomb(3))
    assert lowtide.load_output(setting.folder / "out").manifest["options"]["calibrator"] == "minmax"
    before = len(setting.compiled)
    found = setting.tune()
    assert [compiled.get("calibrator") for compiled in setting.compiled[before:]] == [
        "percentile{shrink=20}",
        "minmax",
    ]
    whole = setting.tune(output=setting.folder / "whole")
    assert [attrs.evolve(entry, seconds=0) for entry in found.tried] == [
        attrs.evolve(entry, seconds=0) for entry in whole.tried
    ]
    for name in ("model.onnx", "report.json"):
        assert (found.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_a_finished_run_tries_nothing_again_and_another_goal_goes_on(setting: Setting, ladder: Any) -> None:
    ladder(PLAIN, BETTER, WIDE)
    setting.tune(goal="sqnr>=30")
    setting.compiled.clear()
    assert setting.tune(goal="sqnr>=30").reached
    assert setting.compiled == []
    assert setting.tune(goal="sqnr>=50").best.options["tensor_bits"] == 16


def test_an_interrupt_that_somebody_swallows_is_heeded_after_the_compile(
    setting: Setting, ladder: Any
) -> None:
    ladder(PLAIN, BETTER)
    with pytest.raises(KeyboardInterrupt):
        setting.tune(stopped=lambda: len(setting.compiled) == 2)
    assert [entry["number"] for entry in setting.record()["tried"]] == [1]


def test_when_the_time_is_over_the_first_result_is_there(setting: Setting, ladder: Any) -> None:
    ladder(PLAIN, BETTER, WIDE)
    found = setting.tune(time_budget=1e-6)
    assert found.end == "the time is over"
    assert len(found.tried) == 1
    assert lowtide.load_output(found.folder).report["measured_frames"] == 6


def test_a_step_whose_search_the_time_ends_in_is_not_judged_and_tried_on_resume(
    setting: Setting, ladder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class UntilSearch(Progress):
        late = False

        def stage(self, name: str) -> None:
            self.late = self.late or "search" in name

    ladder(PLAIN, Rung(step="mixed precision", options={"goal": "sqnr>=60"}))
    shown = UntilSearch()
    clock = SimpleNamespace(perf_counter=time.perf_counter, monotonic=lambda: 1e9 if shown.late else 0.0)
    monkeypatch.setattr("lowtide.tuning.search.time", clock)
    found = setting.tune(time_budget=1e6, progress=shown)
    assert shown.late
    assert (found.end, len(found.tried)) == ("the time is over", 1)
    resumed = setting.tune().tried
    assert [entry.step for entry in resumed] == ["plain", "mixed precision"]
    assert resumed[1].figures is not None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"options": {"measure_frames": 3}}, "options"),
        ({"target": "generic"}, "device"),
        ({"data": np.zeros((12, 3, 8, 8), np.float32)}, "data"),
        ({"goal": "agreement>=1"}, "metric"),
    ],
)
def test_a_folder_with_the_tuning_of_something_else_is_refused(
    setting: Setting, ladder: Any, change: dict[str, Any], named: str
) -> None:
    ladder(PLAIN)
    setting.tune()
    with pytest.raises(OutputError, match=f"another.*{named}"):
        setting.tune(**change)


def test_a_damaged_record_is_refused_and_force_starts_over(setting: Setting, ladder: Any) -> None:
    ladder(PLAIN)
    found = setting.tune()
    (found.folder / "tune" / "tune.json").write_text("{", "utf-8")
    with pytest.raises(OutputError, match="no record of tuning"):
        setting.tune()
    assert len(setting.tune(force=True).tried) == 1


def test_frames_that_cannot_be_told_apart_are_not_resumed(setting: Setting, ladder: Any) -> None:
    ladder(PLAIN)
    frames = list(setting.frames)
    setting.tune(data=lambda: iter(frames))
    with pytest.raises(OutputError, match="the same frames"):
        setting.tune(data=lambda: iter(frames))


def test_an_iterator_is_read_once(setting: Setting, ladder: Any) -> None:
    ladder(PLAIN, BETTER)
    assert len(setting.tune(data=iter(list(setting.frames))).tried) == 2


def test_an_output_folder_of_a_compile_is_not_touched(setting: Setting, ladder: Any) -> None:
    ladder(PLAIN)
    made = lowtide.compile(setting.model, target="am68a", data=setting.frames)
    made.save(setting.folder / "out")
    with pytest.raises(OutputError, match="exists already"):
        setting.tune()


# --- bad input ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": 0.9}, "--budget.*1 or more"),
        ({"budget": float("nan")}, "--budget"),
        ({"time_budget": 0.0}, "--time-budget"),
        ({"goal": "speed>=1"}, "speed"),
        ({"target": "generic", "budget": 1.2}, "no latency model"),
    ],
)
def test_impossible_wishes_are_refused(
    setting: Setting, ladder: Any, arguments: dict[str, Any], message: str
) -> None:
    ladder(PLAIN)
    with pytest.raises(OptionError, match=message):
        setting.tune(**arguments)
    assert setting.compiled == []


def test_a_device_without_a_ladder_is_refused(setting: Setting, ladder: Any) -> None:
    ladder()
    with pytest.raises(OptionError, match="no ladder"):
        setting.tune()


def test_a_rung_with_an_unknown_option_is_refused(setting: Setting, ladder: Any) -> None:
    ladder(Rung(step="odd", options={"calibrater": "mse"}))
    with pytest.raises(OptionError, match=r"tune\.ladder\.0.*calibrator"):
        setting.tune()


def test_frames_that_leave_none_to_judge_with_are_refused(setting: Setting, ladder: Any) -> None:
    ladder(PLAIN)
    with pytest.raises(DataError, match="none is left to judge with"):
        setting.tune(frames=12)
    assert setting.tune(frames=9).frames == (9, 3)


def test_few_frames_are_learned_from_and_judged_with(setting: Setting, ladder: Any) -> None:
    ladder(PLAIN)
    assert setting.tune(data=setting.frames[:5]).frames == (5, 5)


def test_options_files_are_yaml_with_all_that_was_set(setting: Setting, ladder: Any) -> None:
    ladder(PLAIN, BETTER)
    found = setting.tune(options={"params_16bit_names_list": ["y"]})
    read = yaml.safe_load((found.folder / "tune" / "tried" / "02.yaml").read_text("utf-8"))
    assert read == {
        "advanced_options:calibration_frames": 6,
        "advanced_options:params_16bit_names_list": ["y"],
        "calibrator": "minmax",
    }
