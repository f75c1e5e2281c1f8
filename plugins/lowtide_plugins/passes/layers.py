"""Layers: groups of nodes that the device executes as one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs

from lowtide.ir import Graph, Node, Value
from lowtide.passes import Pass, PassContext, PassOutcome
from lowtide_plugins.passes.facts import bounds
from lowtide_plugins.passes.patterns import gelu, layer_norm, silu
from lowtide_plugins.passes.rewrite import Tally, array_of, obstacle

HEADS = frozenset(
    {
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Conv",
        "ConvTranspose",
        "Div",
        "Gemm",
        "GlobalAveragePool",
        "MatMul",
        "Max",
        "Min",
        "Mul",
        "Sub",
    }
)
"""Operators that a Relu or Clip joins; MatMul and Gemm only with constant weights."""


@attrs.frozen(kw_only=True)
class FuseLayers(Pass):
    """Groups nodes into layers, named after the last output tensor, by setting `Node.layer`.

    Precondition: constants are folded. Effect: a Relu or Clip joins the convolution, matrix product with
    constant weights, elementwise operator, normalization or average pool before it; the nodes of GELU and
    LayerNorm written out, and with `silu` those of SiLU, become a layer each. Nodes that have a layer stay in
    it. It refuses activations whose operand is read elsewhere, returned or quantized, a Clip without constant
    limits min <= 0 < max (the limits are codes of the result, among which 0.0 has to be), and activations
    that the option deny_list:layer_type sends to the host.

    Attributes:
        silu: whether Sigmoid and the Mul behind it form a layer.
    """

    name: ClassVar[str] = "fuse-layers"
    silu: bool = False

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        """See `Pass.run`."""
        tally = Tally()
        for node in graph:
            for what, match in (("gelu", gelu), ("layer-norm", layer_norm), ("silu", silu)):
                nodes = match(graph, node) if what != "silu" or self.silu else None
                if nodes is not None and not any(member.layer for member in nodes):
                    _group(nodes)
                    tally.count(what)
        for node in graph:
            if node.op in {"Relu", "Clip"} and not node.layer:
                if ctx.options is not None and node.op in ctx.options.deny_list_layer_type:
                    tally.refuse(node, "deny_list:layer_type sends it to the host.")
                else:
                    self._join(graph, node, tally)
        return tally.outcome()

    def _join(self, graph: Graph, node: Node, tally: Tally) -> None:
        head = node.value(0).producer
        if head is None or not _is_head(head):
            return
        reason = obstacle(graph, head, node) or _limits_objection(node)
        if reason is None:
            _group([head, node])
            tally.count("activation")
        else:
            tally.refuse(node, reason)


def _group(nodes: Sequence[Node]) -> None:
    for node in nodes:
        node.layer = nodes[-1].output.name


def _is_head(node: Node) -> bool:
    if node.op in {"Gemm", "MatMul"}:
        return _is_constant(node.operand(1))
    return node.op in HEADS


def _is_constant(value: Value | None) -> bool:
    return value is not None and value.is_constant


def _limits_objection(node: Node) -> str | None:
    if any(value is not None and array_of(value) is None for value in node.inputs[1:]):
        return "its limits would have to be constants."
    limits = bounds(node)
    if limits is None or not limits[0] <= 0 < limits[1]:
        return f"its limits are {limits}; they would have to be min <= 0 < max."
    return None
