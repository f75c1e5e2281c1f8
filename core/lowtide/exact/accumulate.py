"""Sums of products of integers, exactly, in float convolutions and products.

Partial sums of a channel are integers; while the sum of magnitudes stays below 2^24, float32 never rounds.
Where it may not, operands are split: wide ones into digits, weights along the channels that are summed. Parts
are added in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import reduce

import attrs
import numpy as np

from lowtide.exact.builder import PROVEN, Builder
from lowtide.exact.product import (
    PLANAR,
    Accumulator,
    Product,
    along_channels,
    attributes_of,
    multiply,
    reach_of,
)
from lowtide.ir import Array, Node

BYTE = 256

SHORT = ((6, 4), (6, 5), (7, 4))
"""Bits of the lower digits of activations and weights that may leave two sums."""

MANTISSA = 1 << 53
"""Integers of smaller magnitude add up in float64 without rounding."""


@attrs.frozen(eq=False)
class Terms:
    """What the sums of a layer are made of.

    Attributes:
        names: tensors; where the layer has planes, rows of them give the same rows of the sums.
        join: adds the nodes that give the sums, to tensors like these.
    """

    names: tuple[str, ...]
    join: Callable[[Sequence[str]], Accumulator]


def terms_of(b: Builder, product: Product) -> Terms:
    """Add the nodes of a layer up to where its sums are in float32, or begin to be in float64."""
    if product.bound < PROVEN:
        name = multiply(b, product, product.weights, product.bias)
        narrow = Accumulator(name, False, product.bound, product.channels, product.planes)
        return Terms((name,), lambda names: attrs.evolve(narrow, name=names[0]))
    if product.bound < MANTISSA and _is_matrix_product(product):
        return Terms(
            (product.source,), lambda names: _without_bias(b, product, _in_float64(b, product, *names))
        )
    alone = attrs.evolve(product, bias=np.zeros_like(product.bias))
    parts = _in_two_sums(b, alone) or [
        _Part(attrs.evolve(alone, source=source, window=window, weights=piece), power * exponent)
        for source, window, power in _activation_parts(b, alone)
        for weights, exponent in _weight_parts(product.weights)
        for piece in _pieces(product.node, weights, window)
    ]
    sums = tuple(_sum_of(b, group) for group in _together(parts))

    def join(names: Sequence[str]) -> Accumulator:
        first, *others = map(b.wide, names)
        return _without_bias(
            b, product, reduce(lambda total, name: b.node("Add", [total, name]), others, first)
        )

    return Terms(sums, join)


def _without_bias(b: Builder, product: Product, name: str) -> Accumulator:
    """Sums in float64; the bias is left to the pass over memory that scales channels."""
    found = Accumulator(name, True, product.bound, product.channels, product.planes)
    if product.bias.any():
        found = attrs.evolve(found, rest=along_channels(product.node, product.bias))
    return found if product.channels else settled(b, found)


def settled(b: Builder, found: Accumulator) -> Accumulator:
    """The same sums with nothing missing."""
    if found.rest is None:
        return found
    total = b.node("Add", [found.name, b.constant(found.rest, np.float64)])
    return attrs.evolve(found, name=total, rest=None)


@attrs.frozen(eq=False)
class _Part:
    """A product that counts so many times."""

    product: Product
    power: int


def _together(parts: list[_Part]) -> list[list[_Part]]:
    """Parts whose sum is still exact in float32, counted in the smallest power."""
    groups: list[list[_Part]] = []
    for part in parts:
        for group in groups:
            together = [*group, part]
            bound = sum(one.product.bound * one.power for one in together)
            if bound < PROVEN * min(one.power for one in together):
                group.append(part)
                break
        else:
            groups.append([part])
    return groups


def _sum_of(b: Builder, group: list[_Part]) -> str:
    """The sum of parts in float32; times a power of two it keeps its bits, so nothing else multiplies."""
    made = [multiply(b, part.product, part.product.weights * part.power, None) for part in group]
    return reduce(lambda total, name: b.node("Add", [name, total]), made)


def _is_matrix_product(product: Product) -> bool:
    """Whether a layer is the product of two matrices.

    ONNX Runtime has no convolution in float64, but one such product takes less time than several of parts.
    """
    node, shape = product.node, product.node.output.type.shape
    if node.op in {"Gemm", "MatMul"}:
        return True
    one = product.planes > 0 and shape is not None and shape[0] == 1
    return one and _is_pointwise(node, product.weights)


def _in_float64(b: Builder, product: Product, source: str) -> str:
    """The product of two matrices."""
    node = product.node
    if node.op in {"Gemm", "MatMul"}:
        return b.node(node.op, [b.wide(source), b.constant(product.weights, np.float64)], attributes_of(node))
    rows = product.weights[:, :, 0, 0]
    columns = b.node("Reshape", [source, b.constant(np.array([rows.shape[1], -1]), np.int64)])
    made = b.node("MatMul", [b.constant(rows, np.float64), b.wide(columns)])
    width = node.output.type.static_shape[3]
    return b.node("Reshape", [made, b.constant(np.array([1, len(rows), -1, width]), np.int64)])


def _is_pointwise(node: Node, weights: Array) -> bool:
    """Whether a convolution sees one place at a time, and all of them."""
    plain = all(entry == 1 for entry in node.ints_attribute("strides"))
    padded = any(node.ints_attribute("pads")) or node.int_attribute("group", 1) > 1
    return node.op == "Conv" and math.prod(weights.shape[2:]) == 1 and plain and not padded


def _in_two_sums(b: Builder, product: Product) -> list[_Part] | None:
    """Parts of which two sums are exact in float32; ``None`` where they are more.

    Only the upper digit of the activation needs weights in digits, and few of these bits, so that what the
    lower digit of the weights counts is in the range of the sum of the lower digit of the activation.
    """
    node, weights = product.node, product.weights
    planar = product.planes > 0 and node.value(0).type.rank == PLANAR
    if not planar or _is_narrow(product.window) or np.abs(weights).max(initial=0) < BYTE:
        return None
    low, high = product.window
    for bits, bits_of_weights in SHORT:
        base, half = 1 << bits, 1 << (bits - 1)
        upper, lower = ((low - half) // base, (high + half) // base), (-half, half)
        above = (weights + (1 << (bits_of_weights - 1))) >> bits_of_weights
        rest = weights - (above << bits_of_weights)
        behind = base * reach_of(node, rest, upper) + reach_of(node, weights, lower)
        if max(reach_of(node, above, upper).max(), behind.max()) < PROVEN:
            sources = b.split(product.source, node.value(0).type.static_shape[1], base)
            return [
                _Part(attrs.evolve(product, source=sources[at], window=window, weights=digit), power)
                for at, window, digit, power in (
                    (1, upper, above, base << bits_of_weights),
                    (1, upper, rest, base),
                    (0, lower, weights, 1),
                )
            ]
    return None


def _is_narrow(window: tuple[int, int]) -> bool:
    """Whether an activation is a digit by itself."""
    return max(-window[0], window[1]) < BYTE


def _activation_parts(b: Builder, product: Product) -> Iterator[tuple[str, tuple[int, int], int]]:
    """The activation as parts with their limits and factor, that with the largest factor first."""
    low, high = product.window
    if _is_narrow(product.window):
        yield product.source, product.window, 1
        return
    if product.planes and product.node.value(0).type.rank == PLANAR:
        lower, upper = b.split(product.source, product.node.value(0).type.static_shape[1], BYTE)
        yield upper, ((low - BYTE // 2) // BYTE, (high + BYTE // 2) // BYTE), BYTE
        yield lower, (-BYTE // 2, BYTE // 2), 1
        return
    scaled = b.node("Mul", [product.source, b.constant(1 / BYTE)])
    upper = b.node("Floor", [scaled])
    lower = b.node("Sub", [product.source, b.node("Mul", [upper, b.constant(BYTE)])])
    yield upper, (low // BYTE, high // BYTE), BYTE
    yield lower, (0, BYTE - 1), 1


def _weight_parts(weights: Array) -> Iterator[tuple[Array, int]]:
    """Weights as parts with their factor."""
    if np.abs(weights).max(initial=0) < BYTE:
        yield weights, 1
        return
    high = weights >> 8
    yield high, BYTE
    yield weights - (high << 8), 1


def _pieces(node: Node, weights: Array, window: tuple[int, int]) -> Iterator[Array]:
    """The weights in pieces along the axis that is summed, each within the proven bound.

    What another piece has is zero, which keeps the shape and works for groups too.
    """
    count = int(reach_of(node, weights, window).max(initial=0)) // PROVEN + 1
    if count == 1:
        yield weights
        return
    axis = _summed_axis(node)
    size = weights.shape[axis]
    step = -(-size // min(size, 2 * count))
    for first in range(0, size, step):
        piece = np.zeros_like(weights)
        index = [slice(None)] * weights.ndim
        index[axis] = slice(first, first + step)
        piece[tuple(index)] = weights[tuple(index)]
        yield piece


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
