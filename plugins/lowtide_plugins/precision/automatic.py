"""Widths by what they cost and what they are worth."""

from __future__ import annotations

from typing import ClassVar

import attrs

from lowtide.errors import DataError, OptionError
from lowtide.precision import PrecisionPlan, PrecisionProblem, PrecisionStrategy
from lowtide.precision.lists import OUTPUTS, PARAMETERS
from lowtide_plugins.precision.choice import NARROW
from lowtide_plugins.precision.manual import Manual
from lowtide_plugins.precision.search import Search
from lowtide_plugins.precision.thumb import with_dragged


@attrs.frozen(kw_only=True)
class Automatic(PrecisionStrategy):
    """Finds the classes and parameters for which 16 bits are worth most under a latency budget.

    What 8 bits cost each of them is measured with all others in 16 bits, where errors add up. An integer
    program gives the best plan under the budget; around that plan everything is measured and solved again,
    since errors do not quite add up there. The best plans, 8 bits, and the rule of thumb are then finished,
    with all that the recipe does, and the one with the least error in exact execution is taken. Layers of the
    two 16-bit lists have 16 bits in any case.
    """

    name: ClassVar[str] = "automatic"

    def plan(self, problem: PrecisionProblem) -> PrecisionPlan:
        """See `PrecisionStrategy.plan`.

        Raises:
            DataError: without frames.
        """
        if problem.costs is None:
            raise OptionError(
                f"{problem.target.name} has no latency model, and automatic weighs error against latency",
                place="strategy",
                hint="name the layers in advanced_options:output_feature_16bit_names_list",
            )
        if problem.oracle is None:
            raise DataError(
                "automatic measures what widths are worth, and no calibration data is given",
                hint="--data FOLDER, FILE.npz or module:function",
            )
        if problem.options.tensor_bits != NARROW:
            raise OptionError(
                f"automatic raises 8-bit tensors, found {problem.options.tensor_bits}", place="tensor_bits"
            )
        budget, number = problem.budget, problem.options.front_point
        if budget is None and problem.goal is None and number is None:
            raise OptionError(
                "automatic needs a budget or a goal",
                place="strategy",
                hint="advanced_options:mixed_precision_factor=1.2, budget_ms, or goal='sqnr>=30'",
            )
        forced = with_dragged(problem, Manual().plan(problem))
        ms = budget.ms if budget is not None else None
        if budget is not None and number is None and not budget.holds(problem.costs.ms(forced)):
            raise OptionError(
                f"the layers that are listed take {problem.costs.ms(forced):.4g} ms, the budget is {budget.text}",
                place=OUTPUTS if problem.options.output_feature_16bit_names_list else PARAMETERS,
                hint="list fewer layers, or raise the budget",
            )
        search = Search(problem, problem.costs, problem.oracle, forced)
        try:
            if number is not None:
                search.front_point(number, ms)
            elif problem.goal is not None:
                search.for_goal(problem.goal, float("inf") if ms is None else ms)
            elif ms is not None:
                search.under_budget(ms)
        except KeyboardInterrupt:
            return attrs.evolve(search.best, reasons={"": "the search was interrupted"})
        reasons = {**search.reasons(), **Manual().plan(problem).reasons}
        return attrs.evolve(search.best, reasons=reasons, front=search.weighed())
