"""From accumulators to codes, as nodes."""

from __future__ import annotations

import attrs
import numpy as np
import onnx

from lowtide.exact.accumulate import Accumulator, Product, accumulate, along_channels, multiply
from lowtide.exact.builder import PROVEN, Builder
from lowtide.exact.fixedpoint import (
    Multiplier,
    Rounding,
    multiply_integers,
    quantize_multiplier,
    reduced,
)
from lowtide.exact.profile import Requantize
from lowtide.ir import Array

MANTISSA = 2.0**53
"""Integers of smaller magnitude are exact in float64."""

NUDGED = 1 << 9
"""Codes below which ties can be decided by a nudge in float32."""

LONGEST_NUDGED = 12
"""Bits of a rounding shift up to which ties can be decided by a nudge in float32."""

LARGEST_MANTISSA = 2.0**31
"""Above the mantissa of every multiplier."""


@attrs.frozen
class Window:
    """The codes less the zero point that a layer may give: those of its type within its activation."""

    low: int
    high: int


def requantize_product(b: Builder, product: Product, scales: Array, how: Requantize, window: Window) -> str:
    """Accumulate and requantize.

    Args:
        b: where nodes go.
        product: what is multiplied.
        scales: accumulator scale by output scale, float64, one or one per channel.
        how: see `lowtide.exact.profile.Profile`.
        window: what the result is limited to.
    """
    if how == "shift" and product.bound < PROVEN // 2:
        return _folded_shift(b, product, scales, window)
    found = accumulate(b, product)
    shaped = along_channels(product.node, np.asarray(scales, np.float64))
    return requantize(b, found, shaped, how, window)


def _folded_shift(b: Builder, product: Product, scales: Array, window: Window) -> str:
    """Powers of two move into weights and bias, where they change no mantissa; then round down and limit."""
    factor = np.broadcast_to(np.asarray(scales, np.float64).reshape(-1), product.bias.shape)
    weights = product.weights * _by_channel(product, factor)
    # Half a step makes rounding down to rounding to nearest, but a factor of 1 rounds nothing.
    bias = product.bias * factor + np.where(factor < 1, 0.5, 0.0)
    # Limits that are integers may come before rounding, where they fuse with the convolution.
    return b.node("Floor", [b.clip(multiply(b, product, weights, bias), window.low, window.high)])


def _by_channel(product: Product, factor: Array) -> Array:
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


def requantize(b: Builder, found: Accumulator, scales: Array, how: Requantize, window: Window) -> str:
    """Integers times scales, rounded and limited; `scales` broadcast against the accumulator."""
    if how == "float32":
        narrow = b.narrow(found.name) if found.wide else found.name
        limited = b.clip(b.node("Mul", [narrow, b.constant(scales)]), window.low, window.high)
        return b.round(limited, max(window.high, -window.low))
    if how in {"double", "single"} and found.bound * LARGEST_MANTISSA >= MANTISSA:
        found = _saturated(b, found, scales, window)
    wide = found.name if found.wide else b.wide(found.name)
    if how == "shift":
        scaled = b.node("Mul", [wide, b.constant(scales, np.float64)])
        made = b.node("Floor", [b.node("Add", [scaled, b.constant(0.5, np.float64)])])
    else:
        if how != "full":
            by = quantize_multiplier(scales)
            one: Requantize = how if how == "double" else "single"
            by = reduced(by) if how == "reduced" else by
            return _multiplied(b, attrs.evolve(found, name=wide), by, one, window)
        # The product has more bits than float64; what it loses is far behind the point.
        fraction, exponent = np.frexp(np.asarray(scales, np.float64))
        factor = np.ldexp(np.floor(fraction * LARGEST_MANTISSA + 0.5), exponent - 31)
        scaled = b.node("Mul", [wide, b.constant(factor, np.float64)])
        made = b.node("Floor", [b.node("Add", [scaled, b.constant(0.5, np.float64)])])
    return b.narrow(b.clip(made, window.low, window.high, np.float64))


