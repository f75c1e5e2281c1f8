"""The search: sensitivities, exact choices under budgets, measurements, and the front that comes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from lowtide.errors import OptionError, QuantizationError
from lowtide.ir import layers
from lowtide.precision import (
    WIDE,
    Costs,
    Goal,
    Oracle,
    PrecisionPlan,
    PrecisionProblem,
    Sensitivities,
    WeighedPlan,
    widest_plan,
)
from lowtide_plugins.precision.choice import Choice
from lowtide_plugins.precision.thumb import rule_of_thumb

POINTS = 8
"""Budgets between 8 and 16 bits that the front is made for."""

ROUNDS = 2
"""How often sensitivities are measured anew around the best plan."""

PASSES = 16.0
"""Runs of the network for each calibration frame after which no further round begins."""

TRUSTS = (0.0, 0.5, 1.0)
"""How much of what errors have in common counts in the plans that are measured."""

FINALISTS = 3
"""Plans under the budget that are finished and compared, besides 8 bits and the rule of thumb."""

LIKELY = 1.3
"""How much larger the error in emulation may be for a plan to become a finalist."""

BISECTIONS = 3
"""Between two points of the front, for a goal."""


@attrs.frozen
class _Point:
    plan: PrecisionPlan
    ms: float
    error: float


@attrs.define
class Search:
    """One search; `best` is what it would return if it were stopped now.

    Attributes:
        forced: what has 16 bits in any case.
    """

    problem: PrecisionProblem
    costs: Costs
    oracle: Oracle
    forced: PrecisionPlan
    choice: Choice = attrs.field(init=False)
    best: PrecisionPlan = attrs.field(init=False)
    noise: Sensitivities = attrs.field(init=False, factory=lambda: Sensitivities({}, {}))
    _points: list[_Point] = attrs.field(init=False, factory=list[_Point])

    def __attrs_post_init__(self) -> None:
        self.choice = Choice(self.problem, self.costs, self.forced)
        self.best = self.forced

    # --- what is asked for ---

    def under_budget(self, ms: float) -> PrecisionPlan:
        """The best plan that takes no longer, by measurement of what is finished."""
        self._prepare(ms)
        self._refine(ms)
        self._grid()
        fitting = sorted((p for p in self._points if p.ms <= ms * (1 + 1e-9)), key=lambda p: (p.error, p.ms))
        likely = [p.plan for p in fitting[:FINALISTS] if p.error <= LIKELY * fitting[0].error]
        rivals = [self.forced, rule_of_thumb(self.problem, self.forced)]
        finalists = [*likely, *(plan for plan in rivals if self.costs.ms(plan) <= ms * (1 + 1e-9))]
        self.best = min(
            _distinct(finalists), key=lambda plan: (self.oracle.measured(plan), self.costs.ms(plan))
        )
        return self.best

    def for_goal(self, goal: Goal, ms: float) -> PrecisionPlan:
        """The fastest plan found that meets a goal and takes no longer than a budget.

        Raises:
            QuantizationError: when none does.
        """
        self._prepare(ms)
        self._grid()
        ordered = [point for point in self.front() if point.ms <= ms * (1 + 1e-9)]
        low, high, met = -1, len(ordered), dict[int, float]()
        while high - low > 1:
            middle = (low + high) // 2 if met or low >= 0 or high < len(ordered) else len(ordered) - 1
            figure = goal.figure(ordered[middle].plan)
            met[middle] = figure
            if goal.met(figure):
                high = middle
                self.best = ordered[middle].plan
            elif middle == len(ordered) - 1:
                raise QuantizationError(
                    f"{goal.text} is out of reach: {figure:.4g} with {ordered[middle].ms:.4g} ms",
                    place="goal",
                    hint="lower the goal, raise the budget, or improve the recipe: see the accuracy levels",
                )
            else:
                low = middle
        self._between(goal, ordered[low].ms if low >= 0 else self.costs.narrow_ms, ordered[high].ms)
        return self.best

    def front_point(self, number: int, ms: float | None) -> PrecisionPlan:
        """A point of the front, counted from 1.

        Raises:
            OptionError: when the front is shorter.
        """
        middle = (self.costs.narrow_ms + self.costs.ms(widest_plan(self.problem))) / 2
        self._prepare(middle if ms is None else ms)
        if ms is not None:
            self._refine(ms)
        self._grid()
        front = self.front()
        if number > len(front):
            raise OptionError(f"the front has {len(front)} points, found {number}", place="front_point")
        self.best = front[number - 1].plan
        return self.best

    # --- steps ---

    def _prepare(self, ms: float) -> None:
        """Find a first plan, let the recipe work on that, and learn what widths are worth then."""
        first = self._best(self.oracle.sensitivities(), ms)
        self.best = first
        self.oracle.settle(first)
        self.noise = self.oracle.sensitivities()

    def _refine(self, ms: float) -> None:
        """Solve with sensitivities around the best plan until that finds no better one."""
        for trust in TRUSTS:
            self._measure(self._best(self.noise, ms, trust))
        for _ in range(ROUNDS):
            before = self._leading(ms)
            self.best = before.plan
            if self.oracle.passes > PASSES:
                return
            around = self.oracle.sensitivities(before.plan)
            for trust in (0.0, 0.5):
                self._measure(self._best(self._mixed(around), ms, trust))
            self._measure(self._best(around, ms))
            after = self._leading(ms)
            self.best = after.plan
            if after is before:
                return

    def _mixed(self, around: Sensitivities) -> Sensitivities:
        """Sensitivities around a plan, which hold there, and those around 16 bits, which are less noisy."""

        def mean(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
            return {name: (max(first[name], 0.0) + max(second.get(name, 0.0), 0.0)) / 2 for name in first}

        return Sensitivities(
            mean(around.activations, self.noise.activations), mean(around.weights, self.noise.weights)
        )

    def _leading(self, ms: float) -> _Point:
        """The measured plan with the least error under a budget."""
        return min((p for p in self._points if p.ms <= ms * (1 + 1e-9)), key=lambda p: (p.error, p.ms))

    def _best(self, noise: Sensitivities, ms: float, trust: float = 0.0) -> PrecisionPlan:
        found = self.choice.best(noise, ms, trust)
        return self.forced if found is None else found

    def _grid(self) -> None:
        """Measure the best plans for budgets from 8 to 16 bits."""
        low, high = self.costs.ms(self.forced), self.costs.ms(widest_plan(self.problem))
        self._measure(self.forced)
        for step in range(1, POINTS):
            # Budgets close to 8 bits matter most, so they are closer there.
            for trust in TRUSTS[:2]:
                self._measure(self._best(self.noise, low + (high - low) * (step / POINTS) ** 2, trust))
        self._measure(self.choice.plan(self.choice.highest))

    def _between(self, goal: Goal, low: float, high: float) -> None:
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            plan = self._best(self.noise, middle)
            if self.costs.ms(plan) > low and goal.met(goal.figure(plan)):
                self._measure(plan)
                self.best, high = plan, self.costs.ms(plan)
            else:
                low = middle

    def _measure(self, plan: PrecisionPlan) -> None:
        if not any(point.plan.same_widths(plan) for point in self._points):
            self._points.append(_Point(plan, self.costs.ms(plan), self.oracle.error(plan)))

    # --- what comes of it ---

    def front(self) -> list[_Point]:
        """The measured plans of which none is both faster and better, the fastest first."""
        front: list[_Point] = []
        for point in sorted(self._points, key=lambda point: (point.ms, point.error)):
            if not front or point.error < front[-1].error:
                front.append(point)
        return front

    def weighed(self) -> tuple[WeighedPlan, ...]:
        """The front for the report, with the plan that was taken."""
        taken = [point for point in self._points if point.plan.same_widths(self.best)]
        front = self.front()
        shown = sorted(
            {id(point): point for point in (*front, *taken)}.values(), key=lambda p: (p.ms, p.error)
        )
        return tuple(
            WeighedPlan(
                latency_ms=point.ms,
                error=point.error,
                label=self._label(point.plan),
                chosen=point.plan.same_widths(self.best),
            )
            for point in shown
        )

    def _label(self, plan: PrecisionPlan) -> str:
        found = [layer for layer in layers(self.problem.graph) if layer.name in plan.weights]
        outputs = [layer for layer in found if plan.activations.get(layer.output.name) == WIDE]
        wide = [layer for layer in found if plan.weights[layer.name] == WIDE]
        if not wide and not outputs and WIDE not in plan.activations.values():
            return "8 bits"
        if len(wide) == len(found):
            return "16 bits"
        return f"{len(outputs)} outputs, {len(wide)} parameters of {len(found)} layers"

    def reasons(self) -> Mapping[str, str]:
        """Why classes and parameters have 16 bits."""
        total = sum(
            max(n, 0.0) for kind in (self.noise.activations, self.noise.weights) for n in kind.values()
        )
        found: dict[str, str] = {}
        for group in self.problem.classes:
            if self.best.activations[group.name] == WIDE:
                share = max(self.noise.activations.get(group.name, 0.0), 0.0) / (total or 1.0)
                ties = f", which {', '.join(group.ties[:3])} ties" if len(group.tensors) > 1 else ""
                found[group.name] = (
                    f"16 bit because {_worth(share)} of the error comes from {group.name}{ties}"
                )
        for layer in layers(self.problem.graph):
            if self.best.weights.get(layer.name) != WIDE or layer.name not in self.noise.weights:
                continue
            if self.best.activations.get(layer.output.name) == WIDE:
                continue
            share = max(self.noise.weights[layer.name], 0.0) / (total or 1.0)
            found[layer.name] = f"16-bit parameters because {_worth(share)} of the error comes from them"
        return found


def _worth(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "less than 1%"


def _distinct(plans: Iterable[PrecisionPlan]) -> list[PrecisionPlan]:
    found: list[PrecisionPlan] = []
    for plan in plans:
        if not any(plan.same_widths(other) for other in found):
            found.append(plan)
    return found
