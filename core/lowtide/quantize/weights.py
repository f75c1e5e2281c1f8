"""Weights and biases of multiply-accumulate layers: scales, codes, bias formats, overflow."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from lowtide.errors import QuantizationError
from lowtide.ir import Array, Constant, DType, Graph, Node, QuantParams, TensorType, Value
from lowtide.quantize import numbers
from lowtide.quantize.operands import MacOperands, by_output_channel, mac_operands, output_channels

if TYPE_CHECKING:
    from lowtide.quantize.solve import SolveRequest

MOST_CHANNEL_SHIFTS = 8
"""Per-channel scales under shift-only arithmetic are at most 2^8 below that of the tensor.

Source: the vendor's published training-side simulation.
"""

LARGE_BIAS = 1 << 22
"""A bias that a weight scale should not make larger, in units of the accumulator.

Next to such a bias, which is worth at most all codes of the output, one step of a weight is worth less than
a hundredth of a code. Larger ones come from channels that are almost dead; their sums would leave what 24
bits hold.
"""

LARGE_WIDE_BIAS = 1 << 38
"""The same next to accumulators of 64 bits, of layers with operands of 16."""

SPLIT_BIAS_LIMIT = 127 * 255
"""The largest bias of the split format: code times multiplier, in units of the accumulator."""


def own_constant(graph: Graph, node: Node, position: int) -> Value:
    """The constant operand of a node, copied if other nodes read it too, since they may want other codes."""
    value = node.value(position)
    if len(value.uses) == 1 and not graph.is_output(value):
        return value
    assert value.constant is not None  # noqa: S101 - the caller asks for constants
    copy = graph.add_constant(graph.fresh_name(f"{value.name}_{node.name}"), value.constant, value.type)
    graph.set_input(node, position, copy)
    return copy


def quantize_mac(graph: Graph, node: Node, bits: int, request: SolveRequest) -> None:
    """Give the weights and the bias of a node codes; those that have some keep them.

    A float bias beside weights that have codes gets the scale of the accumulator.

    Raises:
        QuantizationError: when weights are not finite.
    """
    operands = mac_operands(node)
    if operands is None:
        return
    kept = operands.weights.type.quant
    if kept is not None:
        source = operands.activation.type.quant
        if operands.bias is not None and operands.bias.type.quant is None and source is not None:
            bias = _real_bias(operands, node)
            assert bias is not None  # noqa: S101 - there is one
            _set_bias(graph, node, bias, source, kept, request)
        return
    weights = own_constant(graph, node, 1)
    assert weights.constant is not None  # noqa: S101 - mac_operands checked it
    real = weights.constant.array()
    if not np.isfinite(real).all():
        raise QuantizationError("the weights hold NaN or infinity", place=f"{node.place}, {weights.name}")
    known = request.weight_scales.get(node.layer or node.output.name)
    if known is not None:
        single = output_channels(node, operands) == 1 and _by_channel(operands, node, request)
        axis = operands.axis if len(known) > 1 or single else None
        quant = QuantParams(numbers.signed_dtype(bits), known, 0, axis)
    else:
        quant = _weight_quant(real, operands, node, bits, request)
    bias = _real_bias(operands, node)
    activation = operands.activation.type.quant
    if activation is not None and known is None:
        quant = _scale_zeros(real, quant, bias, activation, request)
        quant = _make_room(real, quant, bias, activation, node, request)
    codes = numbers.quantize(real, quant, half="away")
    graph.set_constant(weights, Constant.of(codes), TensorType(DType.FLOAT32, weights.type.shape, quant))
    if bias is not None and activation is not None:
        _set_bias(graph, node, bias, activation, quant, request)


def requantize_bias(graph: Graph, node: Node, bias: Array, request: SolveRequest) -> None:
    """Replace the bias of a quantized node by other real values, [C_out]; added if there was none."""
    operands = mac_operands(node)
    if operands is None or node.op == "MatMul":
        raise QuantizationError(
            "only Conv, ConvTranspose and Gemm with constant weights have a bias", place=node.place
        )
    weights, activation = operands.weights.type.quant, operands.activation.type.quant
    if weights is None or activation is None:
        raise QuantizationError("the layer is not quantized", place=node.place)
    _set_bias(graph, node, bias, activation, weights, request)


def _weight_quant(
    real: Array, operands: MacOperands, node: Node, bits: int, request: SolveRequest
) -> QuantParams:
    rule = request.rule
    power, narrow = rule.weight_scale == "power-of-two", rule.weight_codes == "narrow"
    if _by_channel(operands, node, request):
        return numbers.weight_params(real, bits, axis=operands.axis, power=power, narrow=narrow)
    tensor = numbers.weight_params(real, bits, axis=None, power=power, narrow=narrow)
    by_channel = rule.weight_granularity == "per-channel-depthwise" and request.channel_wise
    if not (by_channel and operands.depthwise and operands.axis is not None):
        return tensor
    scales = shifted_scales(tensor.scale[0], fine_scales(real, operands, bits, request))
    return QuantParams(tensor.dtype, scales, 0, operands.axis)


def _by_channel(operands: MacOperands, node: Node, request: SolveRequest) -> bool:
    """Whether the rule gives every output channel a scale of its own."""
    possible = request.target.operators[node.op].per_channel and operands.axis is not None
    return possible and request.rule.weight_granularity == "per-channel"


def fine_scales(real: Array, operands: MacOperands, bits: int, request: SolveRequest) -> tuple[float, ...]:
    """The scale of every output channel that its own weights need under the rule, were it alone."""
    power, narrow = request.rule.weight_scale == "power-of-two", request.rule.weight_codes == "narrow"
    return numbers.weight_params(real, bits, axis=operands.axis, power=power, narrow=narrow).scale


def shifted_scales(base: float, wanted: Iterable[float]) -> tuple[float, ...]:
    """For every channel the smallest base * 2^-k, 0 <= k <= 8, that is not below what the channel wants."""
    return tuple(_shifted(base, scale) for scale in wanted)


def _shifted(base: float, wanted: float) -> float:
    shifts = math.floor(math.log2(base / wanted) + 1e-9) if wanted < base else 0
    return math.ldexp(base, -min(shifts, MOST_CHANNEL_SHIFTS))


def _make_room(  # noqa: PLR0917 - all of them decide on the scale
    real: Array,
    quant: QuantParams,
    bias: Array | None,
    activation: QuantParams,
    node: Node,
    request: SolveRequest,
) -> QuantParams:
    """Raise weight scales until accumulators cannot overflow and, if wanted, the bias format holds the bias.

    Every channel is raised by what it needs itself: a dead channel has tiny weights and an ordinary bias, and
    must not take the others' precision.
    """
    quant = _keep_normal(quant, activation, request)
    wide = quant.bits > 8 or activation.bits > 8
    codes = by_output_channel(node, numbers.quantize(real, quant, half="away"))
    reach = numbers.accumulator_reach(codes, 0, activation)
    # The products and the bias get half of the accumulator each.
    bits = request.target.bias.accumulator_bits["16" if wide else "8"]
    factors = reach / (((1 << (bits - 1)) - 1) / 2)
    if bias is not None:
        steps = np.abs(_bias_steps(bias, activation, quant))
        room: float = most_bias_steps(request, wide=wide)
        if room == SPLIT_BIAS_LIMIT and len(quant.scale) > 1:
            coarsest = activation.scale[0] * max(quant.scale)
            room = split_room(float(np.abs(bias).max(initial=0.0)) / coarsest)
        factors = np.maximum(factors, steps / room)
    if len(quant.scale) == 1:
        factors = factors.max(keepdims=True, initial=0.0)
    if factors.max(initial=0.0) <= 1.0:
        return quant
    raised = tuple(_raise(scale, factor, request) for scale, factor in zip(quant.scale, factors, strict=True))
    count = int((factors > 1).sum())
    request.diagnostics.info(
        "LT851",
        node.place,
        f"the weight scale of {count} of {len(factors)} channels is up to {factors.max():.3g} times what "
        "weights need, so that neither the accumulator nor the bias overflows",
    )
    return QuantParams(quant.dtype, raised, quant.zero_point, quant.axis)


def most_bias_steps(request: SolveRequest, *, wide: bool) -> int:
    """How large a bias may be in units of the accumulator, without a coarser weight scale.

    Args:
        request: the rules.
        wide: whether one of the operands has 16 bits.
    """
    split = request.target.bias.split and not request.clip_bias
    return LARGE_WIDE_BIAS if wide else SPLIT_BIAS_LIMIT if split else LARGE_BIAS


def split_room(coarse_steps: float) -> float:
    """How large biases may be beside weight scales per channel, where one multiplier serves the layer.

    A finer channel has more steps of its accumulator in its bias, and the multiplier that it needs makes the
    biases of all channels coarser. So no channel is finer than what the multiplier for the largest bias at
    the coarsest scale leaves.

    Args:
        coarse_steps: the largest bias in units of the coarsest accumulator.
    """
    return min(max(coarse_steps, SPLIT_BIAS_LIMIT / 255), SPLIT_BIAS_LIMIT)


def _keep_normal(quant: QuantParams, activation: QuantParams, request: SolveRequest) -> QuantParams:
    """Raise weight scales until those of the accumulator are normal float32 numbers."""
    least = numbers.SMALLEST_SCALE / activation.scale[0]
    raised = tuple(_raise(scale, least / scale, request) for scale in quant.scale)
    return QuantParams(quant.dtype, raised, quant.zero_point, quant.axis)


def _scale_zeros(
    real: Array, quant: QuantParams, bias: Array | None, activation: QuantParams, request: SolveRequest
) -> QuantParams:
    """Give channels of zeros a scale at which the bias, all that they have, is exact enough.

    They take the finest scale of the channels that have weights; where none has, one at which the largest
    bias is about 2^14 steps of the accumulator, which every bias format holds.
    """
    others = None if quant.axis is None else tuple(at for at in range(real.ndim) if at != quant.axis)
    alive = np.atleast_1d(np.any(real, axis=others))
    if alive.all():
        return quant
    if alive.any():
        fill = min(scale for scale, used in zip(quant.scale, alive, strict=True) if used)
    elif bias is not None and np.any(bias):
        wanted = float(np.abs(bias).max()) / (activation.scale[0] * 2**14)
        fill = math.ldexp(1.0, numbers.ceil_log2(wanted)) if request.rule.requantize == "shift" else wanted
    else:
        return quant
    scales = tuple(scale if used else fill for scale, used in zip(quant.scale, alive, strict=True))
    return QuantParams(quant.dtype, scales, quant.zero_point, quant.axis)


def _raise(scale: float, factor: float, request: SolveRequest) -> float:
    if factor <= 1:
        return scale
    if request.rule.requantize == "shift":
        # Scales that differ by powers of two must go on doing so.
        return math.ldexp(scale, numbers.ceil_log2(float(factor)))
    return scale * float(factor) * (1 + 1e-6)


def _real_bias(operands: MacOperands, node: Node) -> Array | None:
    if operands.bias is None or operands.bias.constant is None:
        return None
    channels = output_channels(node, operands)
    data = operands.bias.constant.array()
    if operands.bias.type.quant is not None:
        raise QuantizationError("the bias has codes but the weights have none", place=node.place)
    return np.broadcast_to(data.reshape(-1), (channels,)).astype(np.float64)


def _bias_steps(bias: Array, activation: QuantParams, quant: QuantParams) -> Array:
    steps: Array = bias / np.array(numbers.bias_scales(activation.scale[0], quant))
    return steps


def _set_bias(  # noqa: PLR0917 - all of them decide on the codes
    graph: Graph, node: Node, bias: Array, activation: QuantParams, quant: QuantParams, request: SolveRequest
) -> None:
    steps = _bias_steps(bias, activation, quant)
    type_, data = TensorType(DType.FLOAT32, bias.shape), np.asarray(bias, np.float32)
    if np.abs(steps).max(initial=0.0) <= DType.INT32.max:
        scales = numbers.bias_scales(activation.scale[0], quant)
        parameters = QuantParams(DType.INT32, scales, 0, None if len(scales) == 1 else 0)
        data = numbers.round_half_away(steps).astype(np.int32)
        if request.target.bias.split and quant.bits == 8 and activation.bits == 8:
            data = _split(node, data, request)
        type_ = type_.with_quant(parameters)
    else:
        request.diagnostics.info(
            "LT852",
            node.place,
            "the bias needs more than 32 bits at this width and stays float in the model file",
        )
    _store_bias(graph, node, Constant.of(data), type_)


def _split(node: Node, codes: Array, request: SolveRequest) -> Array:
    stored = numbers.split_bias(codes)
    if np.abs(codes).max(initial=0) > SPLIT_BIAS_LIMIT:
        request.diagnostics.warning(
            "LT853",
            node.place,
            f"the bias saturates: it needs {int(np.abs(codes).max())} steps of the accumulator and has "
            f"{SPLIT_BIAS_LIMIT}",
            "advanced_options:bias_clipping=0 lowers the precision of the weights instead"
            if request.clip_bias
            else "parameters of 16 bits hold it",
        )
    return stored


def _store_bias(graph: Graph, node: Node, constant: Constant, type_: TensorType) -> None:
    if node.operand(2) is None:
        value = graph.add_constant(graph.fresh_name(f"{node.name}_bias"), constant, type_)
        graph.set_input(node, 2, value)
    else:
        graph.set_constant(own_constant(graph, node, 2), constant, type_)
