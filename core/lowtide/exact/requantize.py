"""From accumulators to codes, as nodes."""

from __future__ import annotations

import math

import attrs
import numpy as np
import onnx

from lowtide.exact.accumulate import settled, terms_of
from lowtide.exact.builder import MAGIC, PROVEN, Builder, Window
from lowtide.exact.digits import rounded_planes, shift_in_digits
from lowtide.exact.fixedpoint import (
    Multiplier,
    Rounding,
    multiply_integers,
    quantize_multiplier,
    reduced,
)
from lowtide.exact.lines import begins_of, find_line
from lowtide.exact.product import Accumulator, Product, along_channels, by_channel, multiply, reach_of
from lowtide.exact.profile import Requantize
from lowtide.ir import Array

SECTION = 1 << 16
"""Numbers in float64 that are computed with at once."""

MANTISSA = 2.0**53
"""Integers of smaller magnitude are exact in float64."""

NUDGED = 1 << 9
"""Codes below which ties can be decided by a nudge in float32."""

LONGEST_NUDGED = 12
"""Bits of a rounding shift up to which ties can be decided by a nudge in float32."""

LARGEST_MANTISSA = 2.0**31
"""Above the mantissa of every multiplier."""

MAGIC_64 = 1.5 * 2.0**52
"""Added in float64, it leaves the nearest integer in the last bits of numbers below `LARGEST_ROUNDED`."""

LARGEST_ROUNDED = 2.0**51

LARGEST_WHOLE = 2.0**31 - 1
"""What a conversion to int32 takes."""


def requantize_product(b: Builder, product: Product, scales: Array, how: Requantize, window: Window) -> str:
    """Accumulate and requantize.

    Args:
        b: where nodes go.
        product: what is multiplied.
        scales: accumulator scale by output scale, float64, one or one per channel.
        how: see `lowtide.exact.profile.Profile`.
        window: what the result is limited to.
    """
    if how == "shift":
        factor = np.broadcast_to(np.asarray(scales, np.float64).reshape(-1), product.bias.shape)
        if product.bound < PROVEN // 2:
            return _folded_shift(b, product, factor, window)
        if (made := shift_in_digits(b, product, factor, window)) is not None:
            return made
    if how in {"double", "single"} and (made := _on_a_line(b, product, scales, how, window)) is not None:
        return made
    terms = terms_of(b, product)
    shaped = along_channels(product.node, np.asarray(scales, np.float64))
    count = _sections(product, how)
    if count == 1:
        return requantize(b, terms.join(terms.names), shaped, how, window)
    cut = [b.nodes("Split", [name], count, {"axis": 2, "num_outputs": count}) for name in terms.names]
    sections = [requantize(b, terms.join(rows), shaped, how, window) for rows in zip(*cut, strict=True)]
    return b.node("Concat", sections, {"axis": 2})


