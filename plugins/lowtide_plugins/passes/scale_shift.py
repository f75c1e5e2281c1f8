"""Constant factors and offsets into weights."""

from __future__ import annotations

from typing import ClassVar

import attrs

from lowtide.ir import Graph, Node
from lowtide.passes import Pass, PassContext, PassOutcome
from lowtide_plugins.passes.affine import Affine, elementwise, fold_ahead, fold_behind
from lowtide_plugins.passes.linear import LINEAR
from lowtide_plugins.passes.rewrite import Tally, is_alive


@attrs.frozen(kw_only=True)
class FoldScaleShift(Pass):
    """Folds Mul, Add, Sub and Div with constants into the Conv, ConvTranspose, Gemm or MatMul beside them.

    Precondition: none; MatMul needs inferred shapes. Effect: behind a linear node constants of one number or
    one for each channel go into its weights and bias; between an input of the network and its first linear
    node they go there, which is how mean and scale of the input normalization vanish. Computed in float64 and
    rounded once. It refuses constants that differ within a channel, tensors with other readers, and offsets
    that would have to reach into zero padding. An Add behind a MatMul of a rank other than 2 has nowhere to
    go and stays without a word.
    """

    name: ClassVar[str] = "fold-scale-shift"

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:  # noqa: ARG002 - the graph says it all
        """See `Pass.run`."""
        tally = Tally()
        for node in graph:
            affine = elementwise(node)
            if affine is not None and not _is_plain_offset(affine):
                _fold_behind(graph, affine, tally)
        # From the weights towards the input, so that of two nodes the one beside the weights goes first.
        for node in reversed(graph.nodes):
            affine = elementwise(node) if is_alive(graph, node) else None
            if affine is not None and _follows_input(affine):
                _fold_ahead(graph, affine, tally)
        return tally.outcome()


def _is_plain_offset(affine: Affine) -> bool:
    maker = affine.node.value(affine.operand).producer
    if maker is None or maker.op != "MatMul" or affine.node.op not in {"Add", "Sub"}:
        return False
    return maker.value(0).type.rank != 2


def _fold_behind(graph: Graph, affine: Affine, tally: Tally) -> None:
    maker = affine.node.value(affine.operand).producer
    if maker is None or maker.op not in LINEAR:
        return
    reason = fold_behind(graph, affine)
    if reason is None:
        tally.count("folded")
    else:
        tally.refuse(affine.node, reason)


def _fold_ahead(graph: Graph, affine: Affine, tally: Tally) -> None:
    readers: tuple[Node, ...] = affine.node.output.users
    if not any(reader.op in LINEAR for reader in readers):
        return
    reason = fold_ahead(graph, affine)
    if reason is None:
        tally.count("folded-ahead")
    else:
        tally.refuse(affine.node, reason)


def _follows_input(affine: Affine) -> bool:
    """Whether only factors, offsets and casts stand between the node and an input of the network."""
    value = affine.node.value(affine.operand)
    while value.producer is not None:
        maker = value.producer
        earlier = elementwise(maker)
        if earlier is None and maker.op != "Cast":
            return False
        value = maker.value(earlier.operand if earlier else 0)
    return True
