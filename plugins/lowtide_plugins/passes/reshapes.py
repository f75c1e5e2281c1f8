"""Changes of shape, one after the other."""

from __future__ import annotations

from typing import ClassVar

import attrs

from lowtide.ir import Graph, Node, TensorType
from lowtide.passes import Pass, PassContext, PassOutcome
from lowtide_plugins.passes.rewrite import Tally, add_shape, become, bypass, is_alive, same_static_shape

SHAPED = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that keep every element and its place in row-major order."""


@attrs.frozen(kw_only=True)
class MergeReshapes(Pass):
    """Composes Reshape, Flatten, Squeeze and Unsqueeze that follow each other into one Reshape, or none.

    Precondition: shapes are inferred. Effect: the last of a chain reads what the first read; a chain that
    ends in the shape it began with goes. It refuses chains whose last shape has more than one unknown
    dimension.
    """

    name: ClassVar[str] = "merge-reshapes"

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:  # noqa: ARG002 - the graph says it all
        """See `Pass.run`."""
        tally = Tally()
        for node in graph:
            maker = node.value(0).producer if node.op in SHAPED else None
            if maker is not None and maker.op in SHAPED:
                _merge(graph, maker, node, tally)
        return tally.outcome()


def _merge(graph: Graph, first: Node, second: Node, tally: Tally) -> None:
    source, between, result = first.value(0), first.output, second.output
    if not source.type.quant == between.type.quant == result.type.quant or first.layer or second.layer:
        return
    dims = target_shape(result.type)
    if dims is None:
        tally.refuse(second, f"the shape of {result.name} would have to have one unknown dimension at most.")
        return
    if not (same_static_shape(source.type, result.type) and bypass(graph, second, source, tally)):
        read_through(graph, first, second, dims)
    tally.count("merged")
    if is_alive(graph, first) and not between.uses and not graph.is_output(between):
        graph.remove(first)


def read_through(graph: Graph, first: Node, second: Node, dims: tuple[int, ...]) -> None:
    """Let the second reshape read what the first reads and go to its shape directly."""
    shape = add_shape(graph, f"{second.output.name}_shape", dims)
    become(graph, second, "Reshape", [first.value(0), shape])
    second.location = first.location.merged(second.location)


def target_shape(known: TensorType) -> tuple[int, ...] | None:
    """The shape as Reshape takes it, with -1 for one unknown dimension; ``None`` when it cannot be said."""
    if known.shape is None or 0 in known.shape or known.shape.count(None) > 1:
        return None
    return tuple(-1 if dim is None else dim for dim in known.shape)
