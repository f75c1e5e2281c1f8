"""From ranges and widths to `QuantParams` for every tensor, under the rules of the target.

Layers are solved in executable order, since under shift-only arithmetic the scale of an output follows from
those of its inputs and weights. The graph is changed in place: activations get types with `QuantParams`,
constants get codes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import attrs

from lowtide.calibrate import Range
from lowtide.diagnostics import Diagnostics
from lowtide.errors import QuantizationError
from lowtide.ir import Array, Constant, DType, Graph, Layer, Node, QuantParams, TensorType, Value, layers
from lowtide.precision import DisjointSets, PrecisionPlan, layer_reads, quantized_values
from lowtide.quantize import numbers, weights
from lowtide.quantize.operands import MAC_OPS, data_operands, mac_operands
from lowtide.target import Placement, ScaleRule, Target


@attrs.frozen(kw_only=True)
class SolveRequest:
    """What the solver needs besides the graph.

    Attributes:
        rule: the scale rule in force.
        ranges: by tensor name, for every quantized activation that has no codes yet.
        weight_scales: scales that are known already, by layer name: one, or one per output channel.
        channel_wise: whether depthwise weights have a scale per channel where the rule leaves that open.
        clip_bias: whether a bias that its format cannot hold saturates; otherwise the weight scale is raised
            until it fits.
    """

    target: Target
    rule: ScaleRule
    placement: Placement
    plan: PrecisionPlan
    ranges: Mapping[str, Range]
    weight_scales: Mapping[str, tuple[float, ...]] = attrs.field(factory=dict[str, tuple[float, ...]])
    channel_wise: bool = False
    clip_bias: bool = False
    diagnostics: Diagnostics = attrs.field(factory=Diagnostics)


def solve(graph: Graph, request: SolveRequest) -> None:
    """Quantize a prepared float graph in place.

    Raises:
        QuantizationError: naming the tensor, when a range is missing or no legal parameters exist.
    """
    _Solver(graph, request).run()


def tied_tensors(graph: Graph, request: SolveRequest, values: tuple[Value, ...]) -> DisjointSets[str]:
    """Tensors that must have the same parameters: those on both sides of an operator that only moves codes.

    The inputs of a concatenation are tied too, except where scales follow from accumulators: there each input
    is requantized to the output's scale.
    """
    sets: DisjointSets[str] = DisjointSets()
    known = set(values)
    for value in values:
        sets.add(value.name)
    for layer in layers(graph):
        if not request.placement.on_accelerator(layer.name):
            continue
        if request.target.operators[layer.op].kind != "same-codes":
            continue
        reads = layer_reads(layer)
        if len(reads) > 1 and request.rule.activation_scale == "accumulator":
            continue
        tied = [value.name for value in (*reads, *layer.outputs) if value in known]
        widths = {request.plan.activations[name] for name in tied}
        if len(widths) == 1:
            sets.union(tied)
    return sets


def may_be_asymmetric(value: Value, around: Iterable[Layer], request: SolveRequest) -> bool:
    """Whether a tensor may have a zero point between the layers that make and read it."""
    if request.rule.activation == "symmetric":
        return False
    if request.rule.zero_points == "everywhere":
        return True
    if value.producer is None and not request.target.input_asymmetric:
        return False
    on_device = [layer for layer in around if request.placement.on_accelerator(layer.name)]
    return all(_allows_zero_point(layer, request) for layer in on_device)


def _allows_zero_point(layer: Layer, request: SolveRequest) -> bool:
    rule = request.target.operators[layer.op]
    dynamic = layer.op in MAC_OPS and mac_operands(layer.nodes[0]) is None
    return rule.asymmetric and not (dynamic and rule.asymmetric_needs_constant)


class _Solver:
    def __init__(self, graph: Graph, request: SolveRequest) -> None:
        self.graph = graph
        self.request = request
        self.values = quantized_values(graph, request.target, request.placement)
        self.known = set(self.values)
        self.sets = tied_tensors(graph, request, self.values)
        self.members = self.sets.sets()
        self.makers = {value: layer for layer in layers(graph) for value in layer.outputs}
        self.readers: dict[Value, list[Layer]] = {}
        for layer in layers(graph):
            for value in layer.inputs:
                self.readers.setdefault(value, []).append(layer)

    def run(self) -> None:
        for layer in layers(self.graph):
            for value in (*layer.inputs, *layer.outputs):
                if value not in self.known:
                    continue
                if value in layer.outputs and self.on_device(layer):
                    self.parameters(layer)
                if value.type.quant is None:
                    made_here = value in layer.outputs and self.on_device(layer)
                    self.activation(value, layer if made_here else None)

    def on_device(self, layer: Layer) -> bool:
        return self.request.placement.on_accelerator(layer.name)

    # --- activations ---

    def activation(self, value: Value, maker: Layer | None) -> None:
        members = [self.graph.values[name] for name in self.members[self.sets.find(value.name)]]
        low, high = self.range_of(members)
        bits = self.request.plan.activations[value.name]
        quant = self.choose(members, low, high, bits, maker)
        for member in members:
            self.graph.retype(member, member.type.with_quant(quant))

    def range_of(self, members: list[Value]) -> tuple[float, float]:
        lows, highs = [0.0], [0.0]
        for member in members:
            found = self.request.ranges.get(member.name)
            if found is None:
                raise QuantizationError(
                    "no range is known for this tensor",
                    place=member.name,
                    hint="it was not seen during calibration; give calibration data",
                )
            if not -math.inf < found.min <= found.max < math.inf:
                raise QuantizationError(
                    f"expected finite numbers in order as range, found {found.min} to {found.max}",
                    place=member.name,
                )
            lows.append(found.min)
            highs.append(found.max)
        return min(lows), max(highs)

    def choose(
        self, members: list[Value], low: float, high: float, bits: int, maker: Layer | None
    ) -> QuantParams:
        rule = self.request.rule
        if all(self.may_be_asymmetric(member) for member in members):
            signed = rule.activation_dtype.signed
            dtype = numbers.signed_dtype(bits) if signed else numbers.unsigned_dtype(bits)
            return numbers.asymmetric(low, high, dtype)
        if rule.activation_scale == "power-of-two":
            return numbers.power_of_two(low, high, bits)
        accumulator = self.accumulator(maker) if rule.activation_scale == "accumulator" and maker else None
        if accumulator is None:
            return numbers.symmetric(low, high, bits)
        dtype = numbers.symmetric_dtype(low, bits)
        scale, _ = numbers.accumulator_scale(low, high, dtype, accumulator)
        return QuantParams(dtype, scale)

    def may_be_asymmetric(self, value: Value) -> bool:
        around = [layer for layer in (self.makers.get(value), *self.readers.get(value, ())) if layer]
        return may_be_asymmetric(value, around, self.request)

    def accumulator(self, maker: Layer) -> float | None:
        """The scale of the accumulator, or ``None`` for a layer that multiplies nothing."""
        node = maker.nodes[0]
        if node.op not in MAC_OPS:
            return None
        scales: list[float] = []
        for operand in node.inputs[:2]:
            if operand is None or operand.type.quant is None:
                return None
            # Under shift-only arithmetic per-channel scales are the tensor's divided by powers of two.
            scales.append(max(operand.type.quant.scale))
        return scales[0] * scales[1]

    # --- constants ---

    def parameters(self, layer: Layer) -> None:
        bits = self.request.plan.weights[layer.name]
        for node in layer.nodes:
            if mac_operands(node) is not None:
                weights.quantize_mac(self.graph, node, bits, self.request)
            elif self.request.target.operators[layer.op].kind not in {"norm", "float"}:
                self.constant_operands(node, layer, bits)

    def constant_operands(self, node: Node, layer: Layer, bits: int) -> None:
        for position in data_operands(node):
            value = node.value(position)
            if not value.is_constant or value.type.quant is not None:
                continue
            own = weights.own_constant(self.graph, node, position)
            assert own.constant is not None  # noqa: S101 - checked above
            real = own.constant.array()
            quant = self.constant_quant(layer, real, bits)
            codes = Constant.of(numbers.quantize(real, quant))
            self.graph.set_constant(own, codes, TensorType(DType.FLOAT32, own.type.shape, quant))

    def constant_quant(self, layer: Layer, real: Array, bits: int) -> QuantParams:
        low, high = float(real.min(initial=0.0)), float(real.max(initial=0.0))
        rule = self.request.rule
        if rule.activation_scale == "power-of-two":
            # Constants are known, so none needs to saturate: 1.0 is to stay 1.0.
            quant = numbers.symmetric(low, high, bits)
            return QuantParams(quant.dtype, math.ldexp(1.0, numbers.ceil_log2(quant.scale[0])))
        if rule.activation == "asymmetric" and (
            rule.zero_points == "everywhere" or _allows_zero_point(layer, self.request)
        ):
            signed = rule.activation_dtype.signed
            dtype = numbers.signed_dtype(bits) if signed else numbers.unsigned_dtype(bits)
            return numbers.asymmetric(low, high, dtype)
        return numbers.symmetric(low, high, bits)
