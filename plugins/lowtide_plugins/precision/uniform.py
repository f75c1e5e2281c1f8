"""One width for everything."""

from __future__ import annotations

from typing import ClassVar

import attrs

from lowtide.precision import PrecisionPlan, PrecisionProblem, PrecisionStrategy


@attrs.frozen(kw_only=True)
class Uniform(PrecisionStrategy):
    """Gives every class and every layer the width of the option ``tensor_bits``."""

    name: ClassVar[str] = "uniform"

    def plan(self, problem: PrecisionProblem) -> PrecisionPlan:
        """See `PrecisionStrategy.plan`."""
        return problem.uniform(problem.options.tensor_bits)
