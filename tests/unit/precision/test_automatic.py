"""The strategy automatic, end to end on the demo network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lowtide
from lowtide.calibrate import StatisticsCache
from lowtide.compiler import oracle
from lowtide.compiler.attempt import Attempt, Workbench
from lowtide.compiler.oracle import MeasuringOracle
from lowtide.compiler.run import execute
from lowtide.compiler.trials import Trial, improved
from lowtide.errors import DataError, OptionError, QuantizationError, UnsupportedByTargetError
from lowtide.plugin import discover
from lowtide.precision import PrecisionPlan, PrecisionProblem, Sensitivities
from lowtide.report.json import report_json
from lowtide.report.model import LayerReport
from lowtide_plugins.precision import search
from lowtide_plugins.precision.automatic import Automatic
from lowtide_plugins.precision.manual import Manual
from support import CALIBRATION, MODEL, TEST

REGISTRY = discover()
OUTPUTS = "advanced_options:output_feature_16bit_names_list"
PARAMETERS = "advanced_options:params_16bit_names_list"


def compiled(target: str = "tda4vm", frames: int = 32, **options: object) -> lowtide.CompileResult:
    return lowtide.compile(
        MODEL, target=target, data=str(CALIBRATION), frames=frames, options=options, registry=REGISTRY
    )


@pytest.fixture(scope="module", autouse=True)
def taken_for_large() -> Iterator[None]:
    """The demo network is so small that all its plans would be tried; most tests are about the search."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(search, "FEW", 0)
        yield


@pytest.fixture(scope="module")
def plain() -> lowtide.CompileResult:
    return compiled()


@pytest.fixture(scope="module")
def everything() -> lowtide.CompileResult:
    return compiled(tensor_bits=16)


@pytest.fixture(scope="module")
def factor(plain: lowtide.CompileResult, everything: lowtide.CompileResult) -> float:
    """Half of what 16 bits take more."""
    return (ms(plain) + ms(everything)) / 2 / ms(plain)


@pytest.fixture(scope="module")
def mixed(factor: float) -> lowtide.CompileResult:
    return compiled(mixed_precision_factor=factor)


def widths(result: lowtide.CompileResult) -> dict[str, tuple[int | None, int | None]]:
    return {layer.name: (layer.bits, layer.weight_bits) for layer in result.report.layers}


def ms(result: lowtide.CompileResult) -> float:
    found = result.report.latency_ms
    assert found is not None
    return found


def test_the_budget_holds_and_the_error_falls(
    plain: lowtide.CompileResult, mixed: lowtide.CompileResult, factor: float
) -> None:
    assert ms(plain) < ms(mixed) <= factor * ms(plain) * (1 + 1e-9)
    assert mixed.report.outputs[0].sqnr_db > plain.report.outputs[0].sqnr_db
    assert {16, 8} <= {bits for pair in widths(mixed).values() for bits in pair}


def test_exact_execution_agrees_with_the_emulation(mixed: lowtide.CompileResult) -> None:
    assert mixed.report.agreement is not None
    assert mixed.report.agreement.layer_largest <= 1


def test_the_front_rises_and_has_the_chosen_plan(mixed: lowtide.CompileResult) -> None:
    front = [point for point in mixed.report.front if point.number is not None]
    assert [point.number for point in front] == list(range(1, len(front) + 1))
    assert [point.latency_ms for point in front] == sorted(point.latency_ms for point in front)
    assert [point.error_db for point in front] == sorted(point.error_db for point in front)
    assert front[0].label == "8 bits"
    (chosen,) = [point for point in mixed.report.front if point.chosen]
    assert chosen.latency_ms == pytest.approx(ms(mixed))


def test_16_bits_that_save_little_are_told_with_the_little_that_they_cost(
    plain: lowtide.CompileResult, mixed: lowtide.CompileResult
) -> None:
    reasons = {layer.width_reason for layer in mixed.report.layers if layer.width_reason}
    little = {reason for reason in reasons if "less than" in reason}
    assert little
    for reason in little:
        told = re.match(
            r"16(?: bit|-bit parameters) for (?:([\d.]+) ms|next to no time): 8 .* make less", reason
        )
        assert told, reason
        assert 0 <= float(told[1] or 0) <= ms(mixed) - ms(plain)
    assert all(re.search(r"because 8 .*make \d+% of the error", reason) for reason in reasons - little)


def test_every_wide_layer_has_a_reason(mixed: lowtide.CompileResult) -> None:
    def is_wide(layer: LayerReport) -> bool:
        return 16 in (layer.bits, layer.weight_bits)

    wide = [layer for layer in mixed.report.layers if is_wide(layer)]
    assert wide
    assert all(layer.width_reason for layer in wide)
    assert not any(layer.width_reason for layer in mixed.report.layers if not is_wide(layer))


