"""Layers of a quantized network to steps on integers."""

from __future__ import annotations

import math
from collections.abc import Iterable

import attrs
import numpy as np
import onnx

from lowtide.exact.addition import add_nodes, planes_of
from lowtide.exact.builder import Builder, Window, largest, limits
from lowtide.exact.codes import binary, requantized, to_codes, unary
from lowtide.exact.moves import can_interpolate, can_move, interpolate, move
from lowtide.exact.pooling import average, mean
from lowtide.exact.product import Accumulator, attributes_of, product_of
from lowtide.exact.profile import Profile
from lowtide.exact.requantize import requantize, requantize_product
from lowtide.exact.softmax import softmax
from lowtide.exact.tables import TABLE_BITS, apply_binary, apply_unary
from lowtide.ir import Array, Layer, Node, QuantParams, Value
from lowtide.quantize.operands import MacOperands, data_operands, mac_operands

ELEMENTWISE = frozenset({"Add", "Mul", "PRelu", "Sub"})
"""Operators on two tensors that have integer arithmetic of their own."""

BORDER = frozenset({"DequantizeLinear", "QuantizeLinear"})
"""Where a network takes or gives integers: these are codes, wherever the conversion runs."""

PER_ELEMENT = frozenset(
    {
        "Abs",
        "Clip",
        "Elu",
        "Erf",
        "Exp",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Log",
        "Mish",
        "Neg",
        "Reciprocal",
        "Relu",
        "Sigmoid",
        "Softplus",
        "Sqrt",
        "Tanh",
    }
)
"""Operators that a table holds."""


