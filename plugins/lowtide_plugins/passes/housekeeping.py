"""Passes that change no number: types and dead nodes."""

from __future__ import annotations

from typing import ClassVar

import attrs

from lowtide.ir import Graph
from lowtide.ir.shapes import infer_types
from lowtide.passes import Pass, PassContext, PassOutcome


@attrs.frozen(kw_only=True)
class InferShapes(Pass):
    """Infers dtype and shape of every node's results as far as ONNX can.

    Precondition: none. Effect: types get more exact, quantization stays. It refuses nothing.
    """

    name: ClassVar[str] = "infer-shapes"

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:  # noqa: ARG002 - the graph says it all
        """See `Pass.run`.

        Raises:
            GraphError: when the shapes contradict each other.
        """
        changed = infer_types(graph)
        return PassOutcome(changed > 0, {"inferred": changed} if changed else {})


@attrs.frozen(kw_only=True)
class Prune(Pass):
    """Removes nodes and constants that reach no output of the network.

    Precondition: none. Effect: inputs and outputs stay, even inputs that nobody reads. It refuses nothing.
    """

    name: ClassVar[str] = "prune"

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:  # noqa: ARG002 - the graph says it all
        """See `Pass.run`."""
        constants = len(graph.constants)
        nodes = graph.prune()
        removed = {"nodes": nodes, "constants": constants - len(graph.constants)}
        return PassOutcome(any(removed.values()), {what: count for what, count in removed.items() if count})
