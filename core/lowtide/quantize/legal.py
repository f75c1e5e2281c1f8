"""What a device can make of a network that brings its own scales.

Every rule names what breaks it. What can be written in another way with the same codes, or the same numbers
behind them, is repaired; the rest is refused, or with `convert` gives up its scales and keeps its ranges.

Source: the vendor's published restrictions on layers of pre-quantized networks.
"""

from __future__ import annotations

import attrs

from lowtide.calibrate import Range
from lowtide.errors import short_name
from lowtide.ir import Graph, Layer, QuantParams, Value, layers
from lowtide.precision import layer_reads, precision_classes, quantized_values
from lowtide.quantize.clamps import add_clamps, clamps_in_codes
from lowtide.quantize.codes import with_sign
from lowtide.quantize.findings import Finding, Legal
from lowtide.quantize.legal_layers import LayerRules
from lowtide.quantize.legal_rules import Rules, nearest_power
from lowtide.quantize.solve import SolveRequest, may_be_asymmetric, tied_tensors
from lowtide.target import check_node

__all__ = ["Finding", "Legal", "legalize"]


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
        self.legal = Legal()
        self.rules = Rules(request, self.legal, convert=convert)
        self.convert = convert
        found = layers(graph)
        self.makers = {value: layer for layer in found for value in layer.outputs}
        self.readers: dict[Value, list[Layer]] = {}
        for layer in found:
            for value in layer.inputs:
                self.readers.setdefault(value, []).append(layer)
        self.values = quantized_values(graph, request.target, request.placement)
        self.ties = tied_tensors(graph, request, self.values)
        self.members = self.ties.sets()
        self.clamps = clamps_in_codes(graph) if convert else {}

    def run(self) -> Legal:
        lost = self.widths()
        for value in self.values:
            if value.type.quant is not None and value.name not in lost and not self.activation(value):
                lost.add(value.name)
        if self.convert:
            for value in self.values:
                if value.name in lost:
                    self.release(value.name)
        LayerRules(self.graph, self.rules, self.release).run()
        self.moves()
        clamps = {name: quant for name, quant in self.clamps.items() if name in self.legal.ranges}
        add_clamps(self.graph, clamps, fused=True)
        return self.legal

    def moves(self) -> None:
        """Say where an operator that could move codes has to make others."""
        for layer in layers(self.graph):
            if not self.rules.on_device(layer):
                continue
            if self.request.target.operators[layer.op].kind != "same-codes":
                continue
            made = layer.output.type.quant
            others = [
                value.name
                for value in layer_reads(layer)
                if made is not None and value.type.quant is not None and value.type.quant != made
            ]
            if others:
                shown = ", ".join(map(short_name, others[:3]))
                text = f"its codes are not those of {shown}: they are requantized there"
                self.rules.keep("LT885", layer.place, layer.output.name, text)

    def around(self, value: Value) -> list[Layer]:
        """The layers on the accelerator that make and read a value."""
        near = (self.makers.get(value), *self.readers.get(value, ()))
        return [layer for layer in near if layer and self.rules.on_device(layer)]

    def tied(self, value: Value) -> list[Value]:
        """The tensors that share the parameters of one, itself among them."""
        return [self.graph.values[name] for name in self.members[self.ties.find(value.name)]]

    # --- widths ---

    def widths(self) -> set[str]:
        """The tensors whose width the device does not have where they are."""
        lost: set[str] = set()
        for group in precision_classes(self.graph, self.request.target, self.request.placement):
            quants = {
                value: value.type.quant
                for value in map(self.graph.values.__getitem__, group.tensors)
                if value.type.quant is not None
            }
            wrong = {value: why for value, quant in quants.items() if (why := self.no_width(value, quant))}
            for value, why in wrong.items():
                self.rules.note("LT872", _place(value), value.name, why)
            found = sorted({quant.bits for quant in quants.values()})
            if not wrong and len(found) > 1:
                value = next(iter(quants))
                ties = ", ".join(map(short_name, group.ties[:3]))
                text = f"{' and '.join(map(str, found))} bits meet at {ties}"
                self.rules.note(
                    "LT886", _place(value), value.name, f"{text}, where the device cannot change the width"
                )
                self.legal.bits |= dict.fromkeys(group.tensors, found[-1])
            if wrong or len(found) > 1:
                lost |= {value.name for value in quants}
        return lost

    def no_width(self, value: Value, quant: QuantParams) -> str:
        """Why a tensor cannot have the width of its codes; empty when it can."""
        target, bits = self.request.target, quant.bits
        if bits not in target.bits:
            return f"the device has no {quant.dtype} activations"
        for layer in self.around(value):
            for node in layer.nodes:
                # Placement has looked at the constraints for the width of the options.
                failed = [c for c in check_node(target, node, bits, layer_size=len(layer.nodes)) if c.bits]
                if failed:
                    return f"it has {bits} bits at {layer.op}: {failed[0].reason}"
        return ""

    # --- activations ---

    def activation(self, value: Value) -> bool:
        """Whether the codes of an activation can stay; repairs what can be repaired."""
        quant = value.type.quant
        assert quant is not None  # noqa: S101 - the caller checks
        if quant.axis is not None:
            if len(set(quant.scale)) > 1 or len(set(quant.zero_point)) > 1:
                text = f"it has {len(quant.scale)} scales, one per channel; activations have one scale"
                self.rules.note("LT871", _place(value), value.name, text)
                return False
            quant = QuantParams(quant.dtype, quant.scale[0], quant.zero_point[0])
            self.retype(value, quant, "its equal scales per channel become one", code="LT871")
        tied = self.tied(value)
        if not all(self.may_be_asymmetric(member) for member in tied):
            return self.symmetric(value, quant, tied)
        wanted = with_sign(quant, signed=self.rule.activation_dtype.signed)
        symmetric = all(other.type.quant is None or other.type.quant.is_symmetric for other in tied)
        if wanted != quant and (self.rule.zero_points == "everywhere" or not symmetric):
            self.retype(value, wanted, f"its {quant.dtype} codes are written as {wanted.dtype}")
        return True

    def retype(self, value: Value, quant: QuantParams, message: str, *, code: str = "LT873") -> None:
        self.graph.retype(value, value.type.with_quant(quant))
        self.rules.note(code, _place(value), value.name, message, repaired=True)

    def may_be_asymmetric(self, value: Value) -> bool:
        return may_be_asymmetric(value, self.around(value), self.request)

    def symmetric(self, value: Value, quant: QuantParams, tied: list[Value]) -> bool:
        if not quant.is_symmetric:
            other = with_sign(quant, signed=not quant.dtype.signed)
            if not other.is_symmetric:
                text = f"it has the zero point {quant.zero_point[0]}, and here the device has none"
                why = self.why_symmetric(value, tied)
                self.rules.note("LT874", _place(value), value.name, f"{text} ({why})")
                return False
            self.retype(value, other, f"its {quant.dtype} codes are written as {other.dtype}")
        return self.rule.activation_scale != "power-of-two" or self.power(value)

    def why_symmetric(self, value: Value, tied: list[Value]) -> str:
        if self.rule.activation == "symmetric":
            return f"scale rule {self.rule.name}"
        if self.may_be_asymmetric(value):
            first = next(member for member in tied if not self.may_be_asymmetric(member))
            return f"it shares its codes with {short_name(first.name)}, {self.why_symmetric(first, tied)}"
        if value.producer is None and not self.request.target.input_asymmetric:
            return "a network input"
        listed = self.request.target.operators
        ops = [layer.op for layer in self.around(value) if not listed[layer.op].asymmetric]
        return f"next to {', '.join(dict.fromkeys(ops))}" if ops else "a product of two activations"

    def power(self, value: Value) -> bool:
        quant = value.type.quant
        assert quant is not None  # noqa: S101 - the caller checks
        scale = nearest_power(quant.scale[0])
        if scale is None:
            text = f"its scale {quant.scale[0]:.6g} is no power of two"
            self.rules.note("LT875", _place(value), value.name, text)
            return False
        if scale != quant.scale[0]:
            self.graph.retype(value, value.type.with_quant(attrs.evolve(quant, scale=scale)))
        return True

    # --- conversion ---

    def release(self, name: str) -> None:
        """Take the codes off a tensor, and off those that have to share parameters with it."""
        for value in self.tied(self.graph.values[name]):
            quant = value.type.quant
            if quant is None:
                continue
            self.legal.ranges[value.name] = Range(*quant.range)
            if not self.no_width(value, quant):
                self.legal.bits.setdefault(value.name, quant.bits)
            self.graph.retype(value, value.type.with_quant(None))


def _place(value: Value) -> str:
    return value.producer.place if value.producer is not None else f"input {value.name}"
