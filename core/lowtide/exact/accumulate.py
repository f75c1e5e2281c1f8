"""Sums of products of integers, exactly, in float convolutions and products.

Partial sums of a channel are integers; while the sum of magnitudes stays below 2^24, float32 never rounds.
Where it may not, operands are split: wide ones into a high and a low byte, weights along the channels that
are summed. Parts are added in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

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


def accumulate(b: Builder, product: Product) -> Accumulator:
    """Add the nodes that sum the products and the bias."""
    if product.bound < PROVEN:
        name = multiply(b, product, product.weights, product.bias)
        return Accumulator(name, False, product.bound, product.channels, product.planes)
    if product.bound < MANTISSA and (made := _in_float64(b, product)):
        return _with_rest(b, made, product, product.bias)
    parts = _in_two_sums(b, product) or [
        _Part(attrs.evolve(product, source=source, window=window, weights=piece), power * exponent)
        for source, window, power in _activation_parts(b, product)
        for weights, exponent in _weight_parts(product.weights)
        for piece in _pieces(product.node, weights, window)
    ]
    parts, rest = _with_bias(parts, product.bias)
    total: str | None = None
    for group in _together(parts):
        made = b.wide(_sum_of(b, group, product.bias))
        total = made if total is None else b.node("Add", [total, made])
    assert total is not None  # noqa: S101 - there is at least one part
    return _with_rest(b, total, product, rest)


def _with_rest(b: Builder, name: str, product: Product, rest: Array) -> Accumulator:
    """Sums in float64; what is still missing is left to the pass over memory that scales channels."""
    found = Accumulator(name, True, product.bound, product.channels, product.planes)
    if rest.any():
        found = attrs.evolve(found, rest=along_channels(product.node, rest))
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


def _sum_of(b: Builder, group: list[_Part], unplaced: Array) -> str:
    """The sum of parts in float32; times a power of two it keeps its bits, so nothing else multiplies."""
    total: str | None = None
    for part in group:
        bias = None if part.product.bias is unplaced else part.product.bias * part.power
        made = multiply(b, part.product, part.product.weights * part.power, bias)
        total = made if total is None else b.node("Add", [total, made])
    assert total is not None  # noqa: S101 - a group has a part
    return total


def _with_bias(parts: list[_Part], bias: Array) -> tuple[list[_Part], Array]:
    """The bias as digits of the first part and of that which counts least, if they have room; the rest."""
    first, last = parts[0], min(parts, key=lambda part: part.power)
    upper = np.rint(bias / first.power).astype(np.int64) if first is not last else np.zeros_like(bias)
    fitted = {
        id(part): attrs.evolve(part.product, bias=digits)
        for part, digits in ((first, upper), (last, bias - upper * first.power))
    }
    if any(made.bound >= PROVEN for made in fitted.values()) or parts[0].product.node.op == "MatMul":
        return parts, bias
    none = np.zeros_like(bias)
    placed = [fitted.get(id(part)) or attrs.evolve(part.product, bias=none) for part in parts]
    return [_Part(made, part.power) for made, part in zip(placed, parts, strict=True)], none


def _in_float64(b: Builder, product: Product) -> str | None:
    """Matrices, and convolutions that are products with one, in float64, without bias; ``None`` for others.

    ONNX Runtime has no convolution in float64, but one such product takes less time than several of parts.
    """
    node, wide = product.node, b.wide
    if node.op in {"Gemm", "MatMul"}:
        operands = [wide(product.source), b.constant(product.weights, np.float64)]
        return b.node(node.op, operands, attributes_of(node))
    shape = node.output.type.shape
    if not product.planes or shape is None or shape[0] != 1 or not _is_pointwise(node, product.weights):
        return None
    rows = product.weights[:, :, 0, 0]
    columns = b.node("Reshape", [product.source, b.constant(np.array([rows.shape[1], -1]), np.int64)])
    made = b.node("MatMul", [b.constant(rows, np.float64), wide(columns)])
    return b.node("Reshape", [made, b.constant(np.array(shape), np.int64)])


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
    if not product.planes or node.value(0).type.rank != PLANAR or _is_narrow(product.window):
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
