"""A pass of one's own."""

from __future__ import annotations

from typing import ClassVar

import attrs
import numpy as np

from lowtide import Graph, Pass, PassContext, PassOutcome
from lowtide.ir import Constant


@attrs.frozen(kw_only=True)
class ClampWeights(Pass):
    """Clamps the weights of convolutions to [-limit, limit]."""

    name: ClassVar[str] = "acme-clamp-weights"
    limit: float = 1.0

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:  # noqa: ARG002 - the interface
        clamped = 0
        for node in graph:
            weights = node.operand(1) if node.op == "Conv" else None
            if weights is None or weights.constant is None or weights.type.quant is not None:
                continue
            data = weights.constant.array()
            if np.abs(data).max() > self.limit:
                graph.set_constant(weights, Constant.of(np.clip(data, -self.limit, self.limit)))
                clamped += 1
        return PassOutcome(changed=clamped > 0, counters={"clamped": clamped})
