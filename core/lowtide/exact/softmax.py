"""Softmax in fixed point.

Source: gemmlowp, exp_on_negative_values and one_over_one_plus_x_for_x_in_0_1; TensorFlow Lite, Softmax in its
reference kernels for 8-bit codes. Numbers are int32 with a given number of bits before the point.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from lowtide.exact.builder import limits
from lowtide.exact.fixedpoint import multiply_integers, quantize_multiplier, rounding_shift_away
from lowtide.ir import Array, QuantParams

INTEGER_BITS = 5
"""Bits before the point of differences times beta."""

ACCUMULATION_BITS = 12
"""Bits before the point of the sum of exponentials."""

Integers = TypeVar("Integers", Array, int)

ONE = (1 << 31) - 1
_EXPONENTIALS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
"""exp(-2^k) for k from -2 to 4, without bits before the point."""


def softmax(quant: QuantParams, made: QuantParams, axis: int) -> Callable[[Array], Array]:
    """A function of codes less the zero point, int64, that gives those of the result."""
    beta = min(quant.scale[0] * float(1 << (31 - INTEGER_BITS)), float(ONE))
    by = quantize_multiplier(beta)
    smallest = -math.floor(ONE_SHIFTED * 2.0 ** (31 - INTEGER_BITS - int(by.shift)))
    low, high = limits(made)
    # Codes differ from the largest by so many steps at most.
    steps = -np.arange(quant.dtype.max - quant.dtype.min + 1)
    counted = steps >= smallest
    scaled = multiply_integers(np.where(counted, steps, 0), by, "double")
    exponentials = np.where(counted, _exp_on_negative_values(scaled), 0)
    summands = rounding_shift_away(exponentials, ACCUMULATION_BITS)

    def compute(codes: Array) -> Array:
        moved = codes if axis == -1 else np.moveaxis(codes, axis, -1)
        below = moved.max(axis=-1, keepdims=True) - moved
        total = summands[below].sum(axis=-1, keepdims=True)
        # Python's own integers are faster than arrays of one.
        inverse, headroom = _inverse(int(total[..., 0].item())) if total.size == 1 else _inverses(total)
        bits = ACCUMULATION_BITS - headroom + 31 - made.bits
        # Nothing is negative, so a half that is added before a shift rounds ties away from zero.
        product = (_doubling_high(exponentials[below], inverse) + (1 << (bits - 1))) >> bits
        found = np.minimum(product + low, high)
        return found if axis == -1 else np.moveaxis(found, -1, axis)

    return compute


ONE_SHIFTED = ((1 << INTEGER_BITS) - 1) * 1.0
"""The largest difference that still counts, in units of the bits before the point."""


def _doubling_high(a: Integers, b: Array | int) -> Integers:
    """The high half of twice the product of int64 or Python integers below 2^31, ties up."""
    product: Any = a * b
    high: Integers = (product + (1 << 30)) >> 31
    return high


def _exp_on_negative_values(x: Array) -> Array:
    """exp(x) for x <= 0 with 5 bits before the point; the result has none."""
    fraction_bits = 31 - INTEGER_BITS
    quarter = 1 << (fraction_bits - 2)
    rest = (x & (quarter - 1)) - quarter
    result = _exp_on_last_quarter(rest << INTEGER_BITS)
    remainder = rest - x
    for at, factor in enumerate(_EXPONENTIALS):
        exponent = at - 2
        if exponent >= INTEGER_BITS:
            break
        bit = 1 << (fraction_bits + exponent)
        result = np.where(remainder & bit, _doubling_high(result, factor), result)
    return np.where(x == 0, ONE, result)


def _exp_on_last_quarter(a: Array) -> Array:
    """exp(a) for -1/4 <= a < 0, without bits before the point, by a Taylor series around -1/8."""
    constant, third = 1895147668, 715827883
    x = a + (1 << 28)
    square = _doubling_high(x, x)
    cube = _doubling_high(square, x)
    fourth = rounding_shift_away(_doubling_high(square, square), 2)
    series = rounding_shift_away(_doubling_high(fourth + cube, third) + square, 1)
    return constant + _doubling_high(x + series, constant)


def _inverse(total: int) -> tuple[int, int]:
    """1 / total, with its first bit before the point, and how far that bit was from the 32nd."""
    headroom = 32 - total.bit_length()
    return _one_over_one_plus_x((total << headroom) - (1 << 31)), headroom


def _inverses(total: Array) -> tuple[Array, Array]:
    """The same for every element."""
    headroom = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    return _one_over_one_plus_x(np.left_shift(total, headroom) - (1 << 31)), headroom


def _one_over_one_plus_x(a: Integers) -> Integers:
    """1 / (1 + a) for a in [0, 1), without bits before the point, by three steps of Newton and Raphson."""
    half_denominator = (a + ONE + 1) >> 1
    constant_48_over_17, constant_32_over_17 = 1515870810, -1010580540
    x = constant_48_over_17 + _doubling_high(half_denominator, constant_32_over_17)
    for _ in range(3):
        product = _doubling_high(half_denominator, x)
        rest = (1 << 29) - product
        x = x + (_doubling_high(x, rest) << 2)
    return x << 1
