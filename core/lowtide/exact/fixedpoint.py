"""Requantization of integers: multipliers, shifts and how they round.

Pure functions on int64 arrays. They are the reference that faster execution is checked against, and small
enough to be read beside the kernels that they reproduce.
"""

from __future__ import annotations

from typing import Literal

import attrs
import numpy as np

from lowtide.ir import Array

SMALLEST_SHIFT = -31
"""Factors that would need a longer shift to the right are 0."""

Rounding = Literal["double", "single"]
"""How a multiplier of 31 bits and a right shift round.

``double``: the high half of twice the product is rounded, half up, then shifted with rounding, half away from
zero; ``single``: one rounding at the end, half up.
"""


@attrs.frozen(eq=False)
class Multiplier:
    """Positive real factors as mantissas and exponents: factor ≈ mantissa * 2^(shift - 31).

    Attributes:
        mantissa: int64, 2^30 to 2^31 - 1, or 0; of a shape that broadcasts against what is multiplied.
        shift: int64 of the same shape, positive to the left.
    """

    mantissa: Array
    shift: Array


def quantize_multiplier(factor: Array | float) -> Multiplier:
    """The nearest multipliers, ties up; 0 for factors below 2^-32.

    Source: TensorFlow Lite, QuantizeMultiplier in its kernel utilities.

    >>> found = quantize_multiplier(0.5)
    >>> int(found.mantissa), int(found.shift)
    (1073741824, 0)
    """
    fraction, exponent = np.frexp(np.asarray(factor, np.float64))
    mantissa = np.floor(fraction * (1 << 31) + 0.5).astype(np.int64)
    shift = exponent.astype(np.int64)
    full = mantissa == 1 << 31
    mantissa, shift = np.where(full, mantissa >> 1, mantissa), np.where(full, shift + 1, shift)
    nothing = (mantissa == 0) | (shift < SMALLEST_SHIFT)
    return Multiplier(np.where(nothing, 0, mantissa), np.where(nothing, 0, shift))


def multiply_integers(values: Array, by: Multiplier, rounding: Rounding) -> Array:
    """Integers times multipliers, rounded, as int64.

    Source: TensorFlow Lite, MultiplyByQuantizedMultiplier with two roundings, in its reference kernels of
    convolutions, and with one, in those of fully connected layers.
    """
    x = np.asarray(values, np.int64)
    if rounding == "single":
        return rounding_shift_up(x * by.mantissa, 31 - by.shift)
    left, right = np.maximum(by.shift, 0), np.maximum(-by.shift, 0)
    high = ((x << left) * by.mantissa + (1 << 30)) >> 31
    return rounding_shift_away(high, right)


def reduced(by: Multiplier) -> Multiplier:
    """The same factors with mantissas of 16 bits, for accumulators of 64; used with a single rounding.

    Source: TensorFlow Lite, MultiplyByQuantizedMultiplier for int64, in kernels with 16-bit activations.
    """
    mantissa = np.where(by.mantissa < 0x7FFF0000, (by.mantissa + (1 << 15)) >> 16, 0x7FFF)
    return Multiplier(mantissa, by.shift + 16)


def rounding_shift_away(x: Array, bits: Array | int) -> Array:
    """Divide by 2^bits to the nearest integer, ties away from zero; bits >= 0.

    Source: gemmlowp, RoundingDivideByPOT.
    """
    shift = np.asarray(bits, np.int64)
    mask = np.left_shift(1, shift) - 1
    remainder = np.bitwise_and(x, mask)
    threshold = (mask >> 1) + (np.asarray(x) < 0)
    rounded: Array = (np.asarray(x, np.int64) >> shift) + (remainder > threshold)
    return rounded


def rounding_shift_up(x: Array, bits: Array | int) -> Array:
    """Divide by 2^bits to the nearest integer, ties up; a negative number of bits shifts left.

    Source: the vendor's published training-side simulation, floor(x + 0.5).
    """
    shift = np.asarray(bits, np.int64)
    return _shift_right(np.asarray(x, np.int64) + _half(shift), shift)


def round_half_away_division(x: Array, divisor: Array | int) -> Array:
    """Integer division to the nearest integer, ties away from zero; the divisor is positive.

    Source: TensorFlow Lite, average pool of the integer reference kernels.
    """
    whole, half = np.asarray(x, np.int64), np.asarray(divisor, np.int64) // 2
    quotient: Array = np.where(whole >= 0, (whole + half) // divisor, -((-whole + half) // divisor))
    return quotient


def multiply_float32(values: Array, factors: Array) -> Array:
    """Integers times float32 factors: both rounded to float32 before, the product once, ties to even.

    Source: ONNX Runtime, QLinearConv; XNNPACK, requantization with a float32 scale.
    """
    product = np.asarray(values).astype(np.float32) * np.asarray(factors, np.float32)
    return np.rint(product).astype(np.int64)


def _half(bits: Array) -> Array:
    half: Array = np.where(bits > 0, np.left_shift(1, np.maximum(bits - 1, 0)), 0)
    return half


def _shift_right(x: Array, bits: Array) -> Array:
    shifted: Array = np.where(bits >= 0, x >> np.maximum(bits, 0), x << np.maximum(-bits, 0))
    return shifted
