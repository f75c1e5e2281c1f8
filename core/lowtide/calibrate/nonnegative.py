"""Which tensors can never go below zero: for those, the minimum need not be looked for."""

from __future__ import annotations

from lowtide.ir import DType, Graph, Node, Value

ALWAYS = frozenset({"Abs", "Exp", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Softplus", "Sqrt"})
"""Operators whose results are never negative."""

MOVES = frozenset(
    {
        "DepthToSpace",
        "Dropout",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators that copy elements of their first operand."""

KEEPS = frozenset(
    {
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "LeakyRelu",
        "MaxPool",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceSum",
    }
)
"""Operators of the first operand that turn nonnegative numbers into nonnegative numbers."""

COMBINES = frozenset({"Add", "Concat", "Max", "Mean", "Min", "Mul", "Sum"})
"""Operators of several operands that turn nonnegative numbers into nonnegative numbers."""


def provably_nonnegative(graph: Graph) -> frozenset[str]:
    """Names of the activations with no element below 0, whatever the network is fed.

    NaN counts as nothing here; it is found elsewhere.
    """
    known: set[Value] = {value for value in graph.inputs if not value.type.dtype.signed}
    for node in graph:
        if _is_nonnegative(node, known):
            known.update(node.outputs)
    return frozenset(value.name for value in known)


def _is_nonnegative(node: Node, known: set[Value]) -> bool:
    if node.op in ALWAYS:
        return True
    if node.op == "Clip":
        low, high = node.operand(1), node.operand(2)
        if high is not None and not _holds(high, known):  # it wins where the limits are swapped
            return False
        return _holds(node.operand(0), known) or (low is not None and low.is_constant and _holds(low, known))
    if node.op in COMBINES:
        return all(_holds(value, known) for value in node.inputs)
    if node.op in MOVES or node.op in KEEPS or node.op == "Cast":
        return _holds(node.operand(0), known)
    if node.op == "Resize":
        return _holds(node.operand(0), known) and _interpolates(node)
    return node.op == "Pad" and _holds(node.operand(0), known) and _pads_nonnegative(node, known)


def _holds(value: Value | None, known: set[Value]) -> bool:
    if value is None:
        return False
    if value.constant is None:
        return value in known or value.type.dtype == DType.BOOL
    if value.type.quant is not None or not value.constant.has_data:
        return False
    return bool((value.constant.array() >= 0).all())


def _interpolates(node: Node) -> bool:
    """Whether a Resize makes convex combinations only; cubic interpolation overshoots."""
    cropped = node.str_attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    return node.str_attribute("mode", "nearest") in {"nearest", "linear"} and not cropped


def _pads_nonnegative(node: Node, known: set[Value]) -> bool:
    filled = node.str_attribute("mode", "constant") == "constant"
    return not filled or node.operand(2) is None or _holds(node.operand(2), known)
