"""A slow second implementation of exact execution, to hold the fast one against.

Written from the definitions alone, on integers of any size: no tensors of floats, no bounds, no tables. It
shares no code with `lowtide.exact` but the names of the profiles.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowtide.ir import Graph, Node, QuantParams, Value

Codes = NDArray[Any]
"""Python integers in an array of objects, or int64."""


def run(graph: Graph, codes: Mapping[str, Codes], arithmetic: str) -> dict[str, Codes]:
    """The stored codes of every value, from those of the inputs."""
    known: dict[str, Codes] = {name: array.astype(np.int64) for name, array in codes.items()}
    window: dict[str, tuple[int, int]] = {}
    for node in graph:
        made = node.output.type.quant
        if made is None:  # the inside of a layer: its clamps come behind
            continue
        low, high = limits(made)
        window[node.output.name] = (low, high)
        body = node
        clamps: list[Node] = []
        while body.op in {"Relu", "Clip"} and body.value(0).type.quant is None:
            clamps.append(body)
            maker = body.value(0).producer
            assert maker is not None
            body = maker
        for clamp in reversed(clamps):
            bottom, top = clamp_codes(clamp, made)
            low, high = max(low, min(bottom, high)), min(high, max(top, low))
        sums = compute(body, known, made, arithmetic)
        known[node.output.name] = np.clip(sums, low, high).astype(np.int64) + made.zero_point[0]
    return known


def limits(quant: QuantParams) -> tuple[int, int]:
    """The ends of the codes, less the zero point."""
    return quant.dtype.min - quant.zero_point[0], quant.dtype.max - quant.zero_point[0]


def clamp_codes(node: Node, made: QuantParams) -> tuple[int, int]:
    """What a Relu or a Clip limits codes to; its limits are rounded as QuantizeLinear rounds, to even."""
    if node.op == "Relu":
        return 0, 1 << 40
    ends = []
    for at in (1, 2):
        value = node.value(at)
        assert value.constant is not None
        ends.append(int(np.rint(np.float32(value.constant.array().item()) / np.float32(made.scale[0]))))
    return ends[0], ends[1]


def centred(value: Value, known: Mapping[str, Codes]) -> Codes:
    """Codes less the zero point."""
    quant = value.type.quant
    assert quant is not None
    stored = value.constant.array() if value.constant is not None else known[value.name]
    return stored.astype(np.int64) - quant.zero_point[0]


def compute(node: Node, known: Mapping[str, Codes], made: QuantParams, arithmetic: str) -> Codes:
    """The codes of one node, less the zero point, not limited."""
    x = centred(node.value(0), known)
    source = node.value(0).type.quant
    assert source is not None
    if node.op in {"Conv", "ConvTranspose", "Gemm", "MatMul"}:
        weights = node.value(1).type.quant
        assert weights is not None
        accumulated = products(node, x, centred(node.value(1), known))
        bias = node.operand(2)
        if bias is not None:
            assert bias.constant is not None
            shape = (1, -1, *(1,) * (accumulated.ndim - 2))
            accumulated = accumulated + bias.constant.array().astype(np.int64).reshape(shape)
        return per_channel(node, accumulated, made, arithmetic)
    if node.op in {"Add", "Sub"}:
        other = node.value(1).type.quant
        assert other is not None
        y = centred(node.value(1), known) * (1 if node.op == "Add" else -1)
        scales = (source.scale[0], other.scale[0], made.scale[0])
        bits = {"xnnpack": 21, "float32": None}.get(
            arithmetic, 15 if max(source.bits, other.bits, made.bits) == 8 else 30
        )
        first, second = np.broadcast_arrays(x, y)
        return aligned(first, second, scales, bits)
    if node.op == "MaxPool":
        return pooled(node, x, max)
    if node.op in {"AveragePool", "GlobalAveragePool"}:
        zero = made.zero_point[0]
        return pooled(node, x, lambda seen: average(seen, zero, arithmetic))
    raise NotImplementedError(node.op)


# --- sums of products ---


def products(node: Node, x: Codes, w: Codes) -> Codes:
    """Multiply and add, one output after the other."""
    match node.op:
        case "Gemm":
            return x @ (w.T if node.int_attribute("transB", 0) else w)
        case "MatMul":
            return x @ w
        case "Conv":
            return convolution(node, x, w)
        case _:
            return transposed(node, x, w)


def geometry(node: Node, rank: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
    strides = node.ints_attribute("strides", (1,) * rank)
    dilations = node.ints_attribute("dilations", (1,) * rank)
    return strides, dilations, node.ints_attribute("pads", (0,) * 2 * rank), node.int_attribute("group", 1)


def at(array: Codes, *index: slice | int) -> Codes:
    """A view of the part of an array."""
    part: Codes = array[index]
    return part


def convolution(node: Node, x: Codes, w: Codes) -> Codes:
    rank = x.ndim - 2
    strides, dilations, pads, group = geometry(node, rank)
    ends = [(pads[axis], pads[axis + rank]) for axis in range(rank)]
    padded = np.pad(x, [(0, 0), (0, 0), *ends])
    spatial = node.output.type.static_shape[2:]
    result = np.zeros((x.shape[0], w.shape[0], *spatial), np.int64)
    outputs, inputs = w.shape[0] // group, w.shape[1]
    for taps in itertools.product(*map(range, w.shape[2:])):
        window = tuple(
            slice(tap * dilation, tap * dilation + stride * (size - 1) + 1, stride)
            for tap, dilation, stride, size in zip(taps, dilations, strides, spatial, strict=True)
        )
        for g in range(group):
            seen = at(padded, slice(None), slice(g * inputs, (g + 1) * inputs), *window)
            rows = at(w, slice(g * outputs, (g + 1) * outputs), slice(None), *taps)
            result[:, g * outputs : (g + 1) * outputs] += np.einsum("nc...,oc->no...", seen, rows)
    return result


def transposed(node: Node, x: Codes, w: Codes) -> Codes:
    rank = x.ndim - 2
    strides, dilations, pads, group = geometry(node, rank)
    spatial = node.output.type.static_shape[2:]
    full = [size + pads[axis] + pads[axis + rank] for axis, size in enumerate(spatial)]
    outputs, inputs = w.shape[1], w.shape[0] // group
    result = np.zeros((x.shape[0], outputs * group, *full), np.int64)
    for place in itertools.product(*map(range, x.shape[2:])):
        for taps in itertools.product(*map(range, w.shape[2:])):
            to = [
                p * stride + tap * dilation
                for p, stride, tap, dilation in zip(place, strides, taps, dilations, strict=True)
            ]
            for g in range(group):
                seen = at(x, slice(None), slice(g * inputs, (g + 1) * inputs), *place)
                rows = at(w, slice(g * inputs, (g + 1) * inputs), slice(None), *taps)
                made = at(result, slice(None), slice(g * outputs, (g + 1) * outputs), *to)
                made += seen @ rows
    kept = [slice(pads[axis], pads[axis] + size) for axis, size in enumerate(spatial)]
    return at(result, slice(None), slice(None), *kept)


def pooled(node: Node, x: Codes, take: Callable[[list[int]], int]) -> Codes:
    """What lies under the window at every place, taken together; what lies outside does not count."""
    size = node.ints_attribute("kernel_shape") if node.op != "GlobalAveragePool" else x.shape[2:]
    strides, _, pads, _ = geometry(node, len(size))
    result = np.zeros(node.output.type.static_shape, np.int64)
    for to in np.ndindex(*result.shape):
        begins = [place * stride - pad for place, stride, pad in zip(to[2:], strides, pads, strict=False)]
        window = [slice(max(b, 0), b + extent) for b, extent in zip(begins, size, strict=True)]
        result[to] = take([int(entry) for entry in at(x, to[0], to[1], *window).reshape(-1)])
    return result


def average(codes: list[int], zero: int, arithmetic: str) -> int:
    """The mean of codes of the scale of the result; ties of stored codes go away from zero."""
    if arithmetic == "float32":
        return in_float32(sum(codes), 1 / len(codes))
    return half_away(sum(codes) + zero * len(codes), len(codes)) - zero


# --- rounding ---


def each(numbers: Codes, function: Callable[[int], int]) -> Codes:
    """A function of every integer."""
    made = [function(int(number)) for number in numbers.reshape(-1)]
    return np.array(made, object).reshape(numbers.shape)


def half_up(number: Fraction) -> int:
    return math.floor(number + Fraction(1, 2))


def half_away(number: int, divisor: int) -> int:
    size = math.floor(Fraction(abs(number), divisor) + Fraction(1, 2))
    return size if number >= 0 else -size


def mantissa_of(factor: float) -> tuple[int, int]:
    """A multiplier of 31 bits and its exponent: factor = mantissa * 2^(exponent - 31), ties up."""
    fraction, exponent = math.frexp(factor)
    mantissa = half_up(Fraction(fraction) * (1 << 31))
    return (mantissa // 2, exponent + 1) if mantissa == 1 << 31 else (mantissa, exponent)


def double_rounded(number: int, factor: float) -> int:
    """As gemmlowp has it: half of twice the product, truncated after a nudge, then a rounding shift."""
    mantissa, exponent = mantissa_of(factor)
    product = number * (1 << max(exponent, 0)) * mantissa
    nudged = product + ((1 << 30) if product >= 0 else 1 - (1 << 30))
    high = nudged // (1 << 31) if nudged >= 0 else -(-nudged // (1 << 31))
    return half_away(high, 1 << max(-exponent, 0))


def in_float32(number: int, factor: float) -> int:
    """One multiplication of floats, as ONNX Runtime and XNNPACK have it."""
    return int(np.rint(np.float32(number) * np.float32(factor)))


def requantized(number: int, factor: float, arithmetic: str, *, wide: bool) -> int:
    """An accumulator to a code."""
    match arithmetic:
        case "float32" | "xnnpack":
            return in_float32(number, factor)
        case "shift":
            return half_up(number * Fraction(factor))
        case _ if wide:
            mantissa, exponent = mantissa_of(factor)
            return half_up(Fraction(number * mantissa) * Fraction(2) ** (exponent - 31))
        case _:
            return double_rounded(number, factor)


def per_channel(node: Node, accumulated: Codes, made: QuantParams, arithmetic: str) -> Codes:
    """Accumulators to codes, with the factor of each output channel."""
    source, weights = node.value(0).type.quant, node.value(1).type.quant
    assert source is not None
    assert weights is not None
    wide = max(source.bits, weights.bits) > 8
    axis = 1 if node.op != "MatMul" else accumulated.ndim - 1
    channels: list[Codes] = []
    for channel, sums in enumerate(np.moveaxis(accumulated, axis, 0)):
        scale = weights.scale[channel if len(weights.scale) > 1 else 0]
        if arithmetic in {"float32", "xnnpack"}:
            factor = float(np.float32(source.scale[0]) * np.float32(scale) / np.float32(made.scale[0]))
        else:
            factor = source.scale[0] * scale / made.scale[0]
        made_of = functools.partial(requantized, factor=factor, arithmetic=arithmetic, wide=wide)
        channels.append(each(sums, made_of))
    return np.stack(channels, axis)


def aligned(x: Codes, y: Codes, scales: tuple[float, float, float], bits: int | None) -> Codes:
    """A sum of codes of different scales by multipliers of so many bits; ``None`` for floats."""
    result = np.zeros(x.shape, object)
    ratios = [scale / scales[2] for scale in scales[:2]]
    if bits == 21:  # XNNPACK has ratios in float32; a multiplier is hardly ever a tie
        ratios = [float(np.float32(scale) / np.float32(scales[2])) for scale in scales[:2]]
    shift = (bits or 0) - math.frexp(max(ratios))[1]
    factors = [half_up(Fraction(ratio) * Fraction(2) ** shift) for ratio in ratios]
    floats = [np.float32(scale) / np.float32(scales[2]) for scale in scales[:2]]
    for to in np.ndindex(*x.shape):
        a, b = int(x[to]), int(y[to])
        if bits is None:
            result[to] = int(np.rint(np.float32(a) * floats[0] + np.float32(b) * floats[1]))
        else:
            result[to] = half_up(Fraction(a * factors[0] + b * factors[1]) / Fraction(2) ** shift)
    return result
