"""Widths by what they cost and what they are worth."""

from __future__ import annotations

from typing import ClassVar

import attrs

from lowtide.errors import DataError, OptionError
from lowtide.precision import (
    WIDE,
    Budget,
    Costs,
    Oracle,
    PrecisionPlan,
    PrecisionProblem,
    PrecisionStrategy,
    widest_plan,
)
from lowtide.precision.lists import OUTPUTS, PARAMETERS
from lowtide_plugins.precision.choice import NARROW
from lowtide_plugins.precision.manual import Manual
from lowtide_plugins.precision.search import Search
from lowtide_plugins.precision.telling import reasons, weighed


@attrs.frozen(kw_only=True)
class Automatic(PrecisionStrategy):
    """Finds the classes and parameters for which 16 bits are worth most under a latency budget.

    What 8 bits cost each of them is measured with all others in 16 bits. An integer program gives the best
    plan under the budget. The recipe works on that plan; where it keeps other steps than with 8 bits, all is
    measured again. Plans with more or less of what errors have in common are solved for. These, 8 bits, and
    the rule of thumb are then finished, with all that the recipe does, and the one with the least error in
    exact execution is taken. Layers of the two 16-bit lists have 16 bits in any case. An interrupt ends the
    search with the best plan that was measured so far.
    """

    name: ClassVar[str] = "automatic"

    def plan(self, problem: PrecisionProblem) -> PrecisionPlan:
        """See `PrecisionStrategy.plan`.

        Raises:
            DataError: without frames.
        """
        costs, oracle = _needs(problem)
        listed = Manual().plan(problem)
        forced = attrs.evolve(listed, reasons={})
        budget, number = problem.budget, problem.options.front_point
        if budget is not None:
            _check_listed(problem, costs.ms(forced), budget)
        if budget is not None and number is None and problem.goal is None:
            widest = widest_plan(problem)
            if budget.holds(costs.ms(widest)):
                everything = {
                    group.name: f"16 bit because all fits into {budget.text}"
                    for group in problem.classes
                    if widest.activations[group.name] == WIDE
                }
                return attrs.evolve(widest, reasons={**everything, **listed.reasons})
        search = Search(problem, costs, oracle, forced)
        try:
            if problem.goal is not None:
                search.for_goal(problem.goal, budget)
            else:
                search.under_budget(budget or search.middle)
            if number is not None:
                search.front_point(number)
        except KeyboardInterrupt:
            search.best = search.sure
            oracle.interrupted()
        why = {**reasons(search), **listed.reasons}
        return attrs.evolve(search.best, reasons=why, front=weighed(search))


def _needs(problem: PrecisionProblem) -> tuple[Costs, Oracle]:
    """What a search cannot do without."""
    if problem.options.tensor_bits != NARROW:
        raise OptionError(
            f"automatic raises 8-bit tensors, found {problem.options.tensor_bits}", place="tensor_bits"
        )
    if problem.costs is None:
        raise OptionError(
            f"{problem.target.name} has no latency model, and automatic weighs error against latency",
            place="strategy",
            hint="name the layers in advanced_options:output_feature_16bit_names_list",
        )
    wanted = (problem.budget, problem.goal, problem.options.goal, problem.options.front_point)
    if all(entry is None for entry in wanted):  # without frames a goal is an option alone
        raise OptionError(
            "automatic needs a budget or a goal",
            place="strategy",
            hint="advanced_options:mixed_precision_factor=1.2, budget_ms, or goal=sqnr>=30",
        )
    if problem.oracle is None:
        raise DataError(
            "automatic measures what widths are worth, and no calibration data is given",
            hint="--data FOLDER, FILE.npz or module:function",
        )
    return problem.costs, problem.oracle


def _check_listed(problem: PrecisionProblem, ms: float, budget: Budget) -> None:
    if not budget.holds(ms):
        raise OptionError(
            f"with the listed layers in 16 bits the network takes {ms:.4g} ms, the budget is {budget.text}",
            place=OUTPUTS if problem.options.output_feature_16bit_names_list else PARAMETERS,
            hint="list fewer layers, or raise the budget",
        )