def _saturated(b: Builder, found: Accumulator, scales: Array, window: Window) -> Accumulator:
    """Cut off accumulators that saturate in every channel anyway, so that fewer bits are multiplied."""
    most = max(window.high, -window.low) + 2
    smallest = float(np.asarray(scales).min(initial=1.0))
    limit = np.ceil(most / smallest) if smallest > 0 else np.inf
    if limit >= found.bound or limit >= PROVEN:
        return found
    kind = np.float64 if found.wide else np.float32
    return attrs.evolve(found, name=b.clip(found.name, -limit, limit, kind), bound=float(limit))


def _multiplied(b: Builder, found: Accumulator, by: Multiplier, how: Requantize, window: Window) -> str:
    """By nodes where products fit the mantissa of float64, else by integers."""
    wide = found.name
    left = np.maximum(by.shift, 0)
    largest = found.bound * (by.mantissa.astype(np.float64) * np.exp2(left)).max(initial=0)
    if largest < MANTISSA:
        return _fixed(b, found, by, how, window)

    def compute(values: Array) -> Array:
        rounding: Rounding = "single" if how == "single" else "double"
        return multiply_integers(values.astype(np.int64), by, rounding).astype(np.float32)

    b.types[wide] = onnx.TensorProto.DOUBLE
    return b.clip(b.step(compute, wide), window.low, window.high)


def _fixed(b: Builder, found: Accumulator, by: Multiplier, how: Requantize, window: Window) -> str:
    """A 31-bit multiplier in float64, where the product fits its mantissa; the result is float32."""

    def limited(name: str) -> str:
        return b.clip(b.narrow(name), window.low, window.high)

    if how == "single":
        factor = np.ldexp(by.mantissa.astype(np.float64), (by.shift - 31).astype(np.int32))
        scaled = b.node("Mul", [found.name, b.constant(factor, np.float64)])
        return limited(b.node("Floor", [b.node("Add", [scaled, b.constant(0.5, np.float64)])]))
    left = np.maximum(by.shift, 0).astype(np.int32)
    factor = np.ldexp(by.mantissa.astype(np.float64), left - 31)
    high = b.node("Mul", [found.name, b.constant(factor, np.float64)])
    if _never_ties(by, left, found.bound):
        high = b.round(high, found.bound * float(factor.max(initial=0)), np.float64)
    else:
        high = b.node("Floor", [b.node("Add", [high, b.constant(0.5, np.float64)])])
    right = np.maximum(-by.shift, 0).astype(np.int32)
    if not right.any():
        return limited(high)
    small = max(window.high, -window.low) < NUDGED
    if small and right.max() <= LONGEST_NUDGED and found.bound * factor.max(initial=0) < PROVEN // 2:
        return _nudged(b, high, right, window)
    shifted = b.node("Mul", [high, b.constant(np.ldexp(1.0, -right), np.float64)])
    size = b.node("Floor", [b.node("Add", [b.node("Abs", [shifted]), b.constant(0.5, np.float64)])])
    return limited(b.node("Mul", [b.node("Sign", [shifted]), size]))


def _never_ties(by: Multiplier, left: Array, bound: float) -> bool:
    """Whether integer * mantissa * 2^left is never an odd multiple of 2^30.

    With t zeros at the end of the mantissa the integer would have to be a multiple of 2^(30 - left - t).
    """
    mantissa = np.asarray(by.mantissa)
    lowest = np.where(mantissa > 0, mantissa & -mantissa, 1)
    return bool(np.all(bound < np.ldexp(1.0, 30 - left) / lowest))


def _nudged(b: Builder, high: str, right: Array, window: Window) -> str:
    """A rounding shift, ties away from zero, in float32: numbers are made larger by less than one step.

    Rounding to nearest then takes ties away from zero, and no other number crosses a half: below 2^9, beyond
    which codes saturate, the nudge is below 2^-12.6, and shifted integers are 2^-12 apart or more.
    """
    nudge = np.ldexp(1.0, -right) * (1 + 2.0**-22)
    shifted = b.node("Mul", [b.narrow(high), b.constant(nudge)])
    return b.round(b.clip(shifted, window.low, window.high), max(window.high, -window.low))
