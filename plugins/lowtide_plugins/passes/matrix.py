"""The canonical matrix product: a Gemm with weights `[N, K]`, transB=1, alpha=beta=1 and a bias `[N]`."""

from __future__ import annotations

import attrs

from lowtide.ir import Graph, Node, TensorType
from lowtide_plugins.passes.affine import elementwise, fold_behind
from lowtide_plugins.passes.linear import linear
from lowtide_plugins.passes.rewrite import Tally, array_of


def canonical_gemm(graph: Graph, node: Node, tally: Tally) -> None:
    """Fold alpha and beta into constant weights and bias, and move transA into a Transpose.

    Source: ONNX operator Gemm, opset 13.
    """
    weights = node.operand(1)
    if node.op != "Gemm" or node.layer or _is_canonical(node):
        return
    if weights is None or weights.type.quant is not None:
        return
    found = linear(node)
    if isinstance(found, str):
        if node.float_attribute("alpha", 1.0) != 1 or node.float_attribute("beta", 1.0) != 1:
            tally.refuse(node, f"alpha and beta stay: {found}")
        return
    if node.int_attribute("transA", 0) and not _transpose_first(graph, node, tally):
        return
    found.write(graph)
    tally.count("gemm")


def _is_canonical(node: Node) -> bool:
    bias = node.operand(2)
    return (
        node.int_attribute("transA", 0) == 0
        and node.int_attribute("transB", 0) == 1
        and node.float_attribute("alpha", 1.0) == 1
        and node.float_attribute("beta", 1.0) == 1
        and (bias is None or bias.type.shape == (node.value(1).type.shape or (None,))[:1])
    )


def _transpose_first(graph: Graph, node: Node, tally: Tally) -> bool:
    source = node.value(0)
    if source.type.quant is not None and source.type.quant.axis is not None:
        tally.refuse(node, f"{source.name} has scales per channel; it would have to have one scale.")
        return False
    shape = source.type.shape
    turned: TensorType = attrs.evolve(source.type, shape=None if shape is None else shape[::-1])
    name = graph.fresh_name(f"{source.name}_transposed")
    made = graph.add_node(
        "Transpose", [source], [(name, turned)], {"perm": (1, 0)}, location=node.location, before=node
    )
    graph.set_input(node, 0, made.output)
    graph.set_attribute(node, "transA", None)
    return True


def gemm_of_matmul(graph: Graph, node: Node, tally: Tally) -> None:
    """MatMul of a matrix with a constant, and the Add of a constant behind it, become one Gemm."""
    affine = elementwise(node) if node.op == "Add" else None
    maker = node.value(affine.operand).producer if affine is not None else None
    if affine is None or maker is None or maker.op != "MatMul" or maker.value(0).type.rank != 2:
        return
    if array_of(maker.operand(1)) is None:
        return
    reason = fold_behind(graph, affine)
    if reason is None:
        tally.count("matmul-to-gemm")
    else:
        tally.refuse(node, reason)
