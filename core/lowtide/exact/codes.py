"""What operators do to codes, as functions on integers.

Every function takes and gives codes less their zero point, int64. For eight bits they become tables: 256
entries for one operand, 65536 for two.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lowtide.exact.builder import limits
from lowtide.exact.fixedpoint import (
    Rounding,
    multiply_integers,
    quantize_multiplier,
    rounding_shift_away,
    rounding_shift_up,
)
from lowtide.exact.profile import Profile
from lowtide.ir import Array, Graph, Layer, QuantParams, TensorType, Value
from lowtide.runtime import Session, to_model

Unary = Callable[[Array], Array]
Binary = Callable[[Array, Array], Array]

LEFT = {8: 20, 16: 15}
"""Bits by which sums of codes of a width are widened before they are rounded.

Source: TensorFlow Lite, kernels of ADD and SUB.
"""


def to_codes(real: Array, quant: QuantParams, profile: Profile) -> Array:
    """Real numbers, float32, to codes less the zero point."""
    steps = np.asarray(real, np.float32) / np.float32(quant.scale[0])
    rounded = (
        np.rint(steps) if profile.half == "even" else np.trunc(steps + np.copysign(np.float32(0.5), steps))
    )
    low, high = limits(quant)
    clipped: Array = np.clip(np.nan_to_num(rounded), low, high)
    return clipped.astype(np.int64)


def to_real(codes: Array, quant: QuantParams) -> Array:
    """Codes less the zero point to real numbers, float32."""
    real: Array = codes.astype(np.float32) * np.float32(quant.scale[0])
    return real


def requantized(source: QuantParams, made: QuantParams, profile: Profile) -> Unary:
    """From one scale to another."""
    factor = source.scale[0] / made.scale[0]
    low, high = limits(made)

    def compute(codes: Array) -> Array:
        return np.clip(_scaled(codes, factor, profile), low, high)

    return compute


def _scaled(values: Array, factor: float, profile: Profile) -> Array:
    """Integers times a positive factor, as the convolutions of the profile do it."""
    match profile.convolution:
        case "float32":
            product: Array = np.rint(values.astype(np.float32) * np.float32(factor))
            return product.astype(np.int64)
        case "shift":
            fraction, exponent = np.frexp(factor)
            if fraction == 0.5:
                return rounding_shift_up(values, 1 - int(exponent))
            # No power of two: a multiplier of 16 bits and a rounding shift.
            mantissa = int(np.floor(fraction * (1 << 15) + 0.5))
            return rounding_shift_up(values * mantissa, 15 - int(exponent))
        case _:
            rounding: Rounding = "double" if profile.convolution == "double" else "single"
            return multiply_integers(values, quantize_multiplier(factor), rounding)


def binary(
    op: str, first: QuantParams, second: QuantParams, made: QuantParams, profile: Profile
) -> Binary | None:
    """Add, Sub, Mul and PRelu on codes; ``None`` for operators that are computed on real numbers."""
    low, high = limits(made)
    chosen: Binary | None = None
    if op in {"Add", "Sub"}:
        chosen = _sum(-1 if op == "Sub" else 1, first, second, made, profile)
    elif op == "Mul":
        chosen = _product(first, second, made, profile)
    elif op == "PRelu":
        chosen = _prelu(first, second, made, profile)
    if chosen is None:
        return None
    inner = chosen
    return lambda a, b: np.clip(inner(a, b), low, high)


def _sum(sign: int, first: QuantParams, second: QuantParams, made: QuantParams, profile: Profile) -> Binary:
    scales = (first.scale[0], second.scale[0], made.scale[0])
    if profile.addition == "float32":
        factors = [np.float32(scale) / np.float32(scales[2]) for scale in scales[:2]]

        def in_float(a: Array, b: Array) -> Array:
            return np.rint(
                a.astype(np.float32) * factors[0] + sign * b.astype(np.float32) * factors[1]
            ).astype(np.int64)

        return in_float
    if profile.addition == "tflite":
        left = LEFT[first.bits]
        twice = 2 * max(scales[0], scales[1])
        inputs = [quantize_multiplier(scale / twice) for scale in scales[:2]]
        output = quantize_multiplier(twice / ((1 << left) * scales[2]))

        def in_tflite(a: Array, b: Array) -> Array:
            parts = [
                multiply_integers(codes << left, by, "double")
                for codes, by in zip((a, b), inputs, strict=True)
            ]
            return multiply_integers(parts[0] + sign * parts[1], output, "double")

        return in_tflite
    return _aligned(sign, first, second, made, profile)


def aligned_factors(
    first: QuantParams, second: QuantParams, made: QuantParams, profile: Profile
) -> tuple[tuple[int, int], int]:
    """A multiplier for each input of a sum, and the shift to the right of both.

    Multipliers have at most 16 bits for codes of 8, and 31 for wider ones, which 16 would change by a code.
    Where scales differ by powers of two the multipliers are powers of two, and nothing but the end rounds.
    No multiplier has more factors of two than the other, or the shift, needs.

    Source of ``xnnpack``: XNNPACK, parameters of its 8-bit additions.
    """
    ratios = [quant.scale[0] / made.scale[0] for quant in (first, second)]
    bits = 15 if max(quant.bits for quant in (first, second, made)) <= 8 else 30
    if profile.addition == "xnnpack":
        ratios, bits = (
            [float(np.float32(q.scale[0]) / np.float32(made.scale[0])) for q in (first, second)],
            21,
        )
    shift = bits - int(np.frexp(max(ratios))[1])
    steps = [ratio * 2.0**shift for ratio in ratios]
    rounded = [np.rint(step) if profile.addition == "xnnpack" else np.floor(step + 0.5) for step in steps]
    first_factor, second_factor = int(rounded[0]), int(rounded[1])
    while shift > 0 and not (first_factor | second_factor) & 1:
        first_factor, second_factor, shift = first_factor >> 1, second_factor >> 1, shift - 1
    return (first_factor, second_factor), shift


def _aligned(
    sign: int, first: QuantParams, second: QuantParams, made: QuantParams, profile: Profile
) -> Binary:
    factors, shift = aligned_factors(first, second, made, profile)
    return lambda a, b: rounding_shift_up(a * factors[0] + sign * b * factors[1], shift)


def _product(first: QuantParams, second: QuantParams, made: QuantParams, profile: Profile) -> Binary:
    factor = _in_float32(first.scale[0], second.scale[0], made.scale[0])
    return lambda a, b: _scaled(a * b, factor, profile)


def _in_float32(first: float, second: float, made: float) -> float:
    """The product of two scales by a third, every step rounded to float32.

    Source: TensorFlow Lite, the kernels of MUL, PRELU and LEAKY_RELU when they prepare their multipliers.
    """
    return float(np.float32(first) * np.float32(second) / np.float32(made))


def _prelu(first: QuantParams, second: QuantParams, made: QuantParams, profile: Profile) -> Binary:
    kept = first.scale[0] / made.scale[0]
    sloped = _in_float32(first.scale[0], second.scale[0], made.scale[0])

    def compute(x: Array, slope: Array) -> Array:
        return np.where(x >= 0, _scaled(x, kept, profile), _scaled(x * slope, sloped, profile))

    return compute


def unary(layer: Layer, source: Value, profile: Profile) -> Unary:
    """A layer of one activation that works element by element."""
    quant, made = source.type.quant, layer.output.type.quant
    assert quant is not None  # noqa: S101 - the caller checks
    assert made is not None  # noqa: S101 - the caller checks
    node = layer.nodes[0]
    if profile.name == "tflite" and len(layer.nodes) == 1:
        if node.op == "LeakyRelu":
            return _leaky(quant, made, node.float_attribute("alpha", 0.01), profile)
        if node.op == "HardSwish":
            return _hard_swish(quant, made)
    session = _float_session(layer, source)
    name = source.name

    def compute(codes: Array) -> Array:
        flat = to_real(codes.reshape(1, -1), quant)
        (result,) = session.run({name: flat}).values()
        return to_codes(result, made, profile).reshape(codes.shape)

    return compute


def _float_session(layer: Layer, source: Value) -> Session:
    """The layer on its own, in float, on ``[1, n]``; constants of one element are as they are."""
    graph = Graph("table")
    twins: dict[Value, Value] = {source: graph.add_input(source.name, TensorType("float32", (1, None)))}
    for node in layer.nodes:
        for value in node.inputs:
            if value is not None and value.constant is not None and value not in twins:
                twins[value] = graph.add_constant(value.name, value.constant, value.type)
        inputs = [None if value is None else twins[value] for value in node.inputs]
        outputs = [(value.name, TensorType(value.type.dtype, None)) for value in node.outputs]
        twins.update(
            zip(node.outputs, graph.add_node(node.op, inputs, outputs, node.attributes).outputs, strict=True)
        )
    graph.set_outputs([twins[layer.output]])
    return Session(to_model(graph, quantized=False), optimize=False)


def _leaky(quant: QuantParams, made: QuantParams, alpha: float, profile: Profile) -> Unary:
    """Two multipliers, one on either side of zero.

    Source: TensorFlow Lite, QuantizeLeakyRelu in its reference kernels.
    """
    low, high = limits(made)
    kept = _in_float32(quant.scale[0], 1.0, made.scale[0])
    sloped = _in_float32(quant.scale[0], alpha, made.scale[0])

    def compute(codes: Array) -> Array:
        below = -_scaled(-codes, sloped, profile) if sloped < 0 else _scaled(codes, sloped, profile)
        return np.clip(np.where(codes >= 0, _scaled(codes, kept, profile), below), low, high)

    return compute


def _hard_swish(quant: QuantParams, made: QuantParams) -> Unary:
    """Fixed point with 15 bits behind the point.

    Source: TensorFlow Lite, HardSwish in its reference kernels for 8-bit codes.
    """
    low, high = limits(made)
    high_resolution = quant.scale[0] / 128.0
    to_output = quantize_multiplier(high_resolution / made.scale[0])
    to_relu = quantize_multiplier(high_resolution / (3.0 / 32768.0))
    output = min((int(to_output.mantissa) + (1 << 15)) >> 16, 32767)
    relu = min((int(to_relu.mantissa) + (1 << 15)) >> 16, 32767)

    def compute(codes: Array) -> Array:
        wide = codes << 7
        prescaled = _doubling_high_16(wide, output)
        reluish = wide
        if int(to_relu.shift) > 0:
            reluish = np.clip(reluish << (int(to_relu.shift) - 1), -32768, 32767)
        reluish = _doubling_high_16(reluish, relu)
        if int(to_relu.shift) > 0:
            reluish = np.clip(reluish << 1, -32768, 32767)
        elif int(to_relu.shift) < 0:
            reluish = rounding_shift_away(reluish, -int(to_relu.shift))
        reluish = (reluish + (1 << 15)) >> 1
        product = np.trunc(reluish * prescaled / (1 << 15)).astype(np.int64)
        return np.clip(rounding_shift_away(product, max(0, -int(to_output.shift))), low, high)

    return compute


def _doubling_high_16(x: Array, by: int) -> Array:
    product: Array = (x * by + (1 << 14)) >> 15
    return np.clip(product, -32768, 32767)
