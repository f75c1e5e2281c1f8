"""Canonical forms of single elementwise and reducing nodes."""

from __future__ import annotations

import attrs
import numpy as np

from lowtide.ir import Array, Constant, DType, Graph, Node, TensorType
from lowtide_plugins.passes.reshapes import target_shape
from lowtide_plugins.passes.rewrite import Tally, add_shape, array_of, become, float_like, ints_of


def add_of_sub(graph: Graph, node: Node, tally: Tally) -> None:
    """Sub(x, c) becomes Add(x, -c), which is exact."""
    data = _float_constant(node) if node.op == "Sub" else None
    if data is not None:
        _swap(graph, node, "Add", -data, "negated")
        tally.count("sub-to-add")


def mul_of_div(graph: Graph, node: Node, tally: Tally) -> None:
    """Div(x, c) becomes Mul(x, 1/c); 1/c is rounded once, from float64."""
    data = _float_constant(node) if node.op == "Div" else None
    if data is None:
        return
    with np.errstate(divide="ignore"):
        inverse = float_like(1.0 / data.astype(np.float64), DType.from_numpy(data.dtype))
    if not np.isfinite(inverse).all():
        tally.refuse(node, "it divides by zero or next to zero; the inverse would have to be finite.")
        return
    _swap(graph, node, "Mul", inverse, "inverse")
    tally.count("div-to-mul")


def _float_constant(node: Node) -> Array | None:
    first, data = node.operand(0), array_of(node.operand(1))
    dynamic = first is not None and not first.is_constant
    return data if dynamic and data is not None and data.dtype.kind == "f" else None


def _swap(graph: Graph, node: Node, op: str, data: Array, what: str) -> None:
    name = graph.fresh_name(f"{node.value(1).name}_{what}")
    graph.set_input(node, 1, graph.add_constant(name, Constant.of(np.asarray(data))))
    node.op = op


def pool_of_mean(graph: Graph, node: Node, tally: Tally) -> None:
    """ReduceMean over all axes but the first two becomes GlobalAveragePool, with a Reshape where the axes go.

    Only from rank 4 on: over the last axis of `[N, T, C]` it is part of a layer normalization.

    Source: ONNX operators ReduceMean, opset 18, and GlobalAveragePool, opset 1.
    """
    if node.op != "ReduceMean" or node.layer:
        return
    if node.output.type.quant is not None:
        return  # devices round a quantized mean in another way than a pool
    source = node.value(0)
    rank, axes = source.type.rank, ints_of(node.operand(1))
    if rank is None or rank < 4 or source.type.shape is None:
        return
    if axes is None:
        if node.operand(1) is not None:
            tally.refuse(node, "its axes would have to be constant.")
        return
    if {axis % rank for axis in axes} != set(range(2, rank)):
        return
    pooled = attrs.evolve(node.output.type, shape=(*source.type.shape[:2], *(1,) * (rank - 2)))
    if node.int_attribute("keepdims", 1):
        become(graph, node, "GlobalAveragePool", [source])
        graph.retype(node.output, pooled)
    elif not _pool_and_reshape(graph, node, pooled):
        tally.refuse(node, "more than one dimension of its result is unknown, so that no Reshape can follow.")
        return
    tally.count("mean-to-pool")


def _pool_and_reshape(graph: Graph, node: Node, pooled: TensorType) -> bool:
    result = node.output
    dims = target_shape(attrs.evolve(pooled, shape=(pooled.shape or ())[:2]))
    if dims is None:
        return False
    name = graph.fresh_name(f"{result.name}_pooled")
    pool = graph.add_node(
        "GlobalAveragePool", [node.value(0)], [(name, pooled)], location=node.location, before=node
    )
    become(graph, node, "Reshape", [pool.output, add_shape(graph, f"{result.name}_shape", dims)])
    return True
