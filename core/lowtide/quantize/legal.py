"""What a device can make of a network that brings its own scales.

Every rule names what breaks it. What can be written in another way with the same codes, or the same numbers
behind them, is repaired; the rest is refused, or with `convert` gives up its scales and keeps its ranges.

Source: the vendor's published restrictions on layers of pre-quantized networks.
"""

from __future__ import annotations

import math

import attrs
import numpy as np

from lowtide.calibrate import Range
from lowtide.ir import Array, Constant, DType, Graph, Layer, Node, QuantParams, TensorType, Value, layers
from lowtide.precision import layer_reads
from lowtide.quantize import numbers
from lowtide.quantize.codes import constant_with_sign, with_sign
from lowtide.quantize.operands import MacOperands, mac_operands
from lowtide.quantize.solve import SolveRequest, may_be_asymmetric, tied_tensors
from lowtide.quantize.weights import own_constant
from lowtide.runtime import dequantize

POWER_TOLERANCE = 1e-6
"""A scale this close, relatively, to what shifts can reach is meant to be it: files store float32."""


@attrs.frozen
class Finding:
    """One place where the scales of a network do not suit a device.

    Attributes:
        code: ``LTnnn``.
        place: the node in the words of the model file.
        tensor: the value, weights or bias.
        message: what was found and what the device wants.
        action: what a compile does: ``repaired``, ``converted`` (other codes for the same range), or
            ``refused``.
    """

    code: str
    place: str
    tensor: str
    message: str
    action: str


@attrs.define
class Legal:
    """The outcome.

    Attributes:
        findings: in executable order.
        ranges: of the tensors that lost their scales, for the solver.
    """

    findings: list[Finding] = attrs.field(factory=list[Finding])
    ranges: dict[str, Range] = attrs.field(factory=dict[str, Range])

    @property
    def refused(self) -> tuple[Finding, ...]:
        """What stops a compile."""
        return tuple(finding for finding in self.findings if finding.action == "refused")


def legalize(graph: Graph, request: SolveRequest, *, convert: bool) -> Legal:
    """Bring the scales of a quantized network in place into a form that the device has.

    Args:
        graph: prepared, with quantized types.
        request: the rules; its ranges are not looked at.
        convert: let what the device cannot take give up its codes.
    """
    return _Legalizer(graph, request, convert=convert).run()


