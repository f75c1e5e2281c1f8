"""What a search is asked to reach: which goals there are, the verdict, and what a missed one leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import attrs
import pytest

import lowtide
from lowtide.data import Frame
from lowtide.errors import OptionError
from lowtide.ir import Array, parse_graph
from lowtide.measure import Metric
from lowtide.plugin import MetricSpec, Provider, discover, hookimpl
from lowtide.plugin.strategy_check import NETWORK, ComputedOracle, problems
from lowtide.precision import Budget, Goal, PrecisionPlan, PrecisionProblem, widest_plan
from lowtide_plugins.precision import search
from lowtide_plugins.precision.automatic import Automatic
from support import CALIBRATION, MODEL


@attrs.define(kw_only=True)
class Distance(Metric):
    """The largest difference at the output."""

    name: ClassVar[str] = "distance"
    better: ClassVar[Literal["higher", "lower"]] = "lower"
    found: float = 0.0

    def update(self, outputs: Mapping[str, Array], frame: Frame, reference: Mapping[str, Array]) -> None:
        del frame
        self.found = max(self.found, *(float(abs(outputs[name] - reference[name]).max()) for name in outputs))

    def value(self) -> float:
        return self.found


class DistancePlugin:
    """Brings it."""

    @hookimpl
    def lowtide_register_metrics(self) -> list[MetricSpec]:
        return [MetricSpec(name="distance", summary="a distance", implementation=f"{__name__}:Distance")]


REGISTRY = discover()
REGISTRY.add_plugin(DistancePlugin(), Provider("acme", "1.0", "acme"))


def compiled(**options: object) -> lowtide.CompileResult:
    return lowtide.compile(
        MODEL, target="tda4vm", data=str(CALIBRATION), frames=32, options=options, registry=REGISTRY
    )


@pytest.mark.parametrize(
    ("goal", "hint"), [("sqnr<=30", "sqnr>="), ("top1<0.5", "top1>="), ("distance>=2", "distance<=")]
)
def test_a_goal_that_the_worst_network_meets_is_refused(goal: str, hint: str) -> None:
    with pytest.raises(OptionError, match="is better") as caught:
        compiled(goal=goal)
    assert caught.value.place == f"goal {goal}"
    assert caught.value.hint == f"{hint}NUMBER"


def test_a_metric_of_which_less_is_better_is_lowered_to_the_goal() -> None:
    plain = compiled(goal="distance<=1000").report
    assert plain.goal is not None
    assert plain.goal.reached
    wanted = 0.8 * plain.goal.figure
    found = compiled(goal=f"distance<={wanted}").report
    assert found.goal is not None
    assert found.goal.reached
    assert found.goal.figure <= wanted
    assert found.goal.frames == 32
    assert found.latency_ms is not None
    assert plain.latency_ms is not None
    assert found.latency_ms > plain.latency_ms


def test_the_report_has_the_figure_that_was_held_against_the_goal() -> None:
    report = compiled(goal="sqnr>=20").report
    assert report.goal is not None
    assert report.goal.figure == pytest.approx(report.outputs[0].sqnr_db, abs=0.01)
    assert (report.goal.condition, report.goal.reached, report.goal.unit) == ("sqnr>=20", True, "dB")
    assert report.goal.frames == report.measured_frames
    assert compiled(mixed_precision_factor=1.01).report.goal is None


def test_a_goal_out_of_reach_gives_16_bits_and_a_warning() -> None:
    result = compiled(goal="sqnr>=300")
    report = result.report
    assert report.goal is not None
    assert not report.goal.reached
    assert report.latency_ms == compiled(tensor_bits=16).report.latency_ms
    (warning,) = [entry for entry in report.diagnostics if entry.code == "LT889"]
    assert f"sqnr>=300 is missed: the best that was found has {report.goal.figure:.6g} dB" in warning.message
    assert warning.hint


def test_a_point_of_the_front_of_a_search_for_a_goal_is_taken_by_its_number() -> None:
    plain = compiled().report.outputs[0].sqnr_db
    shown = compiled(goal=f"sqnr>={plain + 2}").report.front
    for point in shown:
        if point.number is not None and not point.chosen:
            taken = compiled(goal=f"sqnr>={plain + 2}", front_point=point.number)
            assert taken.report.latency_ms == point.latency_ms
            assert taken.report.goal is None


@attrs.define
class ErrorGoal(Goal):
    """The error that an oracle computes."""

    oracle: ComputedOracle
    limit: float
    text: str = "error"

    def figure(self, plan: PrecisionPlan) -> float:
        return self.oracle.measured(plan)

    def met(self, figure: float) -> bool:
        return figure <= self.limit * (1 + 1e-9)


@pytest.fixture
def problem(monkeypatch: pytest.MonkeyPatch) -> PrecisionProblem:
    """A network that is taken for a large one, with room for about a third of its widths."""
    monkeypatch.setattr(search, "FEW", 0)
    plain = problems("tda4vm", discover(), parse_graph(NETWORK))[0]
    assert plain.costs is not None
    narrow = plain.costs.narrow_ms
    return attrs.evolve(plain, budget=Budget(narrow + (plain.costs.ms(widest_plan(plain)) - narrow) / 3, ""))


def test_a_goal_that_only_the_best_plan_of_the_budget_meets_is_reached(problem: PrecisionProblem) -> None:
    oracle = ComputedOracle(problem)
    best = Automatic().plan(attrs.evolve(problem, oracle=oracle))
    goal = ErrorGoal(oracle, oracle.measured(best))
    found = Automatic().plan(attrs.evolve(problem, oracle=oracle, goal=goal))
    assert goal.met(goal.figure(found))


def test_a_goal_that_is_missed_leaves_the_least_error_under_the_budget(problem: PrecisionProblem) -> None:
    oracle = ComputedOracle(problem)
    best = Automatic().plan(attrs.evolve(problem, oracle=oracle))
    found = Automatic().plan(attrs.evolve(problem, oracle=oracle, goal=ErrorGoal(oracle, 0.0)))
    assert oracle.measured(found) == oracle.measured(best)
    assert problem.costs is not None
    assert problem.budget is not None
    assert problem.budget.holds(problem.costs.ms(found))
