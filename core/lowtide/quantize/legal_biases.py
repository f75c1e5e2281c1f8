"""The biases of quantized networks, and what accumulators hold."""

from __future__ import annotations

import numpy as np

from lowtide.errors import QuantizationError
from lowtide.ir import Array, Constant, DType, Graph, Node, QuantParams, TensorType, Value
from lowtide.quantize import numbers
from lowtide.quantize.codes import constant_to_float, steps_of
from lowtide.quantize.legal_rules import Rules
from lowtide.quantize.operands import MacOperands, by_output_channel
from lowtide.quantize.weights import SPLIT_BIAS_LIMIT, own_constant

SAME_SCALE = 1e-5
"""Scales this close, relatively, are the same product of two float32 numbers, rounded on another way."""


class BiasRules:
    """Brings biases to the scale of the accumulator."""

    def __init__(self, graph: Graph, rules: Rules) -> None:
        self.graph = graph
        self.rules = rules
        self.format = rules.request.target.bias
        self.diagnostics = rules.request.diagnostics

    def check(self, node: Node, operands: MacOperands) -> bool:
        """Store the bias of a node, at most half a step of the accumulator away from what it was.

        Returns False when no format of the device holds it beside these weights.
        """
        activation, weights = operands.activation.type.quant, operands.weights.type.quant
        value = operands.bias
        if activation is None or weights is None:
            if value is not None:
                # It belongs to scales that are not there; solving gives it those that will be.
                self.to_float(node, value)
            return True
        wide = weights.bits > 8 or activation.bits > 8  # with 64-bit accumulators
        largest = 0
        if value is not None:
            scales = numbers.bias_scales(activation.scale[0], weights)
            wanted = QuantParams(DType.INT32, scales, 0, None if len(scales) == 1 else 0)
            steps, exact = _steps(value, wanted, node)
            largest = int(np.abs(steps).max(initial=0))
            if wide and largest > DType.INT32.max:
                self.to_float(node, value)
                text = "the bias needs more than 32 bits at this width and stays float in the model file"
                self.diagnostics.info("LT852", node.place, text)
                return True
            split = self.format.split and not wide
            if not self.fits(node, value, largest, split=split):
                return False
            self.store(node, steps, wanted, exact=exact, split=split)
        if not wide:
            self.overflow(node, operands.weights, activation, largest)
        return True

    def to_float(self, node: Node, value: Value) -> None:
        if value.type.quant is not None:
            constant_to_float(self.graph, own_constant(self.graph, node, 2))

    def fits(self, node: Node, value: Value, largest: int, *, split: bool) -> bool:
        """Whether the format of biases holds the largest of a layer."""
        room = SPLIT_BIAS_LIMIT if split else DType.INT32.max
        if largest <= room:
            return True
        if not split or not self.rules.request.clip_bias:
            text = f"its bias needs {largest} steps of the accumulator; the device has {room}"
            self.rules.note("LT878", node.place, value.name, text)
            return False
        self.diagnostics.warning(
            "LT853",
            node.place,
            f"the bias saturates: it needs {largest} steps of the accumulator and has {room}",
            "advanced_options:bias_clipping=0 with recalibrate=convert lowers the precision of the weights "
            "instead",
        )
        return True

    def store(self, node: Node, steps: Array, quant: QuantParams, *, exact: bool, split: bool) -> None:
        """Give a node its bias in int32 codes, and say what that changed."""
        value = own_constant(self.graph, node, 2)
        known = value.type.quant
        codes = numbers.split_bias(steps) if split else steps.astype(np.int32)
        self.graph.set_constant(value, Constant.of(codes), TensorType(DType.FLOAT32, codes.shape, quant))
        if not exact:
            what = "float" if known is None else "in another scale"
            text = f"its bias is {what}; it becomes int32 in the accumulator's"
            self.rules.note("LT879", node.place, value.name, text, repaired=True)
        if not np.array_equal(codes, steps):
            text = "its bias is rounded to what an 8-bit code times an 8-bit factor holds"
            self.rules.note("LT884", node.place, value.name, text, repaired=True)

    def overflow(self, node: Node, weights: Value, activation: QuantParams, bias: int) -> None:
        """Say where the sum of all products could leave the accumulator; codes are kept nonetheless."""
        assert weights.constant is not None  # noqa: S101 - weights are
        rows = by_output_channel(node, weights.constant.array())
        reach = int(numbers.accumulator_reach(rows, 0, activation).max(initial=0)) + bias
        bits = self.format.accumulator_bits["8"]
        if reach >= 1 << (bits - 1):
            self.diagnostics.warning(
                "LT854",
                node.place,
                f"products and bias can add up to {reach}, more than {bits} bits of accumulator hold",
                "recalibrate=data makes weights for which they cannot",
            )


def _steps(value: Value, wanted: QuantParams, node: Node) -> tuple[Array, bool]:
    """A bias in steps of other parameters, int64 [C] or [1], and whether these are its own codes."""
    assert value.constant is not None  # noqa: S101 - the caller asks for constants
    data, known = value.constant.array(), value.type.quant
    count = (max(data.size, len(wanted.scale)),)
    if known is None:
        real = data.reshape(-1).astype(np.float64)
        if not np.isfinite(real).all():
            raise QuantizationError("the bias holds NaN or infinity", place=f"{node.place}, {value.name}")
    else:
        codes = np.broadcast_to(steps_of(data, known).reshape(-1), count)
        if np.allclose(known.scale, wanted.scale, rtol=SAME_SCALE, atol=0):
            return codes, True
        real = codes * np.array(known.scale)
    # Far beyond what any format holds, but still an integer.
    steps = np.clip(np.broadcast_to(real, count) / np.array(wanted.scale), -(2.0**62), 2.0**62)
    return numbers.round_half_away(steps).astype(np.int64), False