class _Legalizer:
    def __init__(self, graph: Graph, request: SolveRequest, *, convert: bool) -> None:
        self.graph = graph
        self.request = request
        self.rule = request.rule
        self.convert = convert
        self.legal = Legal()
        self.found = layers(graph)
        self.makers = {value: layer for layer in self.found for value in layer.outputs}
        self.readers: dict[Value, list[Layer]] = {}
        for layer in self.found:
            for value in layer.inputs:
                self.readers.setdefault(value, []).append(layer)

    def run(self) -> Legal:
        stripped: set[str] = set()
        for value in self.around_device():
            if value.type.quant is not None and not self.activation(value):
                stripped.add(value.name)
        if self.convert:
            self.strip(stripped)
        for layer in self.found:
            if self.on_device(layer):
                for node in layer.nodes:
                    operands = mac_operands(node)
                    if operands is not None:
                        self.weights(node, operands)
                        self.requantization(layer, node, operands)
        return self.legal

    def on_device(self, layer: Layer) -> bool:
        return self.request.placement.on_accelerator(layer.name)

    def around_device(self) -> tuple[Value, ...]:
        """The activations that a layer on the accelerator reads or writes, in executable order."""
        seen: dict[Value, None] = {}
        for layer in self.found:
            if self.on_device(layer):
                seen.update(dict.fromkeys((*layer_reads(layer), *layer.outputs)))
        return tuple(seen)

    def note(self, code: str, place: str, tensor: str, message: str, *, repaired: bool) -> None:
        action = "repaired" if repaired else "converted" if self.convert else "refused"
        self.legal.findings.append(Finding(code, place, tensor, message, action))

    # --- activations ---

    def activation(self, value: Value) -> bool:
        """Whether the codes of an activation can stay; repairs what can be repaired."""
        place = value.producer.place if value.producer is not None else f"input {value.name}"
        quant = value.type.quant
        assert quant is not None  # noqa: S101 - the caller checks
        if quant.axis is not None:
            self.note(
                "LT871",
                place,
                value.name,
                "it has a scale per channel; activations have one scale",
                repaired=False,
            )
            return False
        if quant.bits not in self.request.target.bits:
            self.note(
                "LT872", place, value.name, f"the device has no {quant.dtype} activations", repaired=False
            )
            return False
        around = [layer for layer in (self.makers.get(value), *self.readers.get(value, ())) if layer]
        if not may_be_asymmetric(value, around, self.request):
            return self.symmetric(value, quant, place)
        wanted = self.rule.activation_dtype.signed
        if quant.dtype.signed is not wanted:
            made = with_sign(quant, signed=wanted)
            self.graph.retype(value, value.type.with_quant(made))
            self.note(
                "LT873",
                place,
                value.name,
                f"its {quant.dtype} codes are written as {made.dtype}",
                repaired=True,
            )
        return True

    def symmetric(self, value: Value, quant: QuantParams, place: str) -> bool:
        if not quant.is_symmetric:
            other = with_sign(quant, signed=not quant.dtype.signed)
            if not other.is_symmetric:
                self.note(
                    "LT874",
                    place,
                    value.name,
                    f"it has the zero point {quant.zero_point[0]}, and here the device has none "
                    f"({self.why_symmetric(value)})",
                    repaired=False,
                )
                return False
            self.graph.retype(value, value.type.with_quant(other))
            self.note(
                "LT873",
                place,
                value.name,
                f"its {quant.dtype} codes are written as {other.dtype}",
                repaired=True,
            )
        if self.rule.activation_scale == "power-of-two":
            return self.power(value, place)
        return True

    def why_symmetric(self, value: Value) -> str:
        if self.rule.activation == "symmetric":
            return f"scale rule {self.rule.name}"
        maker = self.makers.get(value)
        if maker is None:
            return "a network input"
        around = [maker, *self.readers.get(value, ())]
        listed = self.request.target.operators
        ops = [layer.op for layer in around if self.on_device(layer) and not listed[layer.op].asymmetric]
        return f"next to {', '.join(dict.fromkeys(ops))}" if ops else "a product of two activations"

    def power(self, value: Value, place: str) -> bool:
        quant = value.type.quant
        assert quant is not None  # noqa: S101 - the caller checks
        nearest = _nearest_power(quant.scale[0])
        if not math.isclose(nearest, quant.scale[0], rel_tol=POWER_TOLERANCE):
            self.note(
                "LT875",
                place,
                value.name,
                f"its scale {quant.scale[0]:.6g} is no power of two",
                repaired=False,
            )
            return False
        if nearest != quant.scale[0]:
            self.graph.retype(value, value.type.with_quant(attrs.evolve(quant, scale=nearest)))
        return True

    def strip(self, names: set[str]) -> None:
        """Take the codes off tensors, and off those that have to share parameters with them."""
        values = tuple(value for value in self.around_device() if value.name in self.request.plan.activations)
        sets = tied_tensors(self.graph, self.request, values)
        for members in sets.sets().values():
            if names & set(members):
                for name in members:
                    self.release(self.graph.values[name])

    def release(self, value: Value) -> None:
        quant = value.type.quant
        if quant is not None:
            self.legal.ranges[value.name] = Range(*quant.range)
            self.graph.retype(value, value.type.with_quant(None))

    # --- weights and biases ---

    def weights(self, node: Node, operands: MacOperands) -> None:
        quant = operands.weights.type.quant
        if quant is None:
            return
        if not self.weight_codes(node, operands, quant):
            if self.convert:
                _to_float(self.graph, node, 1)
                if operands.bias is not None:
                    _to_float(self.graph, node, 2)
            return
        self.bias(node)

    def weight_codes(self, node: Node, operands: MacOperands, quant: QuantParams) -> bool:
        place, name = node.place, operands.weights.name
        if not quant.dtype.signed:
            weights = own_constant(self.graph, node, 1)
            constant_with_sign(self.graph, weights, signed=True)
            quant = weights.type.quant or quant
            if quant.is_symmetric:
                self.note(
                    "LT873",
                    place,
                    name,
                    f"its uint{quant.bits} codes are written as {quant.dtype}",
                    repaired=True,
                )
        if not quant.is_symmetric:
            self.note(
                "LT876", place, name, "its weights have a zero point; the device has none", repaired=False
            )
            return False
        if quant.axis is not None and not self.per_channel(node, operands, quant):
            if len(set(quant.scale)) > 1:
                wanted = (
                    "one scale" if operands.axis is None else f"one scale, or one along axis {operands.axis}"
                )
                if not self.may_have_channels(node, operands):
                    wanted = "one scale"
                text = f"its weights have {len(quant.scale)} scales along axis {quant.axis}"
                self.note("LT877", place, name, f"{text}; the device wants {wanted}", repaired=False)
                return False
            weights = own_constant(self.graph, node, 1)
            single = QuantParams(quant.dtype, quant.scale[0])
            self.graph.retype(weights, weights.type.with_quant(single))
            self.note("LT877", place, name, "its equal scales per channel become one", repaired=True)
        if self.rule.weight_scale == "power-of-two":
            bad = [s for s in quant.scale if not math.isclose(_nearest_power(s), s, rel_tol=POWER_TOLERANCE)]
            if bad:
                self.note(
                    "LT875", place, name, f"its weight scale {bad[0]:.6g} is no power of two", repaired=False
                )
                return False
        return True

    def per_channel(self, node: Node, operands: MacOperands, quant: QuantParams) -> bool:
        return self.may_have_channels(node, operands) and quant.axis == operands.axis

    def may_have_channels(self, node: Node, operands: MacOperands) -> bool:
        if self.rule.weight_granularity == "per-channel":
            return self.request.target.operators[node.op].per_channel
        depthwise = self.rule.weight_granularity == "per-channel-depthwise" and operands.depthwise
        return depthwise and self.request.channel_wise

    def bias(self, node: Node) -> None:
        """Bring a bias to the scale of the accumulator, at most half a step away from what it was."""
        operands = mac_operands(node)
        if operands is None or operands.bias is None or operands.bias.constant is None:
            return
        activation, weights = operands.activation.type.quant, operands.weights.type.quant
        if activation is None and self.convert:
            _to_float(self.graph, node, 2)  # it belongs to a scale that has gone
        if activation is None or weights is None:
            return
        scales = numbers.bias_scales(activation.scale[0], weights)
        wanted = QuantParams(DType.INT32, scales, 0, None if len(scales) == 1 else 0)
        known = operands.bias.type.quant
        if known == wanted or operands.bias.type.shape is None:
            return
        real = _real(operands.bias)
        steps = np.broadcast_to(real.reshape(-1), (max(real.size, len(scales)),)) / np.array(wanted.scale)
        if np.abs(steps).max(initial=0) > DType.INT32.max:
            self.note(
                "LT878", node.place, operands.bias.name, "its bias does not fit 32 bits", repaired=False
            )
            return
        close = known is not None and np.allclose(known.scale, wanted.scale, rtol=1e-5, atol=0)
        data = operands.bias.constant.array().reshape(-1) if close else numbers.round_half_away(steps)
        made = TensorType(DType.FLOAT32, data.shape, wanted)
        bias = own_constant(self.graph, node, 2)
        self.graph.set_constant(bias, Constant.of(data.astype(np.int32)), made)
        if not close:
            what = "float" if known is None else "in another scale"
            self.note(
                "LT879",
                node.place,
                bias.name,
                f"its bias is {what}; it becomes int32 in the accumulator's",
                repaired=True,
            )

    def requantization(self, layer: Layer, node: Node, operands: MacOperands) -> None:
        """Where requantization can only shift, the scales of a layer differ by a power of two."""
        made, weights = layer.output.type.quant, operands.weights.type.quant
        activation = operands.activation.type.quant
        if self.rule.requantize != "shift" or made is None or weights is None or activation is None:
            return
        ratio = made.scale[0] / (activation.scale[0] * max(weights.scale))
        shift = _nearest_power(ratio)
        if shift < 1 or not math.isclose(shift, ratio, rel_tol=10 * POWER_TOLERANCE):
            self.note(
                "LT880",
                node.place,
                layer.output.name,
                f"its scale is {ratio:.6g} times that of the accumulator; the device can only shift right",
                repaired=False,
            )
            if self.convert:
                self.strip({layer.output.name})


def _nearest_power(number: float) -> float:
    return math.ldexp(1.0, round(math.log2(number)))


def _real(value: Value) -> Array:
    assert value.constant is not None  # noqa: S101 - the callers check
    quant = value.type.quant
    data = value.constant.array()
    return (data if quant is None else dequantize(data, quant)).astype(np.float64)


def _to_float(graph: Graph, node: Node, position: int) -> None:
    value = own_constant(graph, node, position)
    graph.set_constant(value, Constant.of(_real(value).astype(np.float32)))
