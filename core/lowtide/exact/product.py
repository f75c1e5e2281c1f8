"""Multiply-accumulate layers: what is multiplied, how far its sums reach, and one product of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from lowtide.exact.builder import Builder, limits
from lowtide.ir import Array, Node
from lowtide.quantize.numbers import bias_scales
from lowtide.quantize.operands import MacOperands, by_output_channel, output_channels

PLANAR = 4
"""Axes of ``[N, C, H, W]``."""


@attrs.frozen(eq=False)
class Accumulator:
    """The sums of a layer.

    Attributes:
        name: the tensor.
        wide: whether it is float64.
        bound: the largest magnitude that it can have, the bias included.
        channels: how many there are along axis 1; 0 where channels are not there.
        planes: the same for ``[N, C, H, W]``, else 0.
        rest: integers that are still to be added, int64 in a shape that broadcasts; `bound` is with them.
    """

    name: str
    wide: bool
    bound: float
    channels: int = 0
    planes: int = 0
    rest: Array | None = None


@attrs.frozen(eq=False)
class Product:
    """A multiply-accumulate node whose operands have codes.

    Attributes:
        node: Conv, ConvTranspose, Gemm or MatMul with constant weights.
        source: the tensor with the codes of the activation, less the zero point.
        window: the lowest and highest of these; 0 lies between.
        weights: int64, in the layout of the node, less their zero point.
        bias: int64 ``[C_out]`` in units of the accumulator; of a MatMul, one for each column.
    """

    node: Node
    source: str
    window: tuple[int, int]
    weights: Array
    bias: Array

    @property
    def channels(self) -> int:
        """How many channels the result has along axis 1; 0 where they are elsewhere."""
        return 0 if self.node.op == "MatMul" else self.bias.size

    @property
    def planes(self) -> int:
        """How many channels a result ``[N, C, H, W]`` has, else 0."""
        return self.channels if self.node.output.type.rank == PLANAR else 0

    @property
    def bound(self) -> int:
        """The largest magnitude that an accumulator can have, in whatever order it is summed."""
        return int((reach_of(self.node, self.weights, self.window) + np.abs(self.bias)).max(initial=0))


def reach_of(node: Node, weights: Array, window: tuple[int, int]) -> Array:
    """The largest magnitude of any partial sum of every output channel, int64 ``[C_out]``.

    With activations from `low` to `high`, around 0, the sum of what is positive bounds it above and that of
    what is negative below. Where weights are several matrices, a column counts as far as it reaches in any.
    """
    rows: Array = by_output_channel(node, weights)
    positive, negative = np.maximum(rows, 0).sum(axis=1), np.maximum(-rows, 0).sum(axis=1)
    low, high = window
    reach: Array = np.maximum(positive * high - negative * low, negative * high - positive * low)
    several = node.op == "MatMul" and weights.ndim > 2
    return reach.reshape(-1, weights.shape[-1]).max(axis=0) if several else reach


def product_of(node: Node, operands: MacOperands, source: str) -> Product:
    """Gather what is multiplied; the operands have codes."""
    quant, weights = operands.activation.type.quant, operands.weights
    assert quant is not None  # noqa: S101 - the caller checks
    assert weights.type.quant is not None  # noqa: S101 - the caller checks
    assert weights.constant is not None  # noqa: S101 - weights are constant
    zero = weights.type.quant.zero_point[0]
    codes = weights.constant.array().astype(np.int64) - zero
    return Product(node, source, limits(quant), codes, _bias(node, operands))


def _bias(node: Node, operands: MacOperands) -> Array:
    channels = output_channels(node, operands)
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


def by_channel(product: Product, factor: Array) -> Array:
    """Factors per output channel in a shape that broadcasts against the weights."""
    node = product.node
    if np.all(factor == factor[0]):
        return np.asarray(factor[0])
    match node.op:
        case "Conv":
            return factor.reshape((-1, *(1,) * (product.weights.ndim - 1)))
        case "Gemm":
            return factor.reshape((-1, 1)) if node.int_attribute("transB", 0) else factor.reshape((1, -1))
        case "ConvTranspose":
            group = node.int_attribute("group", 1)
            inputs, outputs = product.weights.shape[:2]
            by_group = factor.reshape((group, 1, outputs)).repeat(inputs // group, axis=1)
            return by_group.reshape((inputs, outputs, *(1,) * (product.weights.ndim - 2)))
        case _:
            return factor
