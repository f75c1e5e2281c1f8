"""What a precision strategy is given and what it returns."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import ClassVar

import attrs

from lowtide.errors import QuantizationError
from lowtide.ir import Graph, layers
from lowtide.options import CompileOptions
from lowtide.precision.classes import PrecisionClass
from lowtide.target import Placement, Target


@attrs.frozen
class PrecisionPlan:
    """Widths in bits.

    Attributes:
        activations: by tensor name, for every tensor of every class.
        weights: by layer name, for every layer on the accelerator.
        reasons: why a class has its width, by class name; for the report.
    """

    activations: Mapping[str, int]
    weights: Mapping[str, int]
    reasons: Mapping[str, str] = attrs.field(factory=dict[str, str])


@attrs.frozen(kw_only=True)
class PrecisionProblem:
    """Everything that a strategy may look at."""

    graph: Graph
    target: Target
    placement: Placement
    options: CompileOptions
    classes: tuple[PrecisionClass, ...]


@attrs.frozen(kw_only=True)
class PrecisionStrategy(abc.ABC):
    """Assigns widths. Subclasses are decorated with ``@attrs.frozen(kw_only=True)``; fields are options."""

    name: ClassVar[str]

    @abc.abstractmethod
    def plan(self, problem: PrecisionProblem) -> PrecisionPlan:
        """Choose a width for every class and for the parameters of every layer on the accelerator.

        Raises:
            OptionError: when what the user asks for is impossible.
        """


def check_plan(plan: PrecisionPlan, problem: PrecisionProblem, provider: str) -> None:
    """Check a plan against the rules of the target.

    Raises:
        QuantizationError: naming the strategy, the class or layer, and the rule it breaks.
    """
    allowed = problem.target.bits
    for group in problem.classes:
        widths = {plan.activations.get(tensor) for tensor in group.tensors}
        if len(widths) > 1:
            ties = ", ".join(group.ties[:3])
            raise QuantizationError(
                f"{provider} gives one class the widths {sorted(map(str, widths))}; {ties} tie its tensors",
                place=group.name,
                hint="a class has one width",
            )
        if not widths <= set(allowed):
            raise QuantizationError(
                f"{provider} gives {widths.pop()} bits, the device has {allowed}", place=group.name
            )
    for layer in layers(problem.graph):
        if problem.placement.on_accelerator(layer.name) and plan.weights.get(layer.name) not in allowed:
            raise QuantizationError(
                f"{provider} gives parameters {plan.weights.get(layer.name)} bits, the device has {allowed}",
                place=layer.name,
            )