def test_a_search_costs_few_runs(mixed: lowtide.CompileResult, plain: lowtide.CompileResult) -> None:
    assert mixed.report.search_passes is not None
    assert mixed.report.search_passes <= 30
    assert plain.report.search_passes is None


def test_all_plans_of_a_small_network_are_tried_and_its_front_is_that_of_finished_ones(
    monkeypatch: pytest.MonkeyPatch, plain: lowtide.CompileResult, factor: float
) -> None:
    monkeypatch.setattr(search, "FEW", 24)
    result = compiled(frames=16, mixed_precision_factor=factor)
    assert ms(result) <= factor * ms(plain) * (1 + 1e-9)
    front = [point for point in result.report.front if point.number is not None]
    assert len(front) > 2
    assert all(point.measured for point in front)
    (chosen,) = [point for point in front if point.chosen]
    assert chosen.error_db == max(point.error_db for point in front if point.latency_ms <= chosen.latency_ms)


def test_the_lists_that_are_emitted_give_the_same_widths(
    mixed: lowtide.CompileResult, tmp_path: Path
) -> None:
    folder = mixed.save(tmp_path / "out")
    emitted: Mapping[str, Any] = json.loads((folder / "tidl_options.json").read_text("utf-8"))
    assert "advanced_options:mixed_precision_factor" not in emitted
    lists = {key: emitted[key] for key in (OUTPUTS, PARAMETERS)}
    assert widths(compiled(**lists)) == widths(mixed)


def test_codes_of_16_bits_are_in_the_model_and_the_proto(
    mixed: lowtide.CompileResult, tmp_path: Path
) -> None:
    folder = mixed.save(tmp_path / "out")
    assert "bit_depth: 2" in (folder / "quant_params.prototxt").read_text("utf-8")
    read = lowtide.load_output(folder)
    with np.load(TEST) as data:
        feeds = {"image": data["image"][:1].astype(np.float32)}
    for mode in ("qdq", "exact"):
        again = execute(read.graph, feeds, mode, read.device)
        for name, array in mixed.run(feeds, mode=mode).items():
            np.testing.assert_array_equal(again[name], array)


def test_a_plan_over_the_budget_is_refused_with_the_class_that_costs_most(
    monkeypatch: pytest.MonkeyPatch, plain: lowtide.CompileResult
) -> None:
    monkeypatch.setattr(Automatic, "plan", lambda _, problem: Manual().plan(problem))
    options = {"output_feature_16bit_names_list": "stem, logits"}
    with pytest.raises(QuantizationError, match=r"automatic .* budget is .* ms; 16 bits cost most in the"):
        compiled(frames=4, budget_ms=1.0001 * ms(plain), **options)


def test_more_frames_than_there_are_for_a_search_are_noted(plain: lowtide.CompileResult) -> None:
    def noted(frames: int) -> set[str]:
        result = compiled(frames=4, budget_ms=2 * ms(plain), search_frames=frames)
        return {entry.message for entry in result.report.diagnostics if entry.code == "LT758"}

    assert noted(4) == set()
    assert noted(5) == {"5 frames are asked for, and there are 4: all are taken"}


def test_a_budget_for_everything_gives_16_bits_without_a_search() -> None:
    result = compiled(mixed_precision_factor=4)
    assert {bits for pair in widths(result).values() for bits in pair} <= {16, None}
    assert result.report.search_passes is None


def test_a_point_of_the_front_is_taken_without_measuring_again(
    tmp_path: Path, mixed: lowtide.CompileResult, factor: float
) -> None:
    def run(**options: object) -> lowtide.CompileResult:
        return lowtide.compile(
            MODEL,
            target="tda4vm",
            data=str(CALIBRATION),
            frames=32,
            options={"mixed_precision_factor": factor, **options},
            cache=StatisticsCache(tmp_path),
        )

    first = run()
    assert first.graph == mixed.graph
    assert first.report.front == mixed.report.front
    second = run(front_point=2)
    wanted = next(point for point in first.report.front if point.number == 2)
    assert ms(second) == pytest.approx(wanted.latency_ms)
    assert [p.error_db for p in second.report.front if p.number] == [
        p.error_db for p in first.report.front if p.number
    ]
    assert second.report.search_passes == first.report.search_passes
    assert not any(time.stage == "search: sensitivities" for time in second.report.times)
    assert not any(time.stage == "search: compare" for time in second.report.times)
    with pytest.raises(OptionError, match=r"the front has \d+ points, found 99"):
        run(front_point=99)