@attrs.define
class Lowering:
    """Adds the steps of one layer after the other.

    Attributes:
        b: where steps go.
        profile: how integers are rounded.
        on_host: the names of layers that run in float.
    """

    b: Builder
    profile: Profile
    on_host: frozenset[str]

    def layer(self, layer: Layer) -> None:
        """Add the steps of a layer: on integers where its arithmetic is known, in float otherwise."""
        if (layer.name not in self.on_host or layer.op in BORDER) and self.integer(layer):
            return
        self.real(layer)

    # --- forms of a value ---

    def codes_of(self, value: Value) -> str:
        """The codes of a value, less their zero point."""
        found = self.b.codes.get(value)
        if found is not None:
            return found
        quant = value.type.quant
        assert quant is not None  # noqa: S101 - the callers ask for quantized values
        if value.constant is not None:
            made = self.b.constant(value.constant.array().astype(np.int64) - quant.zero_point[0])
        else:
            made = self.to_codes(self.b.real[value], quant)
        self.b.codes[value] = made
        return made

    def real_of(self, value: Value) -> str:
        """The real numbers of a value."""
        found = self.b.real.get(value)
        if found is not None:
            return found
        quant = value.type.quant
        if quant is not None:
            made = self.b.node("Mul", [self.codes_of(value), self.b.constant(_scales(quant, value))])
        else:
            assert value.constant is not None  # noqa: S101 - every other value is made before it is read
            made = self.b.constant(value.constant.array(), value.type.dtype.numpy.type)
        self.b.real[value] = made
        return made

    def to_codes(self, real: str, quant: QuantParams) -> str:
        """Round real numbers to codes, ties as the profile says."""
        low, high = limits(quant)
        if self.profile.half == "even":
            made = self.b.node("Div", [real, self.b.constant(quant.scale[0])])
            return self.b.clip(self.b.node("Round", [made]), low, high)

        def compute(numbers: Array) -> Array:
            return to_codes(numbers, quant, self.profile).astype(np.float32)

        return self.b.step(compute, real)

    def to_grid(self, real: str, quant: QuantParams) -> str:
        """Real numbers to the nearest that have codes, for activations with a scale per channel."""
        zero = self.b.constant(np.array(quant.zero_point), quant.dtype.numpy.type)
        operands = [self.b.constant(np.array(quant.scale)), zero]
        attributes = {"axis": quant.axis}
        codes = self.b.node("QuantizeLinear", [real, *operands], attributes)
        return self.b.node("DequantizeLinear", [codes, *operands], attributes)

    def given(self, value: Value, real: str) -> None:
        """Take real numbers for a value: all that read it see them as its codes say, where it has some."""
        quant = value.type.quant
        if quant is None:
            self.b.real[value] = real
        elif quant.axis is not None:
            self.b.real[value] = self.to_grid(real, quant)
        else:
            self.b.codes[value] = self.to_codes(real, quant)

    # --- integers ---

    def integer(self, layer: Layer) -> bool:
        """Add integer steps; ``False`` when there are none for the layer."""
        head, made = layer.nodes[0], layer.output.type.quant
        if made is not None and made.axis is not None:
            return False
        if head.op == "DequantizeLinear" and made is not None:
            return self.enter(head, made)
        if head.op == "QuantizeLinear":
            return self.leave(head)
        operands = mac_operands(head)
        # Weights have codes of their own, with a scale per channel or not.
        reads = [operands.activation] if operands else [head.value(at) for at in data_operands(head)]
        quants = [value.type.quant for value in reads]
        if operands and operands.weights.type.quant is None:
            return False
        if made is None or not quants or any(quant is None or quant.axis is not None for quant in quants):
            return False
        window = self.window(layer.nodes[1:], made)
        if window is None:
            return len(layer.nodes) > 1 and self.table(layer, reads)
        if operands:
            result = self.product(head, operands, made, window)
        elif head.op in {"AveragePool", "GlobalAveragePool"}:
            result = average(self.b, head, self.codes_of(reads[0]), self.profile, window)
        elif head.op in ELEMENTWISE and len(reads) == 2:
            result = self.elementwise(head, reads, made, window)
        elif len(layer.nodes) == 1:
            return self.single(layer, head, reads, made)
        else:
            return False
        self.b.codes[layer.output] = result
        return True

    def single(self, layer: Layer, node: Node, reads: list[Value], made: QuantParams) -> bool:
        """A layer of one node that is none of the above."""
        quant = reads[0].type.quant
        assert quant is not None  # noqa: S101 - the caller checks
        if can_move(node):
            return self.move(node, reads)
        if node.op in {"Clip", "Relu"} and (limited := self.limit(node, reads[0], made)) is not None:
            self.b.codes[node.output] = limited
            return True
        result: str | None = None
        if node.op == "ReduceMean" and (axes := _axes(node)) is not None:
            result = mean(self.b, node, self.codes_of(reads[0]), axes, self.profile)
        elif can_interpolate(node) and quant == made and self.profile.name == "tflite":
            result = interpolate(self.b, node, self.codes_of(reads[0]), quant.zero_point[0])
        elif node.op == "Softmax" and self.profile.softmax == "fixed-point" and quant.bits == 8:
            result = self.softmax(node, quant, made)
        if result is None:
            return self.table(layer, reads)
        self.b.codes[node.output] = result
        return True

    def limit(self, node: Node, source: Value, made: QuantParams) -> str | None:
        """A clamp of wide codes; ``None`` where a table does it."""
        quant, window = source.type.quant, self.window((node,), made)
        assert quant is not None  # noqa: S101 - the caller checks
        if window is None or quant.bits <= TABLE_BITS:
            return None
        codes = self.codes_of(source)
        if quant == made:
            return self.b.clip(codes, window.low, window.high)
        factor = quant.scale[0] / made.scale[0]
        if self.profile.convolution == "shift" and not math.log2(factor).is_integer():
            return None
        found = Accumulator(codes, wide=False, bound=largest(quant))
        return requantize(self.b, found, np.asarray(factor), self.profile.convolution, window)

    def window(self, nodes: Iterable[Node], made: QuantParams) -> Window | None:
        """The codes behind nodes that follow a head, ``None`` when they are more than a clamp."""
        lowest, highest = limits(made)
        low, high = lowest, highest
        for node in nodes:
            if node.op == "Relu":
                low = max(low, 0)
            elif node.op == "Clip":
                bounds = [_number(node, position) for position in (1, 2)]
                low = max(low, self.code(bounds[0], made)) if bounds[0] is not None else low
                high = min(high, self.code(bounds[1], made)) if bounds[1] is not None else high
            else:
                return None
        # Limits may lie where the type has no codes: then every result is its end on that side.
        low, high = (min(max(end, lowest), highest) for end in (low, high))
        return Window(low, high)

    def code(self, number: float, made: QuantParams) -> int:
        """The code of a limit, less the zero point, before saturation."""
        steps = np.float32(number) / np.float32(made.scale[0])
        away = np.floor(np.abs(steps) + np.float32(0.5)) * np.sign(steps)
        return int(np.rint(steps) if self.profile.half == "even" else away)

    def product(self, node: Node, operands: MacOperands, made: QuantParams, window: Window) -> str:
        source, weights = operands.activation.type.quant, operands.weights.type.quant
        assert source is not None  # noqa: S101 - the caller checks
        assert weights is not None  # noqa: S101 - the caller checks
        how = self.profile.dense if node.op in {"Gemm", "MatMul"} else self.profile.convolution
        if max(source.bits, weights.bits) > 8 and how in {"double", "single"}:
            how = self.profile.wide
        scales = product_scales(source, weights, made, self.profile, how == "float32")
        product = product_of(node, operands, self.codes_of(operands.activation))
        return requantize_product(self.b, product, scales, how, window)

    def elementwise(self, node: Node, reads: list[Value], made: QuantParams, window: Window) -> str:
        first, second = (value.type.quant for value in reads)
        assert first is not None  # noqa: S101 - the caller checks
        assert second is not None  # noqa: S101 - the caller checks
        sources = (self.codes_of(reads[0]), self.codes_of(reads[1]))
        if node.op in {"Add", "Sub"}:
            summed = add_nodes(self.b, node, sources, made, profile=self.profile, window=window)
            if summed is not None:
                return summed
        function = binary(node.op, first, second, made, self.profile)
        assert function is not None  # noqa: S101 - the caller asks for operators that have one

        def limited(a: Array, b: Array) -> Array:
            return np.clip(function(a, b), window.low, window.high)

        return apply_binary(self.b, limited, sources, (first, second), planes_of(node))

    def move(self, node: Node, reads: list[Value]) -> bool:
        """Codes to other places; where the results have other scales, codes are brought to them before."""
        sources: list[str] = []
        quants = [value.type.quant for value in node.outputs]
        if any(quant != quants[0] for quant in quants):
            return False
        made = quants[0]
        assert made is not None  # noqa: S101 - the caller checks the first
        for value in node.inputs:
            if value is None:
                sources.append("")
            elif value in reads:
                sources.append(self.in_scale(value, made))
            elif node.op == "Pad" and value is node.operand(2):
                sources.append(self.b.constant(0.0))
            else:
                sources.append(self.real_of(value))
        results = move(self.b, node, sources)
        self.b.codes.update(zip(node.outputs, results, strict=True))
        return True

    def in_scale(self, value: Value, made: QuantParams) -> str:
        quant, codes = value.type.quant, self.codes_of(value)
        assert quant is not None  # noqa: S101 - the caller checks
        if quant == made:
            return codes
        return apply_unary(self.b, requantized(quant, made, self.profile), codes, quant)

    def table(self, layer: Layer, reads: list[Value]) -> bool:
        """A layer of one activation that works element by element."""
        source = reads[0]
        quant = source.type.quant
        if quant is None or len(layer.inputs) != 1 or layer.outputs != (layer.output,):
            return False
        if not all(_is_per_element(node) for node in layer.nodes):
            return False
        function = unary(layer, source, self.profile)
        self.b.codes[layer.output] = apply_unary(self.b, function, self.codes_of(source), quant)
        return True

    def softmax(self, node: Node, quant: QuantParams, made: QuantParams) -> str:
        function = softmax(quant, made, node.int_attribute("axis", -1))

        def compute(codes: Array) -> Array:
            return function(codes.astype(np.int64)).astype(np.float32)

        return self.b.step(compute, self.codes_of(node.value(0)))

    def enter(self, node: Node, made: QuantParams) -> bool:
        """Integers that the network is fed are codes."""
        source = node.value(0)
        if source.type.dtype is not made.dtype:
            return False
        codes = self.b.node("Cast", [self.real_of(source)], {"to": onnx.TensorProto.FLOAT})
        zero = made.zero_point[0]
        self.b.codes[node.output] = self.b.node("Sub", [codes, self.b.constant(zero)]) if zero else codes
        return True

    def leave(self, node: Node) -> bool:
        """Codes that the network gives as integers."""
        source = node.value(0)
        quant, zero = source.type.quant, node.operand(2)
        if quant is None or zero is None or zero.constant is None:
            return False
        wanted = QuantParams(node.output.type.dtype, _number(node, 1) or 1.0, int(zero.constant.array()))
        codes, made = self.in_scale(source, wanted), node.output.type.dtype
        if codes in self.b.made_by:
            moved = self.b.node("Add", [codes, self.b.constant(wanted.zero_point[0])])
            self.b.real[node.output] = self.b.node("Cast", [moved], {"to": made.onnx})
            return True

        def stored(found: Array) -> Array:
            return (found + wanted.zero_point[0]).astype(made.numpy)

        # What Python gives stays there, since another model would take longer to call.
        self.b.real[node.output] = self.b.step(stored, codes)
        self.b.types[self.b.real[node.output]] = made.onnx
        return True

    # --- real numbers ---

    def real(self, layer: Layer) -> None:
        """Add the nodes as they are, on real numbers; results with codes are rounded to them."""
        for node in layer.nodes:
            inputs = ["" if value is None else self.real_of(value) for value in node.inputs]
            results = self.b.nodes(node.op, inputs, len(node.outputs), attributes_of(node))
            for value, result in zip(node.outputs, results, strict=True):
                self.b.types[result] = value.type.dtype.onnx
                if value in layer.outputs:
                    self.given(value, result)
                else:
                    self.b.real[value] = result


