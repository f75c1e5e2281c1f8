"""Averages of codes."""

from __future__ import annotations

import math

import attrs
import numpy as np

from lowtide.exact.builder import Builder, Window, limits
from lowtide.exact.codes import requantized
from lowtide.exact.fixedpoint import (
    Multiplier,
    multiply_integers,
    quantize_multiplier,
    round_half_away_division,
)
from lowtide.exact.profile import Profile
from lowtide.exact.tables import apply_unary
from lowtide.ir import Array, Node, QuantParams


def average(b: Builder, node: Node, source: str, profile: Profile, window: Window) -> str:
    """AveragePool and GlobalAveragePool: the sum over the window by the number of elements that count.

    Where scales differ, their ratio is part of the divisor, so that there is one rounding.
    """
    value = node.value(0)
    quant, made = value.type.quant, node.output.type.quant
    assert quant is not None  # noqa: S101 - the caller checks
    assert made is not None  # noqa: S101 - the caller checks
    shape = value.type.static_shape
    if node.op == "GlobalAveragePool":
        count: Array = np.asarray(math.prod(shape[2:]))
        axes = b.constant(np.arange(2, len(shape)), np.int64)
        total = b.node("ReduceSum", [source, axes], {"keepdims": 1})
    else:
        total, count = _windows(b, node, source, shape)
    ratio = 1.0
    if made != quant:
        ratio = quant.scale[0] / made.scale[0]
        quant = attrs.evolve(quant, zero_point=0)
    return b.clip(_divided(b, total, count / ratio, quant, profile), window.low, window.high)


def _windows(b: Builder, node: Node, source: str, shape: tuple[int, ...]) -> tuple[str, Array]:
    """Sums under the window, and how many elements of the plane each covers."""
    channels, kernel = shape[1], node.ints_attribute("kernel_shape")
    strides = node.ints_attribute("strides", (1,) * len(kernel))
    pads = node.ints_attribute("pads", (0,) * 2 * len(kernel))
    attributes = {"kernel_shape": kernel, "strides": strides, "pads": pads, "group": channels}
    ones = np.ones((channels, 1, *kernel))
    total = b.node("Conv", [source, b.constant(ones)], attributes)
    if node.int_attribute("count_include_pad", 0):
        return total, np.asarray(math.prod(kernel))
    result = node.output.type.static_shape[2:]
    per_axis = [
        _covered(size, extent, stride, begin, steps)
        for size, extent, stride, begin, steps in zip(shape[2:], kernel, strides, pads, result, strict=False)
    ]
    counts = per_axis[0]
    for axis in per_axis[1:]:
        counts = counts[..., np.newaxis] * axis
    return total, counts.reshape((1, 1, *result))


def _covered(size: int, extent: int, stride: int, begin: int, steps: int) -> Array:
    starts = np.arange(steps) * stride - begin
    covered: Array = np.minimum(starts + extent, size) - np.maximum(starts, 0)
    return covered


def _divided(b: Builder, total: str, count: Array, quant: QuantParams, profile: Profile) -> str:
    """The quotient, rounded; ties away from zero for codes as they are stored, else as the profile says."""
    if profile.average == "float32":
        return b.node("Round", [b.node("Mul", [total, b.constant(1.0 / count)])])
    zero = quant.zero_point[0]
    wide = b.wide(total)
    if zero:
        wide = b.node("Add", [wide, b.constant(zero * count, np.float64)])
    quotient = b.node("Div", [wide, b.constant(count, np.float64)])
    size = b.node("Floor", [b.node("Add", [b.node("Abs", [quotient]), b.constant(0.5, np.float64)])])
    rounded = b.node("Mul", [b.node("Sign", [quotient]), size])
    return b.narrow(b.node("Sub", [rounded, b.constant(zero, np.float64)]) if zero else rounded)


def mean(b: Builder, node: Node, source: str, axes: tuple[int, ...], profile: Profile) -> str:
    """ReduceMean: the sum times a multiplier that contains the number of elements."""
    value = node.value(0)
    quant, made = value.type.quant, node.output.type.quant
    assert quant is not None  # noqa: S101 - the caller checks
    assert made is not None  # noqa: S101 - the caller checks
    shape = value.type.static_shape
    count = math.prod(shape[axis] for axis in axes)
    keep = node.int_attribute("keepdims", 1)
    total = b.node("ReduceSum", [source, b.constant(np.array(axes), np.int64)], {"keepdims": keep})
    low, high = limits(made)
    if profile.mean == "float32":
        factor = np.float32(quant.scale[0]) / (np.float32(count) * np.float32(made.scale[0]))
        return b.clip(b.node("Round", [b.node("Mul", [total, b.constant(float(factor))])]), low, high)
    if profile.mean == "tflite":
        by = _with_count(quantize_multiplier(quant.scale[0] / made.scale[0]), count)

        def compute(sums: Array) -> Array:
            codes = multiply_integers(np.rint(sums).astype(np.int64), by, "double")
            return np.clip(codes, low, high).astype(np.float32)

        return b.step(compute, total)

    def divide(sums: Array) -> Array:
        whole = np.rint(sums).astype(np.int64)
        return round_half_away_division(whole, count).astype(np.float32)

    averaged = b.step(divide, total)
    if made != quant:
        averaged = apply_unary(b, requantized(quant, made, profile), averaged, quant)
    return b.clip(averaged, low, high)


def _with_count(by: Multiplier, count: int) -> Multiplier:
    """Divide the mantissa by the number of elements after as many bits to the left as it has.

    Source: TensorFlow Lite, the integer kernel of MEAN.
    """
    shift = min(count.bit_length() - 1, 32, 31 + int(by.shift))
    return Multiplier((by.mantissa << shift) // count, by.shift - shift)
