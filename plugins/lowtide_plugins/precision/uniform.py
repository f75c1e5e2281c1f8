"""One width for everything."""

from __future__ import annotations

from typing import ClassVar

import attrs

from lowtide.ir import layers
from lowtide.precision import PrecisionPlan, PrecisionProblem, PrecisionStrategy


@attrs.frozen(kw_only=True)
class Uniform(PrecisionStrategy):
    """Gives every class and every layer the width of the option ``tensor_bits``."""

    name: ClassVar[str] = "uniform"

    def plan(self, problem: PrecisionProblem) -> PrecisionPlan:
        """See `PrecisionStrategy.plan`."""
        bits = problem.options.tensor_bits
        on_device = [layer for layer in layers(problem.graph) if problem.placement.on_accelerator(layer.name)]
        return PrecisionPlan(
            activations={tensor: bits for group in problem.classes for tensor in group.tensors},
            weights={layer.name: bits for layer in on_device},
        )