def product_scales(
    source: QuantParams, weights: QuantParams, made: QuantParams, profile: Profile, in_float: bool
) -> Array:
    """Accumulator scale by output scale, float64, one or one for each channel.

    Source: TensorFlow Lite, GetQuantizedConvolutionMultipler and PopulateConvolutionQuantizationParams;
    ONNX Runtime, QLinearConv, in float32.
    """
    scales = np.array(weights.scale, np.float64)
    if in_float:
        product = np.float32(source.scale[0]) * scales.astype(np.float32)
        return np.asarray(product / np.float32(made.scale[0]), np.float64)
    product64 = source.scale[0] * scales
    if profile.product_in_float32 and scales.size == 1:
        product64 = (np.float32(source.scale[0]) * scales.astype(np.float32)).astype(np.float64)
    return np.asarray(product64 / made.scale[0])


def _scales(quant: QuantParams, value: Value) -> Array:
    if quant.axis is None:
        return np.asarray(quant.scale[0])
    rank = value.type.rank or 1
    return np.array(quant.scale).reshape([-1 if axis == quant.axis else 1 for axis in range(rank)])


def _axes(node: Node) -> tuple[int, ...] | None:
    shape, axes = node.value(0).type.shape, node.operand(1)
    if shape is None or axes is None or axes.constant is None:
        return None
    return tuple(int(axis) % len(shape) for axis in axes.constant.array().reshape(-1))


def _number(node: Node, position: int) -> float | None:
    value = node.operand(position)
    if value is None or value.constant is None or value.constant.size != 1:
        return None
    number = float(value.constant.array().reshape(()))
    return None if math.isinf(number) else number


def _is_per_element(node: Node) -> bool:
    others = [value for value in node.inputs[1:] if value is not None]
    small = all(value.constant is None or value.constant.size == 1 for value in others)
    return small and (node.op in PER_ELEMENT or node.op in {"Add", "Div", "Max", "Min", "Mul", "Pow", "Sub"})
