"""Sums of products of integers, exactly, in float convolutions and products.

Partial sums of a channel are integers; while the sum of magnitudes stays below 2^24, float32 never rounds.
Where it may not, operands are split: wide ones into a high and a low byte, weights along the channels that
are summed. Parts are added in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import numpy as np

from lowtide.exact.builder import PROVEN, Builder, largest
from lowtide.ir import Array, Node
from lowtide.quantize.numbers import bias_scales
from lowtide.quantize.operands import MacOperands, by_output_channel

BYTE = 256


@attrs.frozen
class Accumulator:
    """The sums of a layer.

    Attributes:
        name: the tensor.
        wide: whether it is float64.
        bound: the largest magnitude that it can have, the bias included.
        activation_bits: width of what was multiplied.
    """

    name: str
    wide: bool
    bound: float
    activation_bits: int = 8


@attrs.frozen(eq=False)
class Product:
    """A multiply-accumulate node whose operands have codes.

    Attributes:
        node: Conv, ConvTranspose, Gemm or MatMul with constant weights.
        source: the tensor with the codes of the activation, less the zero point.
        reach: the largest magnitude of these.
        weights: int64, in the layout of the node, less their zero point.
        bias: int64 ``[C_out]`` in units of the accumulator.
    """

    node: Node
    source: str
    reach: int
    weights: Array
    bias: Array
    activation_bits: int = 8

    @property
    def magnitudes(self) -> Array:
        """The sum of magnitudes of the weights of every output channel, int64 ``[C_out]``."""
        rows: Array = np.abs(by_output_channel(self.node, self.weights))
        sums: Array = rows.sum(axis=1)
        return sums

    @property
    def bound(self) -> int:
        """The largest magnitude that an accumulator can have."""
        return int((self.magnitudes * self.reach + np.abs(self.bias)).max(initial=0))


def product_of(node: Node, operands: MacOperands, source: str) -> Product:
    """Gather what is multiplied; the operands have codes."""
    quant, weights = operands.activation.type.quant, operands.weights
    assert quant is not None  # noqa: S101 - the caller checks
    assert weights.type.quant is not None  # noqa: S101 - the caller checks
    assert weights.constant is not None  # noqa: S101 - weights are constant
    zero = weights.type.quant.zero_point[0]
    codes = weights.constant.array().astype(np.int64) - zero
    return Product(node, source, largest(quant), codes, _bias(node, operands, codes), quant.bits)


def _bias(node: Node, operands: MacOperands, codes: Array) -> Array:
    channels = len(by_output_channel(node, codes))
    bias = operands.bias
    if bias is None or bias.constant is None:
        return np.zeros(channels, np.int64)
    data: Array = bias.constant.array().reshape(-1)
    source, weights = operands.activation.type.quant, operands.weights.type.quant
    if bias.type.quant is None and source is not None and weights is not None:
        # A bias that needs more than 32 bits stays float in the model.
        data = np.rint(data.astype(np.float64) / np.array(bias_scales(source.scale[0], weights)))
    spread: Array = np.broadcast_to(data.astype(np.int64), (channels,))
    return spread


def accumulate(b: Builder, product: Product) -> Accumulator:
    """Add the nodes that sum the products and the bias."""
    if product.bound < PROVEN:
        name = multiply(b, product, product.weights, product.bias)
        return Accumulator(name, wide=False, bound=product.bound, activation_bits=product.activation_bits)
    total: str | None = None
    for source, reach, power in _activation_parts(b, product):
        for weights, exponent in _weight_parts(product.weights):
            for part, piece in _channel_parts(product, source, reach, weights):
                made = multiply(b, attrs.evolve(product, source=part), piece, None)
                scaled = b.wide(made)
                if power * exponent != 1:
                    scaled = b.node("Mul", [scaled, b.constant(power * exponent, np.float64)])
                total = scaled if total is None else b.node("Add", [total, scaled])
    assert total is not None  # noqa: S101 - there is at least one part
    if product.bias.any():
        total = b.node("Add", [total, b.constant(along_channels(product.node, product.bias), np.float64)])
    return Accumulator(total, wide=True, bound=product.bound, activation_bits=product.activation_bits)


def multiply(b: Builder, product: Product, weights: Array, bias: Array | None) -> str:
    """One float32 product with integer weights."""
    node = product.node
    operands = [product.source, b.constant(weights)]
    if node.op == "MatMul":
        made = b.node("MatMul", operands)
        return made if bias is None or not bias.any() else b.node("Add", [made, b.constant(bias)])
    if bias is not None and bias.any():
        operands.append(b.constant(bias))
    return b.node(node.op, operands, attributes_of(node))


def attributes_of(node: Node) -> Mapping[str, Any]:
    """The attributes as onnx.helper takes them; a Gemm that is a layer has no factors."""
    return {key: list(entry) if isinstance(entry, tuple) else entry for key, entry in node.attributes.items()}


def along_channels(node: Node, values: Array) -> Array:
    """Values per output channel in a shape that broadcasts against the result of the node."""
    if node.op in {"Gemm", "MatMul"} or values.size == 1:
        return values
    rank = node.output.type.rank or 4
    return values.reshape((1, -1, *(1,) * (rank - 2)))


def _activation_parts(b: Builder, product: Product) -> Iterator[tuple[str, int, int]]:
    """The activation as parts with their largest magnitude and factor."""
    if product.reach < BYTE:
        yield product.source, product.reach, 1
        return
    scaled = b.node("Mul", [product.source, b.constant(1 / BYTE)])
    high = b.node("Floor", [scaled])
    low = b.node("Sub", [product.source, b.node("Mul", [high, b.constant(BYTE)])])
    yield high, product.reach // BYTE + 1, BYTE
    yield low, BYTE - 1, 1


def _weight_parts(weights: Array) -> Iterator[tuple[Array, int]]:
    """Weights as parts with their factor."""
    if np.abs(weights).max(initial=0) < BYTE:
        yield weights, 1
        return
    high = weights >> 8
    yield high, BYTE
    yield weights - (high << 8), 1


def _channel_parts(product: Product, source: str, reach: int, weights: Array) -> Iterator[tuple[str, Array]]:
    """Pieces along the axis that is summed, each within the proven bound."""
    node = product.node
    bound = int(np.abs(by_output_channel(node, weights)).sum(axis=1).max(initial=0)) * reach
    pieces = bound // PROVEN + 1
    if pieces == 1:
        yield source, weights
        return
    # Zeros instead of slices: the same convolution with some inputs left out, which works for groups too.
    axis = _summed_axis(node)
    size = weights.shape[axis]
    step = -(-size // min(size, 2 * pieces))
    for first in range(0, size, step):
        piece = np.zeros_like(weights)
        index = [slice(None)] * weights.ndim
        index[axis] = slice(first, first + step)
        piece[tuple(index)] = weights[tuple(index)]
        yield source, piece


def _summed_axis(node: Node) -> int:
    match node.op:
        case "Conv":
            return 1
        case "ConvTranspose":
            return 0
        case "Gemm":
            return 1 if node.int_attribute("transB", 0) else 0
        case _:
            return 0
