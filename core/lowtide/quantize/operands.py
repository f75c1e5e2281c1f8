"""Which operands of a node carry numbers, and which of those are weights."""

from __future__ import annotations

import math

import attrs
import numpy as np

from lowtide.ir import Array, Node, Value

ALL_OPERANDS = frozenset(
    {"Add", "Concat", "Div", "MatMul", "Max", "Mean", "Min", "Mul", "PRelu", "Sub", "Sum", "Where"}
)
"""Operators that compute with every operand; the others compute with the first, told how by the rest."""

MAC_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Multiply-accumulate operators, where they have constant weights."""


@attrs.frozen
class MacOperands:
    """The constant operands of a multiply-accumulate node.

    Attributes:
        activation: what is multiplied.
        weights: the constant that it is multiplied with.
        bias: the constant that is added, if any.
        axis: the axis of `weights` that counts output channels, ``None`` where groups make it ambiguous.
        depthwise: whether every output channel sees one input channel.
    """

    activation: Value
    weights: Value
    bias: Value | None
    axis: int | None
    depthwise: bool


def mac_operands(node: Node) -> MacOperands | None:
    """The operands of a multiply-accumulate node with constant weights, ``None`` for every other node."""
    if node.op not in MAC_OPS:
        return None
    activation, weights = node.operand(0), node.operand(1)
    if activation is None or weights is None or not weights.is_constant or activation.is_constant:
        return None
    bias = node.operand(2)
    if bias is not None and not _is_channel_bias(node, weights, bias):
        return None
    return MacOperands(activation, weights, bias, _channel_axis(node, weights), _is_depthwise(node, weights))


def output_channels(node: Node, operands: MacOperands) -> int:
    """The number of output channels of a multiply-accumulate node; columns of a MatMul, 1 of a vector."""
    return _channel_count(node, operands.weights)


def by_output_channel(node: Node, weights: Array) -> Array:
    """Weights of a multiply-accumulate node as one row for each output channel, ``[C_out, K]``.

    A MatMul whose weights have leading dimensions gets one row for each of their columns.
    """
    match node.op:
        case "Conv":
            rows = weights
        case "ConvTranspose":
            group = node.int_attribute("group", 1)
            inputs, outputs = weights.shape[0] // group, weights.shape[1]
            rows = np.swapaxes(weights.reshape(group, inputs, outputs, -1), 1, 2).reshape(group * outputs, -1)
        case "Gemm":
            rows = weights if node.int_attribute("transB", 0) else weights.T
        case _:
            rows = weights[np.newaxis] if weights.ndim == 1 else np.swapaxes(weights, -1, -2)
            return rows.reshape(-1, rows.shape[-1])
    return rows.reshape(rows.shape[0], -1)


def data_operands(node: Node) -> tuple[int, ...]:
    """Positions of the operands that carry float numbers to compute with."""
    count = len(node.inputs) if node.op in ALL_OPERANDS else 1
    positions = range(min(count, len(node.inputs)))
    return tuple(p for p in positions if (value := node.inputs[p]) is not None and value.type.dtype.is_float)


def _channel_count(node: Node, weights: Value) -> int:
    shape = weights.type.static_shape
    axis = _channel_axis(node, weights)
    if axis is not None:
        return shape[axis]
    if node.op == "ConvTranspose":
        return shape[1] * node.int_attribute("group", 1)
    return shape[-1] if len(shape) > 1 else 1


def _is_channel_bias(node: Node, weights: Value, bias: Value) -> bool:
    """Whether a bias is known and has one entry for each output channel, or one for all."""
    if not bias.is_constant:
        return False
    shape = bias.type.static_shape
    return math.prod(shape) == 1 or math.prod(shape) == shape[-1] == _channel_count(node, weights)


def _channel_axis(node: Node, weights: Value) -> int | None:
    match node.op:
        case "Conv":
            return 0
        case "ConvTranspose":
            # [C_in, C_out / group, …]: with groups one index stands for several output channels.
            return 1 if node.int_attribute("group", 1) == 1 else None
        case "Gemm":
            return 0 if node.int_attribute("transB", 0) else 1
        case _:
            return 1 if weights.type.rank == 2 else None


def _is_depthwise(node: Node, weights: Value) -> bool:
    group = node.int_attribute("group", 1) if node.op == "Conv" else 1
    shape = weights.type.shape
    return group > 1 and shape is not None and shape[1] == 1
