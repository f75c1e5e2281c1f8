"""The search: sensitivities, exact choices under budgets, measurements, and the front that comes of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import attrs

from lowtide.errors import OptionError, counted
from lowtide.precision import (
    Budget,
    Costs,
    Goal,
    Oracle,
    PrecisionPlan,
    PrecisionProblem,
    Sensitivities,
    widest_plan,
)
from lowtide_plugins.precision.choice import Choice
from lowtide_plugins.precision.thumb import rule_of_thumb

POINTS = 8
"""Budgets between 8 and 16 bits that the front is made for."""

ROUNDS = 2
"""How often sensitivities are measured anew around the best plan."""

PASSES = 12.0
"""Runs of the network for each calibration frame after which no further round begins."""

TRUSTS = (0.0, 1.0, 0.5, 0.25)
"""How much of what errors have in common counts in plans for the budget, the surest first."""

FINALISTS = 4
"""Plans for the budget that are finished and compared, besides 8 bits and the rule of thumb."""

LIMIT = 30.0
"""Runs for each calibration frame that no further plan may exceed, if it takes `MARGIN` of the dearest."""

MARGIN = 2.0
"""A plan that differs more from those before leaves more to learn: 4.1 runs beside 1.9 on YOLOX-nano."""

FEW = 24
"""Widths of a network that is small enough to try all its plans."""

DEEPER = 15
"""How many of these are finished."""

DRAWS = 1024
"""Random orders in which widths are raised to find them."""

MANY = 256
"""More plans than these are too many to try."""

BISECTIONS = 3
"""Between two points of the front, for a goal."""


@attrs.frozen
class Point:
    """A plan with its error: that of an emulation, or `measured` on the finished network."""

    plan: PrecisionPlan
    ms: float
    error: float
    measured: bool = False


@attrs.define
class Search:
    """One search; `best` is what it would return.

    Attributes:
        forced: what has 16 bits in any case.
        sure: the best plan that was finished, or that meets the goal; `forced` until there is one.
        noise: what 8 bits cost, under what the recipe makes of the first plan.
        points: in the order in which they were measured.
        made: plans for the budget, in the order in which they are worth finishing.
        dearest: the most runs that a finished plan took.
        first: runs until what 8 bits cost was known, with all that had to be learned for it.
    """

    problem: PrecisionProblem
    costs: Costs
    oracle: Oracle
    forced: PrecisionPlan
    choice: Choice = attrs.field(init=False)
    best: PrecisionPlan = attrs.field(init=False)
    sure: PrecisionPlan = attrs.field(init=False)
    noise: Sensitivities = attrs.field(init=False, factory=lambda: Sensitivities({}, {}))
    points: list[Point] = attrs.field(init=False, factory=list[Point])
    made: list[PrecisionPlan] = attrs.field(init=False, factory=list[PrecisionPlan])
    dearest: float = attrs.field(init=False, default=0.0)
    first: float = attrs.field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        self.choice = Choice(self.problem, self.costs, self.forced)
        self.best = self.sure = self.forced

    # --- what is asked for ---

    def under_budget(self, budget: Budget) -> None:
        """Find the best plan under a budget, by measurement of what is finished."""
        self._prepare(budget)
        self._least_error(budget)

    def _least_error(self, budget: Budget) -> None:
        self._refine(budget)
        rivals = (self.forced, rule_of_thumb(self.problem, self.forced))
        for plan in rivals:
            if budget.holds(self.costs.ms(plan)):
                self._finish(plan)
                self.sure = min(self._finished(budget), key=_by_error).plan
        for number, plan in enumerate(self._finalists(budget)):
            if number and not self._affords(MARGIN * self.dearest):
                break
            self._finish(plan)
            self.sure = self.best = min(self._finished(budget), key=_by_error).plan
            if not number:
                self._grid(LIMIT)
        self._finish_front()
        self.best = min(self._finished(budget), key=_by_error).plan

    def for_goal(self, goal: Goal, budget: Budget | None) -> None:
        """Find the fastest plan that meets a goal, among those of a grid and between two of these.

        Where none of these does, it is the one with the least error under the budget, or 16 bits.
        """
        # What the recipe makes of 8 bits, before it is settled for wider plans.
        if goal.met(goal.figure(self.forced)):
            return
        self._prepare(budget or self.middle)
        ordered = [point for point in self._grid() if budget is None or budget.holds(point.ms)]
        low, high = -1, len(ordered) - 1
        if not goal.met(goal.figure(ordered[high].plan)):
            self._closest(goal, budget, ordered[high])
            return
        while high - low > 1:
            self.sure = self.best = ordered[high].plan
            middle = (low + high) // 2
            met = goal.met(goal.figure(ordered[middle].plan))
            low, high = (low, middle) if met else (middle, high)
        self.sure = self.best = ordered[high].plan
        if high > 0:
            self._between(goal, ordered[high - 1].ms, ordered[high].ms)
        self._finish(self.best)

    def _closest(self, goal: Goal, budget: Budget | None, widest: Point) -> None:
        """What a network has to be content with that misses a goal on the grid."""
        if budget is None:
            self.sure = self.best = widest.plan
        else:
            self._least_error(budget)
            if goal.met(goal.figure(self.best)):
                self._between(goal, widest.ms, self.costs.ms(self.best))
        self._finish(self.best)

    def front_point(self, number: int) -> None:
        """Take a point of the front that was found, counted from 1.

        Raises:
            OptionError: when the front is shorter.
        """
        front = self.front()
        if number > len(front):
            raise OptionError(
                f"the front has {counted(len(front), 'point')}, found {number}",
                place="front_point",
                hint="compile without it: the report numbers the points",
            )
        self.best = front[number - 1].plan

    @property
    def _is_small(self) -> bool:
        return len(self.choice.names) <= FEW

    @property
    def middle(self) -> Budget:
        """Between 8 and 16 bits."""
        return Budget((self.costs.narrow_ms + self.costs.ms(widest_plan(self.problem))) / 2, "")

    def front(self) -> list[Point]:
        """The measured plans of which none is both faster and better, the fastest first."""
        front: list[Point] = []
        for point in sorted(self.points, key=lambda point: (point.ms, point.error)):
            if not front or point.error < front[-1].error:
                front.append(point)
        return front

    # --- steps ---

    def _prepare(self, budget: Budget) -> None:
        """Find a first plan, let the recipe work on that, and learn what widths are worth then."""
        noise = self.oracle.sensitivities()
        self.first = self.oracle.passes
        self.best = self._best(noise, budget.ms)
        self.made.append(self.best)
        self.oracle.settle(self.best)
        self.noise = self.oracle.sensitivities()

    def _refine(self, budget: Budget) -> None:
        """Solve with what widths are worth, then with that around the best plan as long as that is better."""
        self.made += [self._best(self.noise, budget.ms, trust) for trust in TRUSTS]
        for _ in range(ROUNDS):
            if self.oracle.passes > PASSES:
                return
            before = self._least(self.made)
            around = self.oracle.sensitivities(before.plan)
            found = [self._best(noise, budget.ms) for noise in (around, _mean(around, self.noise))]
            after = self._least(found)
            if after.error >= before.error:
                self.made += found
                return
            self.made = [*found, *self.made]

    def _grid(self, limit: float = math.inf) -> list[Point]:
        """Measure the best plans for budgets from 8 to 16 bits, closer to each other where there are few.

        What would exceed the limit of runs is left out, unless the network is small.
        """
        low, high = self.costs.ms(self.forced), self.costs.ms(widest_plan(self.problem))
        budgets = [low + (high - low) * (step / POINTS) ** 2 for step in range(1, POINTS)]
        plans = [self.forced, self.choice.plan(self.choice.highest)]
        plans += [self._best(self.noise, ms) for ms in budgets]
        points: list[Point] = []
        dearest = 0.0
        for plan in plans:
            before = self.oracle.passes
            if self._is_small or before + dearest < limit:
                points.append(self._measure(plan))
                dearest = max(dearest, self.oracle.passes - before)
        return sorted({id(point): point for point in points}.values(), key=lambda point: point.ms)

    def _finalists(self, budget: Budget) -> list[PrecisionPlan]:
        """What is worth finishing: of a small network the best of all plans that leave no room.

        The weights of a finished network make up for what others have lost, which the emulation does not know
        of: it says little about plans that differ much, so those of different kinds are finished.
        """
        plans = self.choice.full(budget.ms, DRAWS) if self._is_small else []
        if 0 < len(plans) <= MANY:
            return [point.plan for point in sorted(map(self._measure, plans), key=_by_error)[:DEEPER]]
        found: list[PrecisionPlan] = []
        for plan in self.made:
            if not any(plan.same_widths(other) for other in found):
                found.append(plan)
        return found[:FINALISTS]

    def _between(self, goal: Goal, low: float, high: float) -> None:
        """Look for a faster plan than the best one between two latencies of which the second suffices."""
        for _ in range(BISECTIONS):
            plan = self._best(self.noise, (low + high) / 2)
            ms = self.costs.ms(plan)
            if ms > low and goal.met(goal.figure(plan)):
                self.best, self.sure, high = plan, plan, ms
            else:
                low = (low + high) / 2

    def _best(self, noise: Sensitivities, ms: float, trust: float = 0.0) -> PrecisionPlan:
        found = self.choice.best(noise, ms, trust)
        return self.forced if found is None else found

    def _least(self, plans: Iterable[PrecisionPlan]) -> Point:
        return min(map(self._measure, plans), key=_by_error)

    def _measure(self, plan: PrecisionPlan) -> Point:
        """The point of a plan, that of an emulation where it is not finished."""
        known = self._known(plan)
        if known is None:
            known = Point(plan, self.costs.ms(plan), self.oracle.error(plan))
            self.points.append(known)
        return known

    def _known(self, plan: PrecisionPlan) -> Point | None:
        return next((point for point in self.points if point.plan.same_widths(plan)), None)

    def _finish(self, plan: PrecisionPlan) -> None:
        """Measure what the recipe makes of a plan, which counts from then on."""
        known = self._known(plan)
        if known is None or not known.measured:
            before = self.oracle.passes
            made = Point(plan, self.costs.ms(plan), self.oracle.measured(plan), measured=True)
            self.dearest = max(self.dearest, self.oracle.passes - before)
            self.points = [*(point for point in self.points if point is not known), made]

    def _affords(self, runs: float) -> bool:
        """Whether a plan may be finished that takes so many."""
        return self._is_small or self.oracle.passes + runs <= LIMIT

    def _finish_front(self) -> None:
        """Finish the plans of the front, the fastest first, as long as runs are left.

        Such a plan may have little in common with those before, so that as much is learned as for the first:
        8.4 runs on YOLOX-nano, where others took 2.
        """
        while self._affords(max(self.first, MARGIN * self.dearest)):
            open_points = [point for point in self.front() if not point.measured]
            if not open_points:
                return
            self._finish(open_points[0].plan)

    def _finished(self, budget: Budget) -> list[Point]:
        return [point for point in self.points if point.measured and budget.holds(point.ms)]


def _by_error(point: Point) -> tuple[float, float]:
    return point.error, point.ms


def _mean(first: Sensitivities, second: Sensitivities) -> Sensitivities:
    """What holds around one plan, and what holds around another with less noise."""

    def mean(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
        return {name: (max(one[name], 0.0) + max(other.get(name, 0.0), 0.0)) / 2 for name in one}

    return Sensitivities(mean(first.activations, second.activations), mean(first.weights, second.weights))
