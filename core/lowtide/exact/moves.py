"""Operators that move codes: what holds for numbers holds for codes less their zero point."""

from __future__ import annotations

import numpy as np

from lowtide.exact.builder import Builder
from lowtide.exact.product import attributes_of
from lowtide.ir import Array, Node

MOVING = frozenset(
    {
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "GatherND",
        "GlobalMaxPool",
        "Identity",
        "MaxPool",
        "Pad",
        "ReduceMax",
        "ReduceMin",
        "Reshape",
        "Resize",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators that give codes of their operands, or zeros; a Resize by interpolation is one of the others."""

FRACTION = 10
"""Bits behind the point of the coordinates of an interpolation."""


def can_move(node: Node) -> bool:
    """Whether the node only moves codes."""
    if node.op == "Resize":
        return node.str_attribute("mode", "nearest") == "nearest"
    if node.op == "Pad":
        mode, padding = node.str_attribute("mode", "constant"), node.operand(2)
        zero = padding is None or (padding.constant is not None and not padding.constant.array().any())
        return mode != "constant" or zero
    return node.op in MOVING


def move(b: Builder, node: Node, operands: list[str]) -> tuple[str, ...]:
    """The node itself on codes."""
    return b.nodes(node.op, operands, len(node.outputs), attributes_of(node))


def can_interpolate(node: Node) -> bool:
    """Whether the node is a bilinear Resize of height and width as TensorFlow Lite has it."""
    mode = node.str_attribute("coordinate_transformation_mode", "half_pixel")
    shape = node.value(0).type.shape
    plane = shape is not None and len(shape) == 4 and shape[:2] == (node.output.type.shape or ())[:2]
    return (
        node.op == "Resize"
        and node.str_attribute("mode", "nearest") == "linear"
        and mode in {"align_corners", "half_pixel", "asymmetric"}
        and plane
    )


def interpolate(b: Builder, node: Node, source: str, zero: int) -> str:
    """Bilinear interpolation of codes with the zero point `zero` by weights of ten bits.

    Source: TensorFlow Lite, ResizeBilinearInteger in its reference kernels.
    """
    mode = node.str_attribute("coordinate_transformation_mode", "half_pixel")
    shape, made = node.value(0).type.static_shape, node.output.type.static_shape
    rows = _weights(shape[2], made[2], mode)
    columns = _weights(shape[3], made[3], mode)

    def compute(codes: Array) -> Array:
        whole = codes.astype(np.int64)
        (left, before), (right, behind) = columns
        (upper, above), (lower, below) = rows
        across = whole[..., left] * before + whole[..., right] * behind
        total = across[..., upper, :] * above[:, np.newaxis] + across[..., lower, :] * below[:, np.newaxis]
        # Ties go away from code 0, not from the zero point.
        return (_rounded(total + (zero << 2 * FRACTION)) - zero).astype(np.float32)

    return b.step(compute, source)


def _weights(size: int, made: int, mode: str) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The lower and upper neighbour of every result with their weights, which add up to 2^10."""
    one = 1 << FRACTION
    scale = (one * size + made // 2) // made
    if mode == "align_corners" and made > 1:
        scale = (one * (size - 1) + (made - 1) // 2) // (made - 1)
    at = np.arange(made) * scale
    if mode == "half_pixel":
        at += scale // 2 - one // 2
    lower = np.maximum(at >> FRACTION, 0)
    upper = np.minimum((at + one - 1) >> FRACTION, size - 1)
    part = at - one * lower
    return (lower, one - part), (upper, part)


def _rounded(total: Array) -> Array:
    """By 2^20 to the nearest, ties away from zero."""
    unit = 1 << 2 * FRACTION
    size = (np.abs(total) + unit // 2) // unit
    rounded: Array = np.sign(total) * size
    return rounded
