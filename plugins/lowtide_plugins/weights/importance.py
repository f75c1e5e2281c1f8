"""How much an error in a channel matters at the outputs of a network."""

from __future__ import annotations

import numpy as np

from lowtide.ir import Array, Graph, Node, Value
from lowtide.quantize.operands import mac_operands
from lowtide.runtime import dequantize

JOINING = frozenset({"Add", "Max", "Mean", "Min", "Mul", "Sub", "Sum"})
"""Operators that hand an error of any operand on; what they multiply with is taken as about 1."""


def output_gains(graph: Graph) -> dict[str, Array]:
    """By tensor, the factor from the power of errors in each channel to that of the outputs, float64 ``[C]``.

    Errors of channels and positions are taken as independent: a product with weights W hands on
    g_in[k] = sum over outputs o and taps of W[o, k]^2 g_out[o], everything else hands gains on as they are.
    Tensors whose channels an operator mixes get the mean.

    Source: the diagonal of the Gauss-Newton matrix, propagated backwards as in LeCun et al., Optimal Brain
    Damage, 1989, section 3, with derivatives of activations taken as 1.
    """
    gains: dict[str, Array] = {}
    for value in graph.outputs:
        _add(gains, value, np.ones(_channels(value)))
    for node in reversed(graph.nodes):
        for value in node.outputs:
            if value.name in gains:
                _hand_on(gains, node, gains[value.name])
    return gains


def _hand_on(gains: dict[str, Array], node: Node, out: Array) -> None:
    operands = mac_operands(node)
    if operands is not None and operands.weights.constant is not None:
        quant, data = operands.weights.type.quant, operands.weights.constant.array()
        squares = (data if quant is None else dequantize(data, quant)).astype(np.float64) ** 2
        made = _through_weights(node, squares, out)
        if made is not None:
            _add(gains, operands.activation, made)
            return
    if node.op == "Concat" and node.int_attribute("axis", 1) == 1:
        start = 0
        for value in node.inputs:
            if value is not None:
                _add(gains, value, out[start : start + _channels(value)])
                start += _channels(value)
        return
    read = node.inputs if node.op in JOINING or operands is not None else node.inputs[:1]
    for value in read:
        if value is not None:
            _add(gains, value, out)


def _through_weights(node: Node, squares: Array, out: Array) -> Array | None:
    match node.op:
        case "Conv":
            group = node.int_attribute("group", 1)
            taps = squares.reshape(group, squares.shape[0] // group, squares.shape[1], -1).sum(axis=3)
            made: Array = np.einsum("goc,go->gc", taps, out.reshape(group, -1))
            return made.reshape(-1)
        case "Gemm" if node.int_attribute("transB", 0):
            return np.asarray(squares.T @ out)
        case "Gemm":
            return np.asarray(squares @ out)
        case "MatMul" if squares.ndim == 2 and squares.shape[1] == out.size:
            return np.asarray(squares @ out)
        case "ConvTranspose" if node.int_attribute("group", 1) == 1:
            return np.asarray(squares.reshape(*squares.shape[:2], -1).sum(axis=2) @ out)
        case _:
            return None


def _add(gains: dict[str, Array], value: Value, found: Array) -> None:
    if value.is_constant or not value.type.dtype.is_float:
        return
    count = _channels(value)
    made = found if found.size == count else np.full(count, found.mean() if found.size else 0.0)
    gains[value.name] = gains[value.name] + made if value.name in gains else made


def _channels(value: Value) -> int:
    shape = value.type.shape or ()
    found = shape[1] if len(shape) > 1 else shape[-1] if shape else 1
    return found or 1
