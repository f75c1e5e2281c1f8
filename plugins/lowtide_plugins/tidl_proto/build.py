"""A compiled network as quantization protos, one for each part on the accelerator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lowtide.ir import Array, Node, QuantParams, Value
from lowtide.quantize import numbers
from lowtide.quantize.codes import quantized_activations, with_sign
from lowtide.quantize.operands import MacOperands
from lowtide.runtime import dequantize
from lowtide_plugins.tidl_proto.expected import DATA_LAYER, Entry, entries
from lowtide_plugins.tidl_proto.records import CalibType, LayerParams, NetParams, QuantType, TensorParams

if TYPE_CHECKING:
    from lowtide.compiler.result import CompileResult

WIDE = 2
"""The element type of 16-bit codes."""


def build(result: CompileResult) -> tuple[NetParams, ...]:
    """The protos in the order of the parts; none when nothing has codes, as with 32 bits."""
    if not quantized_activations(result.graph):
        return ()
    builder = _Builder(result)
    return tuple(builder.net(part) for part in entries(result.graph, result.target, result.placement))


class _Builder:
    def __init__(self, result: CompileResult) -> None:
        self.result = result
        self.rule = result.target.scale_rules[result.report.device.scale_type]
        self.floats = {node.name: node for node in result.conditioned}

    def net(self, part: tuple[Entry, ...]) -> NetParams:
        layers = tuple(self.layer(entry) for entry in part)
        several = any(len(tensor.scale) > 1 for layer in layers for tensor in layer.weights)
        return NetParams(
            num_layers=len(layers),
            quant_type=QuantType.ASYMMETRIC if self.rule.activation == "asymmetric" else QuantType.SYMMETRIC,
            calib_type=CalibType.PERCHANNEL if several else CalibType.PERTENSOR,
            layers=layers,
        )

    def layer(self, entry: Entry) -> LayerParams:
        quant = entry.values[0].type.quant
        weights = [self.weights(entry)] if entry.operands is not None else []
        bias = self.bias(entry)
        slope = [self.constant(entry.slope)] if entry.slope is not None and entry.slope.type.quant else []
        return LayerParams(
            layer_name=entry.name,
            layer_type=entry.layer_type,
            bit_depth=1 if quant is None else quant.bits // 8,
            outputs=tuple(self.activation(value) for value in entry.values),
            weights=tuple(tensor for tensor in weights if tensor is not None),
            bias=() if bias is None else (bias,),
            slope=tuple(slope),
        )

    def activation(self, value: Value) -> TensorParams:
        """An activation; one that stays float has the limits of a probability and a scale of 1."""
        quant = value.type.quant
        if quant is None:
            return TensorParams(min=0.0, max=1.0, size=1, scale=(1.0,), zero_point=(0,))
        low, high = quant.range
        known = self.result.ranges.get(value.name)
        if known is not None:
            low, high = known.min, known.max
        return _tensor(quant, low, high)

    def weights(self, entry: Entry) -> TensorParams | None:
        assert entry.operands is not None  # noqa: S101 - the caller checks
        quant = entry.operands.weights.type.quant
        if quant is None:
            return None
        low, high = self.weight_range(entry, quant)
        return _tensor(quant, low, high)

    def weight_range(self, entry: Entry, quant: QuantParams) -> tuple[float, float]:
        """The range that gives the scale: that of the weights, or of the codes when the scale was raised."""
        real = self.real_weights(entry.node)
        codes = quant.dtype.max if self.rule.weight_codes == "narrow" else -quant.dtype.min
        covered = codes * max(quant.scale)
        if real is None:
            return -covered, covered
        narrow, power = self.rule.weight_codes == "narrow", self.rule.weight_scale == "power-of-two"
        implied = numbers.weight_params(real, quant.bits, axis=None, power=power, narrow=narrow)
        if implied.scale[0] == max(quant.scale):
            return float(real.min(initial=0.0)), float(real.max(initial=0.0))
        return -covered, covered

    def real_weights(self, node: Node | None) -> Array | None:
        original = self.floats.get(node.name) if node is not None else None
        weights = original.operand(1) if original is not None else None
        return weights.constant.array() if weights is not None and weights.constant is not None else None

    def bias(self, entry: Entry) -> TensorParams | None:
        if entry.operands is None or entry.operands.bias is None or entry.operands.bias.constant is None:
            return None
        data, quant = entry.operands.bias.constant.array(), entry.operands.bias.type.quant
        steps = quant.scale if quant is not None else _accumulator_scales(entry.operands)
        real = data.astype(np.float64).reshape(-1) * (np.array(steps) if quant is not None else 1.0)
        real = np.broadcast_to(real, (entry.channels,))
        multiplier = 1 if quant is None else self.bias_multiplier(entry.operands, data)
        scale = tuple(1.0 / (step * multiplier) for step in steps)
        return TensorParams(
            min=float(real.min(initial=0.0)),
            max=float(real.max(initial=0.0)),
            size=entry.channels,
            scale=scale,
            zero_point=(0,) * len(scale),
            value=tuple(float(number) for number in real),
        )

    def bias_multiplier(self, operands: MacOperands, codes: Array) -> int:
        """The factor of a bias of the split format, which 8-bit operands have, 1 elsewhere."""
        quants = (operands.activation.type.quant, operands.weights.type.quant)
        narrow = all(quant is not None and quant.bits == 8 for quant in quants)
        split = self.result.target.bias.split and narrow
        return (numbers.bias_multiplier(codes) if split else None) or 1

    def constant(self, value: Value) -> TensorParams:
        quant = value.type.quant
        assert quant is not None  # noqa: S101 - the caller checks
        assert value.constant is not None  # noqa: S101 - slopes are constants
        real = dequantize(value.constant.array(), quant)
        return _tensor(quant, float(real.min(initial=0.0)), float(real.max(initial=0.0)))


def _accumulator_scales(operands: MacOperands) -> tuple[float, ...]:
    """The scales of a bias that is too large for codes; 1 where there is no accumulator of codes."""
    activation, weights = operands.activation.type.quant, operands.weights.type.quant
    if activation is None or weights is None:
        return (1.0,)
    return numbers.bias_scales(activation.scale[0], weights)


def _tensor(quant: QuantParams, low: float, high: float) -> TensorParams:
    """Zero points are those of unsigned codes, since the field has no sign."""
    unsigned = quant if quant.is_symmetric else with_sign(quant, signed=False)
    return TensorParams(
        min=low,
        max=high,
        size=len(quant.scale),
        element_type=0 if quant.bits == 8 else WIDE,
        scale=tuple(1.0 / scale for scale in quant.scale),
        zero_point=unsigned.zero_point,
    )


__all__ = ["DATA_LAYER", "build"]
