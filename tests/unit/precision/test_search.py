"""The search over plans beside an oracle whose emulation knows less than finished networks tell."""

from __future__ import annotations

import attrs
import pytest

from lowtide.ir import parse_graph
from lowtide.plugin import discover
from lowtide.plugin.strategy_check import NETWORK, ComputedOracle, problems
from lowtide.precision import Budget, PrecisionPlan, PrecisionProblem, Sensitivities, widest_plan
from lowtide_plugins.precision import search
from lowtide_plugins.precision.automatic import Automatic


class MisledOracle(ComputedOracle):
    """Its emulation takes every wide width for harm; only what is measured adds up."""

    def error(self, plan: PrecisionPlan) -> float:
        """See `Oracle.error`."""
        return 1 - super().error(plan)

    def measured(self, plan: PrecisionPlan) -> float:
        """See `Oracle.measured`."""
        return super().error(plan)


class DearOracle(ComputedOracle):
    """Only finished plans take runs, each more than the one before."""

    def error(self, plan: PrecisionPlan) -> float:
        """See `Oracle.error`."""
        before = self._passes
        found = super().error(plan)
        self._passes = before
        return found

    def measured(self, plan: PrecisionPlan) -> float:
        """See `Oracle.measured`."""
        self._passes = 1.3 * self._passes + 6
        return self.error(plan)


class JumpingOracle(DearOracle):
    """Finished plans take 7 runs each, from the fourth on twice as many."""

    finished = 0

    def measured(self, plan: PrecisionPlan) -> float:
        """See `Oracle.measured`."""
        self.finished += 1
        self._passes += 7 if self.finished <= 3 else 14
        return self.error(plan)


class LearningOracle(DearOracle):
    """The first sensitivities take 16 runs, and so do plans of the front; others that are finished take 2."""

    def __init__(self, problem: PrecisionProblem) -> None:
        super().__init__(problem)
        self.finished: list[PrecisionPlan] = []
        self.front: list[PrecisionPlan] = []

    def sensitivities(self, around: PrecisionPlan | None = None) -> Sensitivities:
        """See `Oracle.sensitivities`."""
        self._passes = max(self._passes, 16)
        return super().sensitivities(around)

    def error(self, plan: PrecisionPlan) -> float:
        """See `Oracle.error`."""
        if self.finished:
            self.front.append(plan)
        return super().error(plan)

    def measured(self, plan: PrecisionPlan) -> float:
        """See `Oracle.measured`."""
        self._passes += 16 if any(plan.same_widths(other) for other in self.front) else 2
        self.finished.append(plan)
        return DearOracle.error(self, plan)


@pytest.fixture
def problem(monkeypatch: pytest.MonkeyPatch) -> PrecisionProblem:
    """A network that is taken for a large one, with room for about half of its widths."""
    monkeypatch.setattr(search, "FEW", 0)
    plain = problems("tda4vm", discover(), parse_graph(NETWORK))[0]
    assert plain.costs is not None
    ms = (plain.costs.narrow_ms + plain.costs.ms(widest_plan(plain))) / 2
    return attrs.evolve(plain, budget=Budget(ms, "half"))


def test_an_emulation_that_ranks_plans_badly_does_not_keep_a_good_one_from_being_finished(
    problem: PrecisionProblem,
) -> None:
    misled, honest = MisledOracle(problem), ComputedOracle(problem)
    found = Automatic().plan(attrs.evolve(problem, oracle=misled))
    best = Automatic().plan(attrs.evolve(problem, oracle=honest))
    assert misled.measured(found) == pytest.approx(honest.measured(best))
    assert misled.measured(found) < misled.measured(problem.uniform(8))


def test_all_finalists_are_within_the_budget_and_none_comes_twice(problem: PrecisionProblem) -> None:
    assert problem.costs is not None
    assert problem.budget is not None
    one = search.Search(problem, problem.costs, MisledOracle(problem), problem.uniform(8))
    one.under_budget(problem.budget)
    finished = [point.plan for point in one.points if point.measured and problem.budget.holds(point.ms)]
    assert len(finished) > 1
    assert not any(a.same_widths(b) for at, a in enumerate(finished) for b in finished[:at])
    known = [point.plan for point in one.points]
    assert not any(a.same_widths(b) for at, a in enumerate(known) for b in known[:at])


def test_no_plan_is_finished_that_would_take_more_runs_than_are_left(problem: PrecisionProblem) -> None:
    oracle = DearOracle(problem)
    Automatic().plan(attrs.evolve(problem, oracle=oracle))
    # 6, 13.8 and 23.9 runs; another 10.1 are not there.
    assert oracle.passes == pytest.approx(6 * (1 + 1.3 + 1.3**2))


def test_a_plan_may_take_twice_what_others_did_without_more_runs_than_there_are(
    problem: PrecisionProblem,
) -> None:
    oracle = JumpingOracle(problem)
    Automatic().plan(attrs.evolve(problem, oracle=oracle))
    assert oracle.finished == 3
    assert oracle.passes <= search.LIMIT


def test_the_front_is_finished_only_with_as_many_runs_as_the_first_network_took(
    problem: PrecisionProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = LearningOracle(problem)
    Automatic().plan(attrs.evolve(problem, oracle=oracle))
    assert oracle.front
    assert oracle.passes <= search.LIMIT
    few = len(oracle.finished)
    monkeypatch.setattr(search, "LIMIT", 2 * search.LIMIT)
    oracle = LearningOracle(problem)
    Automatic().plan(attrs.evolve(problem, oracle=oracle))
    assert len(oracle.finished) > few


def test_the_front_is_measured_only_as_far_as_there_are_runs(
    problem: PrecisionProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, none = ComputedOracle(problem), ComputedOracle(problem)
    points = [len(Automatic().plan(attrs.evolve(problem, oracle=whole)).front)]
    monkeypatch.setattr(search, "LIMIT", 0.0)
    points.append(len(Automatic().plan(attrs.evolve(problem, oracle=none)).front))
    assert points[1] < points[0]
    assert none.passes < whole.passes
