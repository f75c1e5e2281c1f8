"""The arithmetic of quantization: ranges to parameters, reals to codes.

Pure functions, one for each rule, used by solving, executing and emitting alike.
real = scale * (code - zero_point).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lowtide.ir import Array, DType, QuantParams
from lowtide.runtime.model import per_axis

SMALLEST_SCALE = math.ldexp(1.0, -126)
"""The smallest normal float32: runtimes may make zero of smaller numbers."""


def signed_dtype(bits: int) -> DType:
    """The signed type of a width."""
    return DType(f"int{bits}")


def unsigned_dtype(bits: int) -> DType:
    """The unsigned type of a width."""
    return DType(f"uint{bits}")


def with_zero(low: float, high: float) -> tuple[float, float]:
    """Widen a range to contain 0, which must always have an exact code."""
    return min(low, 0.0), max(high, 0.0)


def asymmetric(low: float, high: float, dtype: DType) -> QuantParams:
    """Parameters whose codes cover the range with a zero point.

    scale = (max - min) / (2^b - 1), zero_point = round_half_even(qmin - min / scale), clamped. A range of
    width 0 gives scale 1.

    Source: ONNX operator QuantizeLinear; TensorFlow Lite 8-bit quantization specification.
    """
    low, high = with_zero(low, high)
    width = high - low
    if width == 0:
        return QuantParams(dtype, 1.0, min(max(0, dtype.min), dtype.max))
    # The scale that is stored has float32 precision, and the zero point belongs to that one.
    scale = _normal(width / (dtype.max - dtype.min))
    zero = round(dtype.min - low / scale)
    return QuantParams(dtype, scale, min(max(zero, dtype.min), dtype.max))


def symmetric_dtype(low: float, bits: int) -> DType:
    """Unsigned codes for a tensor that never goes below zero, else signed ones.

    Source: the vendor's published example stores an image input as 0..255.
    """
    return signed_dtype(bits) if low < 0 else unsigned_dtype(bits)


def symmetric_scale(low: float, high: float, dtype: DType) -> float:
    """The smallest scale at which no number of the range saturates; 1 for a range of width 0."""
    low, high = with_zero(low, high)
    needed = max(high / dtype.max, low / dtype.min if dtype.min else 0.0)
    return _normal(needed) if needed > 0 else 1.0


def symmetric(low: float, high: float, bits: int) -> QuantParams:
    """Parameters without a zero point and with a free scale."""
    dtype = symmetric_dtype(low, bits)
    return QuantParams(dtype, symmetric_scale(low, high, dtype))


def power_of_two(low: float, high: float, bits: int) -> QuantParams:
    """Parameters without a zero point whose scale is a power of two.

    The clip is 2^ceil(log2 max(|min|, |max|)), the scale clip / 2^(b-1) for signed codes and clip / 2^b for
    unsigned ones. The largest number of a range that ends exactly at the clip saturates by one code.

    Source: the vendor's published training-side simulation of its symmetric mode.
    """
    dtype = symmetric_dtype(low, bits)
    return QuantParams(dtype, power_of_two_scale(max(abs(low), abs(high)), dtype))


def power_of_two_scale(magnitude: float, dtype: DType) -> float:
    """The clip, that is the next power of two at or above `magnitude`, by 2^(b-1) or 2^b; 1 for 0."""
    if magnitude == 0:
        return 1.0
    exponent = ceil_log2(magnitude) - (dtype.bits - 1 if dtype.signed else dtype.bits)
    return max(math.ldexp(1.0, exponent), SMALLEST_SCALE)


def ceil_log2(magnitude: float) -> int:
    """The smallest integer e with 2^e >= magnitude > 0, without a rounding error.

    >>> [ceil_log2(x) for x in (0.3, 0.5, 1.0, 1.5, 2.0)]
    [-1, -1, 0, 1, 1]
    """
    mantissa, exponent = math.frexp(magnitude)
    return exponent - 1 if mantissa == 0.5 else exponent


def accumulator_scale(low: float, high: float, dtype: DType, accumulator: float) -> tuple[float, int]:
    """The scale of an output whose requantization can only shift right: accumulator scale * 2^n.

    Args:
        low: the lowest number that should not saturate.
        high: the highest.
        dtype: the codes of the output.
        accumulator: input scale * weight scale.

    Returns:
        The scale and n, the smallest n >= 0 at which the codes hold the range.

    Source: follows from the scales in the vendor's published quantization example.
    """
    needed = symmetric_scale(low, high, dtype) if low < 0 or high > 0 else max(accumulator, SMALLEST_SCALE)
    # A range that was derived from such a scale must come back to it in spite of rounding.
    shift = max(0, ceil_log2(needed / accumulator * (1 - 1e-6)))
    return math.ldexp(accumulator, shift), shift


def weight_params(weights: Array, bits: int, *, axis: int | None, power: bool, narrow: bool) -> QuantParams:
    """Symmetric parameters of constant weights.

    Args:
        weights: real numbers, any shape.
        bits: 8 or 16.
        axis: the axis with one scale per index, ``None`` for one scale.
        power: scales are powers of two.
        narrow: divide by 2^(b-1) - 1, so that nothing saturates; otherwise by 2^(b-1), where the largest
            positive weight saturates at 2^(b-1) - 1.

    A channel of zeros gets scale 1.
    """
    dtype = signed_dtype(bits)
    others = None if axis is None else tuple(other for other in range(weights.ndim) if other != axis)
    magnitude = np.atleast_1d(np.abs(weights.astype(np.float64)).max(axis=others, initial=0.0))
    if power:
        scales = [power_of_two_scale(float(entry), dtype) for entry in magnitude]
    else:
        scales = [_normal(float(entry) / (dtype.max if narrow else -dtype.min)) or 1.0 for entry in magnitude]
    return QuantParams(dtype, scales, 0, axis)


def quantize(real: Array, quant: QuantParams, *, half: str = "even") -> Array:
    """Real numbers to codes: round(x / scale) + zero_point, saturated.

    Args:
        real: any shape.
        quant: the parameters.
        half: ``even`` as ONNX QuantizeLinear rounds, which divides in float32; ``away`` from zero as the
            vendor rounds weights, in float64.

    Returns:
        Codes of the dtype of `quant`, of the same shape.

    Source: ONNX operator QuantizeLinear, opset 21; the vendor's published training-side simulation.
    """
    precision = np.float32 if half == "even" else np.float64
    scale = per_axis(np.array(quant.scale, precision), quant, real.ndim)
    zero = per_axis(np.array(quant.zero_point, np.float64), quant, real.ndim)
    with np.errstate(over="ignore"):  # infinity saturates as any large number does
        steps = real.astype(precision) / scale
    rounded = np.rint(steps) if half == "even" else round_half_away(steps)
    codes: Array = np.clip(rounded + zero, quant.dtype.min, quant.dtype.max)
    return codes.astype(quant.dtype.numpy)


def round_half_away(x: Array) -> Array:
    """Round to the nearest integer, ties away from zero; 0.49999999999999994 stays 0.

    >>> round_half_away(np.array([0.5, 1.5, -0.5, 0.49999999999999994])).tolist()
    [1.0, 2.0, -1.0, 0.0]
    """
    x = np.asarray(x)
    real = x if x.dtype.kind == "f" else x.astype(np.float64)
    # The number below one half: with one half itself, the sum with that number would be rounded up to 1.
    half = np.nextafter(real.dtype.type(0.5), real.dtype.type(0.0))
    moved: Array = np.copysign(half, real)
    moved += real
    return np.trunc(moved, out=moved) if moved.ndim else np.trunc(moved)


def bias_scales(input_scale: float, weights: QuantParams) -> tuple[float, ...]:
    """The scale of the accumulator, per tensor or per channel, rounded to float32 as files store it."""
    return tuple(float(np.float32(input_scale * scale)) for scale in weights.scale)


def split_bias(codes: Sequence[int] | Array, *, code_max: int = 127, multiplier_max: int = 255) -> Array:
    """Bring accumulator-scale biases to what an 8-bit code times an 8-bit multiplier can hold.

    One multiplier serves the layer: the smallest at which no code saturates; beyond its limit codes saturate.
    Biases that are in this format already stay as they are.

    Source: the vendor's 16-bit bias format, as its training-side simulation models it.
    """
    values = np.asarray(codes, np.int64)
    if bias_multiplier(values, code_max=code_max, multiplier_max=multiplier_max) is not None:
        return values.astype(np.int32)
    multiplier = _least_multiplier(values, code_max, multiplier_max)
    stored = np.clip(round_half_away(values / multiplier), -code_max, code_max)
    return (stored * multiplier).astype(np.int32)


def bias_multiplier(codes: Array, *, code_max: int = 127, multiplier_max: int = 255) -> int | None:
    """The multiplier of biases that are in the format of `split_bias`; ``None`` for others."""
    values = codes.astype(np.int64)
    least = _least_multiplier(values, code_max, multiplier_max)
    # The largest bias was rounded too, so its multiplier may have been a little larger.
    for known in range(least, min(least + 2, multiplier_max) + 1):
        if int(np.abs(values).max(initial=0)) <= code_max * known and not (values % known).any():
            return known
    return None


def _least_multiplier(values: Array, code_max: int, multiplier_max: int) -> int:
    return min(max(1, -(-int(np.abs(values).max(initial=0)) // code_max)), multiplier_max)


def accumulator_reach(codes: Array, axis: int, input_quant: QuantParams) -> Array:
    """The most that the products of each output channel can add up to: sum |w| * max |q - z|, int64 [C]."""
    others = tuple(other for other in range(codes.ndim) if other != axis)
    sums: Array = np.abs(codes.astype(np.int64)).sum(axis=others)
    zero = input_quant.zero_point[0]
    reach: Array = sums * max(input_quant.dtype.max - zero, zero - input_quant.dtype.min)
    return reach


def _normal(scale: float) -> float:
    """Round to float32 and keep away from its denormal numbers; 0 stays."""
    return 0.0 if scale == 0 else max(float(np.float32(scale)), SMALLEST_SCALE)
