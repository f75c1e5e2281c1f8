"""Analytic bias correction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs
import numpy as np

from lowtide.data import DataSource
from lowtide.errors import PassError
from lowtide.ir import Array, Graph, Node, TensorType, Value
from lowtide.passes import Pass, PassContext, PassOutcome, Refusal
from lowtide.quantize.operands import MacOperands, mac_operands, output_channels
from lowtide.quantize.weights import requantize_bias
from lowtide.runtime import Session, dequantize, in_flight, to_model
from lowtide_plugins.passes.checks import at_least
from lowtide_plugins.weights.rows import is_plain_product


@attrs.frozen(kw_only=True)
class CorrectBias(Pass):
    """Subtract (Wq - W) E[x] from the bias of every layer with constant weights.

    E[x] is the mean of each input channel of the float network over some frames, so the correction of a layer
    does not depend on that of another and costs one run of the float network. Borders that padding fills with
    zeros are not told apart, so the correction of a padded convolution is a little too large there. The pass
    computes the bias from the float one, so a second run changes nothing.

    Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019,
    section 4.2, with the means measured.
    """

    name: ClassVar[str] = "correct-bias"
    frames: int = 32

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        """See `Pass.run`.

        Raises:
            PassError: when the graph is not quantized yet, no data was given, or an option is out of range.
        """
        if ctx.reference is None or ctx.frames is None or ctx.request is None:
            raise PassError("needs a quantized graph and calibration frames", place=self.name)
        at_least(self, frames=1)
        found = [(node, operands) for node in graph if (operands := _quantized_mac(node)) is not None]
        means = _channel_means(
            ctx.reference, [ops.activation.name for _, ops in found], ctx.frames, self.frames
        )
        refusals: list[Refusal] = []
        corrected = 0
        for node, operands in found:
            delta = _mean_error(node, operands, ctx.reference, means)
            if isinstance(delta, str):
                refusals.append(Refusal(node.place, delta))
                continue
            corrected += _apply(graph, node, operands, ctx, delta)
        runs = float(ctx.frames.select(self.frames).count or 0)
        return PassOutcome(corrected > 0, {"corrected": corrected}, tuple(refusals), runs)


def _quantized_mac(node: Node) -> MacOperands | None:
    operands = mac_operands(node)
    if operands is None or operands.weights.type.quant is None or operands.activation.type.quant is None:
        return None
    return operands


def _channel_means(
    reference: Graph, names: Sequence[str], frames: DataSource, count: int
) -> dict[str, Array]:
    """Mean of every channel over frames and positions, float64 [C], by tensor name; channels are axis 1."""
    probe = reference.clone()
    sources: dict[str, Value] = {}
    for name in dict.fromkeys(names):
        value = probe.values.get(name)
        if value is None or value.type.rank is None or value.type.rank < 2:
            continue
        made = probe.add_node(
            "GlobalAveragePool" if value.type.rank > 2 else "Identity",
            [value],
            [(probe.fresh_name(f"{name}_mean"), TensorType(value.type.dtype, None))],
        )
        sources[name] = made.output
    if not sources:
        return {}
    session = Session(to_model(probe, quantized=False, outputs=[value.name for value in sources.values()]))
    sums: dict[str, Array] = {}
    seen = 0
    for _, results in in_flight(session, frames.select(count).frames(), lambda frame: frame.feeds):
        for name, value in sources.items():
            array = results[value.name]
            by_channel = array.astype(np.float64).mean(axis=tuple(a for a in range(array.ndim) if a != 1))
            sums[name] = sums.get(name, 0.0) + by_channel
        seen += 1
    return {name: total / seen for name, total in sums.items()}


def _mean_error(node: Node, operands: MacOperands, reference: Graph, means: dict[str, Array]) -> Array | str:
    """(Wq - W) E[x] per output channel, or why it is not known."""
    twin = reference.values.get(node.output.name)
    maker = twin.producer if twin else None
    original = mac_operands(maker) if maker else None
    if original is None or original.weights.constant is None:
        return "the float network has no layer of this name"
    mean = means.get(operands.activation.name)
    if mean is None:
        return "its input has no channel axis"
    quant, codes = operands.weights.type.quant, operands.weights.constant
    if quant is None or codes is None:
        return "its weights have no codes"
    error = dequantize(codes.array(), quant).astype(np.float64) - original.weights.constant.array()
    match node.op:
        case "Conv":
            group = node.int_attribute("group", 1)
            per_group = error.reshape(group, error.shape[0] // group, error.shape[1], -1).sum(axis=3)
            by_group: Array = np.einsum("gok,gk->go", per_group, mean.reshape(group, -1))
            return by_group.reshape(-1)
        case "Gemm" if not is_plain_product(node):
            return "it is no plain product; alpha, beta and transA would have to be 1, 1 and 0"
        case "Gemm":
            product: Array = error @ mean if node.int_attribute("transB", 0) else mean @ error
            return product
        case _:
            return f"{node.op} has no bias operand, or strides that let every position see other weights"


def _apply(graph: Graph, node: Node, operands: MacOperands, ctx: PassContext, delta: Array) -> int:
    """Set the corrected bias; 1 when it is another one now."""
    assert ctx.reference is not None  # noqa: S101 - run checked it
    assert ctx.request is not None  # noqa: S101 - run checked it
    maker = ctx.reference.values[node.output.name].producer
    original = mac_operands(maker) if maker else None
    real = (
        original.bias.constant.array().reshape(-1)
        if original and original.bias and original.bias.constant
        else 0.0
    )
    bias = np.broadcast_to(np.asarray(real, np.float64), (output_channels(node, operands),)) - delta
    before = operands.bias.constant if operands.bias else None
    requantize_bias(graph, node, bias, ctx.request)
    after = node.value(2).constant
    return int(before is None or before != after)