def _sections(product: Product, how: Requantize) -> int:
    """In how many sections of rows numbers in float64 stay close to the processor."""
    shape = product.node.output.type.shape
    steps = how in {"double", "reduced", "single"} and product.bound * LARGEST_MANTISSA >= MANTISSA
    if not product.planes or shape is None or how == "float32" or steps:
        return 1
    size = math.prod(product.node.output.type.static_shape)
    if size <= 4 * SECTION:
        return 1
    height = shape[2] or 1
    each = max(1, SECTION * height // size)
    return -(-height // min(each, height))


def _folded_shift(b: Builder, product: Product, factor: Array, window: Window) -> str:
    """Powers of two move into weights and bias, where they change no mantissa; then round, ties up."""
    # Half of the last bit decides ties; a factor of 1 rounds nothing.
    tie = np.where(factor < 1, factor / 2, 0.0)
    if product.planes:

        def total(sign: int, offset: int) -> str:
            weights = product.weights * by_channel(product, sign * factor)
            return multiply(b, product, weights, offset + sign * (product.bias * factor + tie))

        room = PROVEN // 2 - product.bound
        return rounded_planes(b, total, window, product.planes, bool(np.all(window.high <= room * factor)))
    weights = product.weights * by_channel(product, factor)
    half = np.where(factor < 1, 0.5, 0.0)
    made = multiply(b, product, weights, product.bias * factor + half)
    return b.node("Floor", [b.clip(made, window.low, window.high)])


def _on_a_line(b: Builder, product: Product, scales: Array, how: Requantize, window: Window) -> str | None:
    """A multiplier in float32; ``None`` where it does not give the same codes."""
    if not product.planes or not 0 <= window.low < window.high or product.bound >= PROVEN:
        return None
    by = quantize_multiplier(np.broadcast_to(scales.reshape(-1), product.bias.shape))
    bounds = reach_of(product.node, product.weights, product.window) + np.abs(product.bias)
    line = find_line(by, window.high, bounds, double=how == "double")
    if line is None:
        return None
    centred = attrs.evolve(product, bias=product.bias - line.centre)
    if centred.bound >= PROVEN:
        return None
    sums = multiply(b, centred, centred.weights, centred.bias)
    raised = b.planes(b.planes(sums, product.planes, line.factor, line.offset), product.planes, 1.0, MAGIC)
    return b.clip(b.planes(raised, product.planes, 1.0, line.middle - MAGIC), window.low, window.high)


def requantize(b: Builder, found: Accumulator, scales: Array, how: Requantize, window: Window) -> str:
    """Integers times scales, rounded and limited; `scales` broadcast against the accumulator."""
    if how in {"double", "float32", "single"}:
        found = settled(b, found)
    if how == "float32":
        narrow = b.narrow(found.name) if found.wide else found.name
        if found.planes:
            real = b.planes(narrow, found.planes, scales)
        else:
            real = b.node("Mul", [narrow, b.constant(scales)])
        return b.codes_from(real, window, found.planes)
    if how in {"double", "single"} and found.bound * LARGEST_MANTISSA >= MANTISSA:
        found = _saturated(b, found, scales, window)
    if how in {"double", "single", "reduced"}:
        by = quantize_multiplier(scales)
        one: Requantize = how if how == "double" else "single"
        return _multiplied(b, found, reduced(by) if how == "reduced" else by, one, window)
    if how == "full":
        # The product has more bits than float64; what it loses is far behind the point.
        fraction, exponent = np.frexp(np.asarray(scales, np.float64))
        scales = np.ldexp(np.floor(fraction * LARGEST_MANTISSA + 0.5), exponent - 31)
    return _rounded_up(b, found, np.asarray(scales, np.float64), np.asarray(0.5), window)


def _rounded_up(b: Builder, found: Accumulator, factor: Array, offset: Array, window: Window) -> str:
    """floor(integer * factor + offset), limited, from float64 to float32."""
    largest = found.bound * float(factor.max(initial=0)) + 1
    return floored(b, scaled(b, found, factor, offset), largest, window)


def floored(b: Builder, name: str, largest: float, window: Window) -> str:
    """Numbers in float64 up to a magnitude to the integers below, limited, in float32."""
    if window.low >= 0 and largest < LARGEST_WHOLE:
        # A conversion to integers is faster than Floor; what it does not round down is below the limits.
        whole = b.node("Cast", [name], {"to": onnx.TensorProto.INT32})
        return b.clip(b.narrow(whole), window.low, window.high)
    made = b.node("Floor", [name])
    return b.narrow(b.clip(made, window.low, window.high, np.float64))


def scaled(b: Builder, found: Accumulator, factor: Array, offset: Array) -> str:
    """Integer * factor + offset in float64."""
    if found.rest is not None:
        offset = offset + found.rest * factor
    wide = found.name if found.wide else b.wide(found.name)
    if not found.channels:
        multiplied = b.node("Mul", [wide, b.constant(factor, np.float64)])
        return b.node("Add", [multiplied, b.constant(offset, np.float64)])
    spread = [np.broadcast_to(array.reshape(-1), (found.channels,)) for array in (factor, offset)]
    none, one = np.zeros(found.channels), np.ones(found.channels)
    operands = [b.constant(array, np.float64) for array in (*spread, none, one)]
    # One pass over memory for both; with mean 0, variance 1 and epsilon 0 it is nothing else.
    return b.node("BatchNormalization", [wide, *operands], {"epsilon": 0.0})


def _saturated(b: Builder, found: Accumulator, scales: Array, window: Window) -> Accumulator:
    """Cut off accumulators that saturate in every channel anyway, so that fewer bits are multiplied."""
    most = window.reach + 2
    smallest = float(np.asarray(scales).min(initial=1.0))
    limit = np.ceil(most / smallest) if smallest > 0 else np.inf
    if limit >= found.bound or limit >= PROVEN:
        return found
    kind = np.float64 if found.wide else np.float32
    lowest = 0.0 if window.low >= 0 else -float(limit)
    name = b.clip(found.name, lowest, limit, kind)
    return attrs.evolve(found, name=name, bound=float(limit))


def _multiplied(b: Builder, found: Accumulator, by: Multiplier, how: Requantize, window: Window) -> str:
    """By nodes where products fit the mantissa of float64, else by integers."""
    left = np.maximum(by.shift, 0)
    largest = found.bound * (by.mantissa.astype(np.float64) * np.exp2(left)).max(initial=0)
    if largest < MANTISSA:
        return _fixed(b, found, by, how, window)

    def compute(values: Array) -> Array:
        rounding: Rounding = "single" if how == "single" else "double"
        return multiply_integers(values.astype(np.int64), by, rounding).astype(np.float32)

    found = settled(b, found)
    wide = found.name if found.wide else b.wide(found.name)
    b.types[wide] = onnx.TensorProto.DOUBLE
    return b.clip(b.step(compute, wide), window.low, window.high)


def _fixed(b: Builder, found: Accumulator, by: Multiplier, how: Requantize, window: Window) -> str:
    """A 31-bit multiplier in float64, where the product fits its mantissa; the result is float32."""
    factor = np.ldexp(by.mantissa.astype(np.float64), (by.shift - 31).astype(np.int32))
    right = np.maximum(-by.shift, 0).astype(np.int32)
    if how == "single":
        return _rounded_up(b, found, factor, np.full(factor.shape, 0.5), window)
    # For whole r > 0, floor(floor(x + 1/2) / 2^r + 1/2) = floor(x / 2^r + 1/2 + 2^(-r - 1)) above zero.
    offset = 0.5 + np.where(right > 0, np.ldexp(0.5, -right), 0.0)
    if window.low >= 0 and _steps_are_exact(by, factor, offset, found.bound, window):
        return _rounded_up(b, found, factor, offset, window)
    return _rounded_twice(b, found, by, window)


def _steps_are_exact(by: Multiplier, factor: Array, offset: Array, bound: float, window: Window) -> bool:
    """Whether floor(x * factor + offset) in float64 gives every code from where it should begin.

    Between these integers nothing can go wrong, since the result never falls with x.
    """
    if window.high < 1:
        return True
    flat = Multiplier(by.mantissa.reshape(-1), by.shift.reshape(-1))
    begins = begins_of(flat, window.high, np.asarray(bound, np.int64), double=True)
    if begins is None:
        return False
    some = begins.reached > 0
    first, codes = begins.first[some], begins.codes[some]
    factors, offsets = (array.reshape((-1, 1))[some] for array in (factor, offset))
    above = np.floor(first * factors + offsets) >= codes
    below = np.floor((first - 1) * factors + offsets) < codes
    return bool(np.all(above & below))


def _rounded_twice(b: Builder, found: Accumulator, by: Multiplier, window: Window) -> str:
    """A multiplication that rounds ties up, then a shift that rounds ties away from zero."""
    left, right = np.maximum(by.shift, 0).astype(np.int32), np.maximum(-by.shift, 0).astype(np.int32)
    factor = np.ldexp(by.mantissa.astype(np.float64), left - 31)
    most = found.bound * float(factor.max(initial=0))
    if _never_ties(by, left, found.bound) and most < LARGEST_ROUNDED:
        raised = attrs.evolve(found, name=scaled(b, found, factor, np.asarray(MAGIC_64)), wide=True)
        high = scaled(b, raised, np.asarray(1.0), np.asarray(-MAGIC_64))
    else:
        high = b.node("Floor", [scaled(b, found, factor, np.asarray(0.5))])
    if right.any():
        small = window.reach < NUDGED
        if small and right.max() <= LONGEST_NUDGED and found.bound * factor.max(initial=0) < PROVEN // 2:
            return _nudged(b, attrs.evolve(found, name=high), right, window)
        shifted = b.node("Mul", [high, b.constant(np.ldexp(1.0, -right), np.float64)])
        size = b.node("Floor", [b.node("Add", [b.node("Abs", [shifted]), b.constant(0.5, np.float64)])])
        high = b.node("Mul", [b.node("Sign", [shifted]), size])
    return b.clip(b.narrow(high), window.low, window.high)


def _never_ties(by: Multiplier, left: Array, bound: float) -> bool:
    """Whether integer * mantissa * 2^left is never an odd multiple of 2^30.

    With t zeros at the end of the mantissa the integer would have to be a multiple of 2^(30 - left - t).
    """
    mantissa = np.asarray(by.mantissa)
    lowest = np.where(mantissa > 0, mantissa & -mantissa, 1)
    return bool(np.all(bound < np.ldexp(1.0, 30 - left) / lowest))


def _nudged(b: Builder, high: Accumulator, right: Array, window: Window) -> str:
    """A rounding shift, ties away from zero, in float32: numbers are made larger by less than one step.

    Rounding to nearest then takes ties away from zero, and no other number crosses a half: below 2^9, beyond
    which codes saturate, the nudge is below 2^-12.6, and shifted integers are 2^-12 apart or more.
    """
    nudge = np.ldexp(1.0, -right) * (1 + 2.0**-22)
    narrow = b.narrow(high.name)
    if high.planes:
        shifted = b.planes(narrow, high.planes, nudge)
    else:
        shifted = b.node("Mul", [narrow, b.constant(nudge)])
    return b.codes_from(shifted, window, high.planes)