def test_a_search_that_goes_on_decides_and_counts_as_one_that_was_not_interrupted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, factor: float
) -> None:
    finished = MeasuringOracle.finished
    stop = 3

    def noted(self: MeasuringOracle, plan: PrecisionPlan) -> tuple[Attempt, list[Trial]]:
        nonlocal stop
        stop -= 1
        if not stop:
            raise KeyboardInterrupt
        return finished(self, plan)

    def run(folder: str) -> lowtide.CompileResult:
        cache, options = StatisticsCache(tmp_path / folder), {"mixed_precision_factor": factor}
        data = str(CALIBRATION)
        return lowtide.compile(MODEL, target="tda4vm", data=data, frames=12, options=options, cache=cache)

    monkeypatch.setattr(MeasuringOracle, "finished", noted)
    assert "LT887" in {entry.code for entry in run("stopped").report.diagnostics}
    goes_on, whole = run("stopped"), run("whole")
    assert goes_on.graph == whole.graph
    assert goes_on.report.front == whole.report.front
    assert goes_on.report.search_passes == whole.report.search_passes


def test_what_a_search_for_another_budget_has_left_in_the_cache_changes_nothing_in_the_report(
    tmp_path: Path, factor: float
) -> None:
    def run(folder: str, factor: float) -> lowtide.CompileResult:
        cache, options = StatisticsCache(tmp_path / folder), {"mixed_precision_factor": factor}
        data = str(CALIBRATION)
        return lowtide.compile(MODEL, target="tda4vm", data=data, frames=12, options=options, cache=cache)

    run("used", (1 + factor) / 2)
    after, fresh = run("used", factor), run("fresh", factor)
    assert report_json(after.report, volatile=False) == report_json(fresh.report, volatile=False)


RECIPE = "use calibrator minmax;try weights reconstruct;else weights correct-bias"


