"""Widths by name."""

from __future__ import annotations

from typing import ClassVar

import attrs

from lowtide.ir import layers
from lowtide.precision import (
    WIDE,
    Lists,
    PrecisionPlan,
    PrecisionProblem,
    PrecisionStrategy,
    classes_of_tensors,
    read_lists,
)


@attrs.frozen(kw_only=True)
class Manual(PrecisionStrategy):
    """Gives the layers of two lists 16 bits and all others those of ``tensor_bits``.

    A name is that of a layer, or of any node or tensor of the original model that became part of one. The
    output of a layer takes its class along: all tensors that have to share a width. A layer with a 16-bit
    output has 16-bit parameters.

    Source: the vendor's published rules for mixed precision.
    """

    name: ClassVar[str] = "manual"

    def plan(self, problem: PrecisionProblem) -> PrecisionPlan:
        """See `PrecisionStrategy.plan`."""
        lists = read_lists(problem)
        _refuse(lists)
        raised = _raised(problem, lists)
        bits = problem.options.tensor_bits
        activations = {
            tensor: WIDE if group.name in raised else bits
            for group in problem.classes
            for tensor in group.tensors
        }
        weights: dict[str, int] = {}
        for layer in layers(problem.graph):
            if problem.placement.on_accelerator(layer.name):
                wide = any(activations.get(value.name) == WIDE for value in layer.outputs)
                listed = lists.parameters.get(layer.name)
                weights[layer.name] = WIDE if wide or listed else bits
                if listed and not wide:
                    raised[layer.name] = f"16-bit parameters because {listed} is listed"
        return PrecisionPlan(activations, weights, {} if bits == WIDE else raised)


def _refuse(lists: Lists) -> None:
    """Stop at the first name that cannot be meant, and tell of the others.

    Raises:
        OptionError: naming the list.
    """
    stopping = [problem.error() for problem in lists.problems if problem.stops]
    if stopping:
        for other in stopping[1:]:
            stopping[0].add_note(str(other))
        raise stopping[0]


def _raised(problem: PrecisionProblem, lists: Lists) -> dict[str, str]:
    """The names of the classes that get 16 bits, and why."""
    of_tensor = classes_of_tensors(problem)
    reasons: dict[str, str] = {}
    tensors = {layer.name: layer.outputs for layer in layers(problem.graph)}
    tensors |= {value.name: (value,) for value in problem.graph.inputs}
    for name, given in lists.outputs.items():
        for value in tensors[name]:
            group = of_tensor.get(value.name)
            if group is not None:
                ties = f", which {', '.join(group.ties[:3])} ties" if len(group.tensors) > 1 else ""
                reasons[group.name] = f"16 bit because {given} is listed{ties}"
    return reasons
