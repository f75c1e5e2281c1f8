"""Where NaN has to be looked for, so that none gets lost.

A global maximum does not notice NaN, and an average of every tensor would cost as much again. But NaN passes
through most operators: it is enough to look where the next operators might lose it.
"""

from __future__ import annotations

from collections.abc import Collection

from lowtide.ir import Graph, Node, Value

POINTWISE = frozenset(
    {
        "Add",
        "BatchNormalization",
        "Clip",
        "Concat",
        "Flatten",
        "Identity",
        "Mul",
        "Relu",
        "Reshape",
        "Squeeze",
    }
    | {"GlobalAveragePool", "Sub", "Transpose", "Unsqueeze"}
)
"""Operators whose results hold NaN if any element of an operand is NaN."""

WINDOWED = frozenset({"AveragePool", "Conv"})
"""Operators that do so for the elements that a window covers; strides may skip some."""


def watch_points(graph: Graph, seen: Collection[str], reduced: Collection[str]) -> frozenset[str]:
    """The tensors whose elements must be checked for NaN, such that NaN in any observed tensor is found.

    Args:
        graph: a graph whose outputs are the observed tensors.
        seen: observed tensors that are returned whole, and so checked anyway.
        reduced: observed tensors of which only the extremes are returned.

    Returns:
        The members of `reduced` from which NaN might not reach a checked tensor.
    """
    covered: set[Value] = set()
    chosen: set[str] = set()
    for node in reversed(graph.nodes):
        for value in node.outputs:
            if value.name not in seen and not _reaches(value, covered):
                if value.name not in reduced:
                    continue
                chosen.add(value.name)
            covered.add(value)
    return frozenset(chosen)


def _reaches(value: Value, covered: set[Value]) -> bool:
    return any(
        use.node.output in covered and _carries(use.node, use.operand)
        for use in value.uses
        # Several results share the operand's elements among them, so no single one must hold the NaN.
        if len(use.node.outputs) == 1
    )


def _carries(node: Node, operand: int) -> bool:
    if node.op in POINTWISE:
        return operand == 0 or node.op in {"Add", "Concat", "Mul", "Sub"}
    return node.op in WINDOWED and operand == 0 and _covers_all(node)


def _covers_all(node: Node) -> bool:
    """Whether every element of the first operand lies in some window."""
    source, result = node.value(0).type, node.output.type
    if not (source.is_static and result.is_static) or node.str_attribute("auto_pad", "NOTSET") != "NOTSET":
        return False
    if node.int_attribute("ceil_mode", 0):
        return False
    kernel = node.ints_attribute("kernel_shape") or node.value(1).type.static_shape[2:]
    spatial = len(kernel)
    strides = node.ints_attribute("strides", [1] * spatial)
    pads = node.ints_attribute("pads", [0] * 2 * spatial)
    if any(step != 1 for step in node.ints_attribute("dilations", [1] * spatial)):
        return False
    sizes, counts = source.static_shape[2:], result.static_shape[2:]
    return all(
        stride <= width and (count - 1) * stride + width - pad >= size
        for width, stride, pad, size, count in zip(kernel, strides, pads, sizes, counts, strict=False)
    )