def test_what_was_measured_holds_where_the_recipe_does_the_same_for_the_first_plan(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    taken: list[tuple[float, Sensitivities]] = []
    asked = MeasuringOracle.sensitivities

    def noted(self: MeasuringOracle, around: PrecisionPlan | None = None) -> Sensitivities:
        before = self.passes
        found = asked(self, around)
        taken.append((self.passes - before, found))
        return found

    monkeypatch.setattr(MeasuringOracle, "sensitivities", noted)
    result = compiled(frames=12, mixed_precision_factor=factor, recipe=RECIPE)
    assert [step.step for step in result.report.steps if step.kept] == ["weights reconstruct"]
    (first, found), (again, same), *_ = taken
    assert first > 1
    assert again == 0
    assert (found.activations, found.weights) == (same.activations, same.weights)


def test_a_correction_that_follows_an_else_is_not_learned_beside_the_one_that_was_kept(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    texts: list[str] = []
    extend = Workbench.extend

    def noted(self: Workbench, attempt: Attempt, text: str) -> Attempt:
        texts.append(text)
        return extend(self, attempt, text)

    monkeypatch.setattr(Workbench, "extend", noted)
    compiled(frames=12, mixed_precision_factor=factor, recipe=RECIPE)
    assert set(texts) == {"reconstruct"}


def test_a_goal_is_reached_at_little_latency(
    plain: lowtide.CompileResult, everything: lowtide.CompileResult
) -> None:
    wanted = plain.report.outputs[0].sqnr_db + 2
    result = compiled(goal=f"sqnr>={wanted:.2f}")
    assert result.report.outputs[0].sqnr_db >= wanted - 0.01
    assert ms(plain) < ms(result) < ms(everything)


def test_an_input_that_is_listed_is_reported_with_its_width_and_reason() -> None:
    listed = compiled(frames=8, output_feature_16bit_names_list="image", accuracy_level=0).report
    (found,) = listed.inputs
    assert (found.bits, found.width_reason) == (16, "16 bit because image is listed")
    (found,) = compiled(frames=8, accuracy_level=0).report.inputs
    assert (found.bits, found.width_reason) == (8, "")


def test_layers_that_are_listed_are_wide_in_any_case(factor: float) -> None:
    result = compiled(mixed_precision_factor=factor, output_feature_16bit_names_list="stem/relu6")
    assert widths(result)["stem/relu6"] == (16, 16)
    (reason,) = [layer.width_reason for layer in result.report.layers if layer.name == "stem/relu6"]
    assert "is listed" in reason


@pytest.mark.parametrize("names", ["stem/relu6", "stem/relu6, logits"])
def test_points_beyond_the_budget_can_be_taken_and_listed_layers_count(
    mixed: lowtide.CompileResult, factor: float, names: str
) -> None:
    numbers = [point.number for point in mixed.report.front if point.number is not None]
    last = compiled(mixed_precision_factor=factor, front_point=max(numbers))
    assert ms(last) > ms(mixed)
    with pytest.raises(OptionError, match="with the listed layers in 16 bits the network takes"):
        compiled(
            frames=4, mixed_precision_factor=1.0001, front_point=1, output_feature_16bit_names_list=names
        )


def test_what_was_measured_under_another_rounding_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    def run(folder: str, **options: object) -> lowtide.CompileResult:
        return lowtide.compile(
            MODEL,
            target="tda4vm",
            data=str(CALIBRATION),
            frames=12,
            options={"mixed_precision_factor": 1.1, "recipe": "use calibrator minmax", **options},
            cache=StatisticsCache(tmp_path / folder),
        )

    alone = run("one", arithmetic="shift")
    run("two", arithmetic="multiplier")
    after = run("two", arithmetic="shift")
    assert after.report.front == alone.report.front


def test_all_fits_is_said_of_what_has_16_bits_only() -> None:
    result = compiled(mixed_precision_factor=4, output_feature_16bit_names_list="stem/relu6")
    for layer in result.report.layers:
        assert ("16 bit" in layer.width_reason) == (16 in (layer.bits, layer.weight_bits))
    assert "is listed" in next(
        layer.width_reason for layer in result.report.layers if layer.name == "stem/relu6"
    )


@pytest.mark.parametrize("finished", [0, 1])
def test_an_interrupt_ends_the_search_with_the_best_that_was_measured(
    monkeypatch: pytest.MonkeyPatch, factor: float, finished: int
) -> None:
    left = finished
    before = MeasuringOracle.measured

    def interrupted(self: MeasuringOracle, plan: PrecisionPlan) -> float:
        nonlocal left
        if plan.same_widths(self.narrow) or left:
            left -= not plan.same_widths(self.narrow)
            return before(self, plan)
        raise KeyboardInterrupt

    monkeypatch.setattr(MeasuringOracle, "measured", interrupted)
    result = compiled(mixed_precision_factor=factor)
    assert "LT887" in {entry.code for entry in result.report.diagnostics}
    (chosen,) = [point for point in result.report.front if point.chosen]
    assert chosen.measured
    measured = [point for point in result.report.front if point.measured]
    assert chosen.error_db == max(point.error_db for point in measured)


def test_a_goal_that_8_bits_meet_gives_8_bits(plain: lowtide.CompileResult) -> None:
    reached = plain.report.outputs[0].sqnr_db
    assert reached is not None
    result = compiled(goal=f"sqnr>={reached - 0.01}")
    assert widths(result) == widths(plain)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"strategy": "automatic"}, OptionError, "needs a budget or a goal"),
        ({"budget_ms": 0.001}, OptionError, r"8 bits take .* ms on tda4vm, the budget is 0.001 ms"),
        ({"goal": "fame>=3"}, OptionError, "goal.*no figure 'fame'"),
        ({"goal": "sqnr"}, OptionError, "goal.*expected NAME>=NUMBER"),
        (
            {"mixed_precision_factor": 1.0001, "output_feature_16bit_names_list": "stem, logits"},
            OptionError,
            "with the listed layers in 16 bits the network takes",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        compiled(frames=4, **options)


def test_a_device_without_latency_model_has_no_budget() -> None:
    with pytest.raises(UnsupportedByTargetError, match=r"no latency model.*16bit_names_list"):
        compiled("generic", frames=4, mixed_precision_factor=1.2)


def test_a_search_needs_frames() -> None:
    with pytest.raises(DataError, match="no calibration data"):
        lowtide.compile(MODEL, target="tda4vm", options={"mixed_precision_factor": 1.2})


def test_a_plan_that_was_finished_is_made_anew_when_another_recipe_is_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []

    def keeping(c: Any, bench: Workbench, attempt: Attempt, steps: Any) -> Any:
        found, trials = improved(c, bench, attempt, steps)
        made.append("")
        # As if the recipe kept one more step for the plan that is settled.
        return (bench.extend(found, "correct-bias") if len(made) == 2 else found), trials

    def plan(self: Automatic, problem: PrecisionProblem) -> PrecisionPlan:
        del self
        asked = problem.oracle
        assert isinstance(asked, MeasuringOracle)
        first, second = (problem.uniform(8).with_class(problem, problem.classes[at], 16) for at in (2, 4))
        asked.measured(first)
        assert asked.finished(first)[0].settings.weights == ""
        asked.settle(second)
        assert asked.finished(first)[0].settings.weights == "correct-bias"
        return first

    monkeypatch.setattr(oracle, "improved", keeping)
    monkeypatch.setattr(Automatic, "plan", plan)
    compiled(frames=12, mixed_precision_factor=1.9, recipe="use calibrator minmax; try calibrator mse")
    assert len(made) == 2
