"""Batch normalization into weights."""

from __future__ import annotations

from typing import ClassVar

import attrs

from lowtide.ir import Graph, Node
from lowtide.passes import Pass, PassContext, PassOutcome
from lowtide_plugins.passes.affine import fold_ahead, fold_behind, normalization
from lowtide_plugins.passes.rewrite import Tally


@attrs.frozen(kw_only=True)
class FoldBatchNorm(Pass):
    """Folds BatchNormalization into a Conv, ConvTranspose, Gemm or MatMul with constant weights.

    Precondition: none; MatMul needs inferred shapes. Effect: the node before it (else, with `leading`, the
    node behind it) gets other weights and bias, computed in float64 and rounded once; the name of the last
    tensor survives. It refuses normalizations in training mode or with statistics that are not constant,
    those that share the tensor between them and the weights with other readers, those without a fitting
    neighbour, and leading ones whose offset would have to reach into the zero padding of the next node. What
    is refused stays.

    Attributes:
        leading: whether to fold into the node behind, when the node before cannot take it; the option
            pre_batchnorm_fold=0 switches it off too.
    """

    name: ClassVar[str] = "fold-batch-norm"
    leading: bool = True

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        """See `Pass.run`."""
        tally = Tally()
        leading = self.leading and (ctx.options is None or ctx.options.pre_batchnorm_fold)
        for node in graph:
            if node.op == "BatchNormalization":
                _fold(graph, node, tally, leading=leading)
        return tally.outcome()


def _fold(graph: Graph, node: Node, tally: Tally, *, leading: bool) -> None:
    affine = normalization(node)
    if isinstance(affine, str):
        tally.refuse(node, affine)
        return
    behind = fold_behind(graph, affine)
    if behind is None:
        tally.count("folded")
        return
    if not leading:
        tally.refuse(node, behind)
        return
    ahead = fold_ahead(graph, affine)
    if ahead is None:
        tally.count("folded-ahead")
    else:
        tally.refuse(node, f"Before it: {behind} Behind it: {ahead}")
