"""The constants of quantized networks: weights, operands, and the shifts between their scales."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs
import numpy as np

from lowtide.ir import Constant, Graph, Layer, Node, QuantParams, Value, layers
from lowtide.quantize import numbers
from lowtide.quantize.codes import constant_to_float, make_symmetric, with_sign
from lowtide.quantize.legal_biases import BiasRules
from lowtide.quantize.legal_rules import POWER_TOLERANCE, Rules, all_powers, nearest_power
from lowtide.quantize.operands import MacOperands, data_operands, mac_operands
from lowtide.quantize.weights import own_constant


class LayerRules:
    """Holds the constants of every layer on the accelerator against the rules of the device."""

    def __init__(self, graph: Graph, rules: Rules, release: Callable[[str], None]) -> None:
        self.graph = graph
        self.rules = rules
        self.rule = rules.rule
        self.target = rules.request.target
        self.release = release
        self.found = [layer for layer in layers(graph) if rules.on_device(layer)]

    def run(self) -> None:
        """Weights and operands first, then what follows from their scales."""
        for layer in self.found:
            for node in layer.nodes:
                operands = mac_operands(node)
                if operands is not None:
                    self.weights(layer, node, operands)
                elif self.target.operators[layer.op].kind not in {"norm", "float"}:
                    self.operands(layer, node)
        # Biases last: their scales follow from all others. One that fits no format takes the weights along.
        biases = BiasRules(self.graph, self.rules)
        while True:
            self.shifts()
            gone = [node for _, node, operands in self.macs() if not biases.check(node, operands)]
            if not (gone and self.rules.convert):
                return
            for node in gone:
                self.drop(node)

    def macs(self) -> Iterator[tuple[Layer, Node, MacOperands]]:
        """The multiply-accumulate nodes as they are now."""
        for layer in self.found:
            for node in layer.nodes:
                operands = mac_operands(node)
                if operands is not None:
                    yield layer, node, operands

    def drop(self, node: Node) -> None:
        """Take the codes off weights and bias, to get new ones."""
        for position in (1, 2):
            value = node.operand(position)
            if value is not None and value.type.quant is not None:
                constant_to_float(self.graph, own_constant(self.graph, node, position))

    # --- weights ---

    def weights(self, layer: Layer, node: Node, operands: MacOperands) -> None:
        """Check the weights of a node; what the device has in another form is rewritten."""
        value = operands.weights
        if value.type.quant is None:
            if operands.activation.type.quant is not None:
                self.note(node, "LT883", value, "its weights are float; they get codes", repaired=True)
            self.drop(node)
        elif not self.weight_codes(node, operands):
            if self.rules.convert:
                self.drop(node)
        elif self.rules.request.plan.activations.get(layer.output.name) == 2 * value.type.quant.bits:
            self.widen(node)

    def weight_codes(self, node: Node, operands: MacOperands) -> bool:
        """Whether the codes of weights can stay, rewritten where that changes no number."""
        quant = operands.weights.type.quant
        assert quant is not None  # noqa: S101 - the caller checks
        if quant.bits not in self.target.bits:
            self.note(node, "LT872", operands.weights, f"the device has no {quant.dtype} weights")
            return False
        if not (quant.dtype.signed and quant.is_symmetric):
            weights = own_constant(self.graph, node, 1)
            if not make_symmetric(self.graph, weights, (numbers.signed_dtype(quant.bits),)):
                text = f"its {quant.dtype} weights have the zero point {quant.zero_point[0]}"
                self.note(node, "LT876", weights, f"{text}; the device wants signed ones without")
                return False
            text = f"its {quant.dtype} codes are written as int{quant.bits} without a zero point"
            self.note(node, "LT873", weights, text, repaired=True)
        if not self.channels(node, operands):
            return False
        if self.rule.weight_scale == "power-of-two":
            return self.powers(node, node.value(1))
        return True

    def channels(self, node: Node, operands: MacOperands) -> bool:
        """Whether the device has a scale for each channel where the weights have one."""
        quant = node.value(1).type.quant
        assert quant is not None  # noqa: S101 - the caller checks
        may = self.may_have_channels(node, operands)
        if quant.axis is None:
            return True
        if may and quant.axis == operands.axis:
            return self.rule.requantize != "shift" or self.shifted_channels(node, quant)
        if len(set(quant.scale)) > 1:
            wanted = f"one scale, or one along axis {operands.axis}" if may else "one scale"
            text = f"its weights have {len(quant.scale)} scales along axis {quant.axis}"
            self.note(node, "LT877", operands.weights, f"{text}; the device wants {wanted}")
            return False
        self.single(own_constant(self.graph, node, 1))
        self.note(node, "LT877", node.value(1), "its equal scales per channel become one", repaired=True)
        return True

    def shifted_channels(self, node: Node, quant: QuantParams) -> bool:
        """Whether scales per channel differ by shifts, so that one accumulator scale serves all channels."""
        largest = max(quant.scale)
        bad = [scale for scale in quant.scale if nearest_power(largest / scale) is None]
        if bad:
            text = f"its scales per channel, as {bad[0]:.6g} and {largest:.6g}, differ by more than shifts"
            self.note(node, "LT877", node.value(1), text)
        return not bad

    def may_have_channels(self, node: Node, operands: MacOperands) -> bool:
        """Whether the weights of a node may have a scale for each output channel."""
        if operands.axis is None:
            return False
        if self.rule.weight_granularity == "per-channel":
            return self.target.operators[node.op].per_channel
        depthwise = self.rule.weight_granularity == "per-channel-depthwise" and operands.depthwise
        return depthwise and self.rules.request.channel_wise

    def widen(self, node: Node) -> None:
        """Store weights in twice the width, as layers whose output has that width want them."""
        value = own_constant(self.graph, node, 1)
        quant = value.type.quant
        assert quant is not None  # noqa: S101 - the caller checks
        assert value.constant is not None  # noqa: S101 - weights are
        made = attrs.evolve(quant, dtype=numbers.signed_dtype(2 * quant.bits))
        codes = value.constant.array().astype(made.dtype.numpy)
        self.graph.set_constant(value, Constant.of(codes), value.type.with_quant(made))
        text = f"its {quant.dtype} weights are written as {made.dtype}, the width of the output"
        self.note(node, "LT882", value, text, repaired=True)

    # --- operands of other operators ---

    def operands(self, layer: Layer, node: Node) -> None:
        """Check the constants that a node computes with besides its activation."""
        for position in data_operands(node):
            value = node.value(position)
            if value.is_constant and value.type.quant is not None:
                own = own_constant(self.graph, node, position)
                if not self.operand(layer, node, own) and self.rules.convert:
                    constant_to_float(self.graph, own)

    def operand(self, layer: Layer, node: Node, value: Value) -> bool:
        quant = value.type.quant
        assert quant is not None  # noqa: S101 - the caller checks
        if quant.bits not in self.target.bits:
            self.note(node, "LT872", value, f"the device has no {quant.dtype} operands")
            return False
        if quant.axis is not None:
            if len(set(quant.scale)) > 1 or len(set(quant.zero_point)) > 1:
                self.note(node, "LT877", value, f"it has {len(quant.scale)} scales; the device wants one")
                return False
            quant = self.single(value)
            self.note(node, "LT877", value, "its equal scales per channel become one", repaired=True)
        if quant.is_symmetric or self.zero_point_at(layer):
            wanted = with_sign(quant, signed=self.rule.activation_dtype.signed)
            if self.rule.zero_points == "everywhere" and wanted != quant:
                self.resign(value, wanted)
                self.note(node, "LT873", value, f"its codes are written as {wanted.dtype}", repaired=True)
        elif not self.without_zero_point(node, value, quant):
            return False
        return self.rule.activation_scale != "power-of-two" or self.powers(node, value)

    def zero_point_at(self, layer: Layer) -> bool:
        """Whether operands of a layer may have a zero point."""
        everywhere = self.rule.zero_points == "everywhere"
        allowed = everywhere or self.target.operators[layer.op].asymmetric
        return self.rule.activation == "asymmetric" and allowed

    def without_zero_point(self, node: Node, value: Value, quant: QuantParams) -> bool:
        dtypes = (numbers.signed_dtype(quant.bits), numbers.unsigned_dtype(quant.bits))
        done = make_symmetric(self.graph, value, dtypes)
        text = f"it has the zero point {quant.zero_point[0]}, and here the device has none"
        if done:
            text = f"its {quant.dtype} codes are written without a zero point"
        self.note(node, "LT873" if done else "LT874", value, text, repaired=done)
        return done

    def resign(self, value: Value, quant: QuantParams) -> None:
        known = value.type.quant
        assert known is not None  # noqa: S101 - the caller checks
        assert value.constant is not None  # noqa: S101 - the caller asks for constants
        moved = value.constant.array().astype(np.int64) + (quant.dtype.min - known.dtype.min)
        self.graph.set_constant(
            value, Constant.of(moved.astype(quant.dtype.numpy)), value.type.with_quant(quant)
        )

    def single(self, value: Value) -> QuantParams:
        """Give a constant whose channels have one scale this one scale."""
        quant = value.type.quant
        assert quant is not None  # noqa: S101 - the caller checks
        made = QuantParams(quant.dtype, quant.scale[0], quant.zero_point[0])
        self.graph.retype(value, value.type.with_quant(made))
        return made

    def powers(self, node: Node, value: Value) -> bool:
        """Whether the scales of a constant are powers of two; those that nearly are become so."""
        quant = value.type.quant
        assert quant is not None  # noqa: S101 - the caller checks
        if not all_powers(quant):
            bad = next(scale for scale in quant.scale if nearest_power(scale) is None)
            self.note(node, "LT875", value, f"its scale {bad:.6g} is no power of two")
            return False
        exact = [nearest_power(scale) or scale for scale in quant.scale]
        if tuple(exact) != quant.scale:
            self.graph.retype(value, value.type.with_quant(attrs.evolve(quant, scale=exact)))
        return True

    # --- requantization by shifts ---

    def shifts(self) -> None:
        """Where requantization can only shift, the scales of a layer differ by powers of two."""
        if self.rule.requantize != "shift":
            return
        seen: set[str] = set()
        again = True
        while again:
            again = False
            for layer, node, operands in self.macs():
                name = layer.output.name
                why = self.no_shift(layer, operands)
                if why and name not in seen:
                    seen.add(name)
                    self.note(node, "LT880", layer.output, why)
                    if self.rules.convert:
                        self.release(name)
                        again = True  # what reads it has another scale at its input now

    def no_shift(self, layer: Layer, operands: MacOperands) -> str:
        """Why the scale of an output cannot be reached; empty when it can."""
        made, weights = layer.output.type.quant, operands.weights.type.quant
        activation = operands.activation.type.quant
        follows = self.rule.activation_scale == "accumulator"
        if made is None:
            return ""
        if weights is None or activation is None:
            text = "its scale follows from those of input and weights, which the model does not give"
            return text if follows else ""
        ratio = made.scale[0] / (activation.scale[0] * max(weights.scale))
        power = nearest_power(ratio, 10 * POWER_TOLERANCE)
        if power is not None and not (follows and power < 1):
            return ""
        text = f"its scale is {ratio:.6g} times that of the accumulator"
        return f"{text}; the device can only shift{' right' if follows else ''}"

    def note(self, node: Node, code: str, value: Value, message: str, *, repaired: bool = False) -> None:
        """Add a finding about a constant or output of a node."""
        self.rules.note(code, node.place, value.name, message, repaired=repaired)
