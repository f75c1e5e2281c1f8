"""Causes in weights and biases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

import attrs
import numpy as np

from lowtide.diagnosis import Cause, Diagnosis, DiagnosisView, NoiseParts
from lowtide.ir import Array, Layer, QuantParams
from lowtide.options import FIELDS
from lowtide.quantize.operands import MacOperands, by_output_channel, mac_operands
from lowtide.quantize.weights import LARGE_BIAS, SPLIT_BIAS_LIMIT
from lowtide.report.model import Finding
from lowtide.runtime import dequantize
from lowtide_plugins.diagnosis import remedies

MATTERS = 0.3
"""The share of a layer's noise from which on its weights are looked at."""

SPREAD = 4.0
"""The largest weight by the median of the largest ones of each channel: two bits for half of the channels."""

FAR = 16.0
"""The largest weight of a channel by the median of its weights.

Source: the vendor's published training-side simulation, which clips there.
"""

HALF_BIT = 1.4
"""The factor between two scales that costs 3 dB."""

TINY = 1e-38
"""Keeps divisions by the scale of a channel of zeros finite."""

CHANNELS = Cause(
    "LT961",
    "weights spread across channels",
    "one scale, and the largest weight is 4 times the median channel's",
)
OUTLIERS = Cause(
    "LT962", "weights dominated by outliers", "the largest weight is 16 times the median of its channel"
)
BIAS = Cause(
    "LT963",
    "bias saturates or takes the weights' precision",
    "its format is too small for the best weight scale",
)
POWER = Cause(
    "LT964", "weight scale rounded up to a power of two", "the scale is 1.4 times what weights need"
)
WIDTH = Cause("LT965", "weights need more than 8 bits", "a third of the noise comes from them")


@attrs.frozen(kw_only=True)
class Weights(Diagnosis):
    """Explains noise that the codes of constants make."""

    name: ClassVar[str] = "weights"
    causes: ClassVar[tuple[Cause, ...]] = (CHANNELS, OUTLIERS, BIAS, POWER, WIDTH)

    def find(self, view: DiagnosisView) -> Iterable[Finding]:
        """See `Diagnosis.find`."""
        for cost in view.worst:
            parts = view.parts.get(cost.layer)
            if parts is not None and parts.share(parts.weights) >= MATTERS:
                yield from _explained(view, view.layers[cost.layer], parts)


@attrs.frozen
class _Weights:
    """The weights of a layer in float, ``[C, K]``, with the parameters of their codes."""

    layer: Layer
    operands: MacOperands
    quant: QuantParams
    rows: Array
    bias: Array | None

    @property
    def largest(self) -> Array:
        found: Array = np.abs(self.rows).max(axis=1, initial=0.0)
        return found

    @property
    def needed(self) -> Array:
        """The smallest scales that hold the weights, as many as there are scales."""
        largest = self.largest if len(self.quant.scale) > 1 else self.largest.max(keepdims=True, initial=0.0)
        found: Array = largest / -self.quant.dtype.min
        return found

    @property
    def matter(self) -> Array:
        """Which channels have weights whose products may be worth half a code of the output, bool ``[C]``."""
        source, output = self.operands.activation.type.quant, self.layer.output.type.quant
        if source is None or output is None:
            return np.zeros(len(self.rows), np.bool_)
        most = np.abs(self.rows).sum(axis=1) * max(abs(edge) for edge in source.range)
        found: Array = most >= output.scale[0] / 2
        return found

    @property
    def steps(self) -> Array:
        """The biases in steps of the accumulator at the smallest scales that hold the weights, ``[C]``."""
        source = self.operands.activation.type.quant
        if self.bias is None or source is None:
            return np.zeros(len(self.rows))
        found: Array = np.abs(self.bias) / (source.scale[0] * np.maximum(self.needed, TINY))
        return found


def _read(view: DiagnosisView, layer: Layer) -> _Weights | None:
    twin = view.reference_layers.get(layer.name)
    operands = mac_operands(layer.nodes[0])
    original = mac_operands(twin.nodes[0]) if twin else None
    if operands is None or original is None or original.weights.constant is None:
        return None
    quant = operands.weights.type.quant
    if quant is None or quant.bits > 8:
        return None
    rows = by_output_channel(layer.nodes[0], original.weights.constant.array().astype(np.float64))
    bias = original.bias.constant if original.bias else None
    real = None if bias is None else np.broadcast_to(bias.array().reshape(-1), (len(rows),))
    return _Weights(layer, operands, quant, rows, real)


def _explained(view: DiagnosisView, layer: Layer, parts: NoiseParts) -> Iterator[Finding]:
    found = _read(view, layer)
    if found is None:
        return
    if parts.bias >= parts.weights / 2 and (coarse := _coarse(view, found, parts.share(parts.bias))):
        yield coarse
        return
    share = parts.share(parts.weights)
    wider = remedies.wider_parameters(view, layer.name)
    largest, alive = found.largest, found.largest[found.largest > 0]
    median = float(np.median(alive)) if alive.size else 0.0
    ratio = float(largest.max(initial=0.0)) / median if median else 1.0
    made = f"weights make {share:.0%} of the noise"
    room = _room(view, found)
    if room is not None:
        yield BIAS.finding(layer.name, f"{room}; {made}", wider)
        return
    if len(found.quant.scale) == 1 and len(largest) > 1 and ratio >= SPREAD:
        few = int((alive < 8 * found.quant.scale[0]).sum())
        evidence = (
            f"the largest weight is {largest.max():.3g}, that of the median channel {median:.3g}: ratio "
            f"{ratio:.3g}; {few} of {len(largest)} channels have 16 codes or fewer; {made}"
        )
        yield CHANNELS.finding(layer.name, evidence, _by_channel(view, found) or wider)
        return
    row = found.rows[int(np.argmax(largest))]
    middle = float(np.median(np.abs(row[row != 0]))) if np.any(row) else 0.0
    far = float(np.abs(row).max(initial=0.0)) / middle if middle else 1.0
    if far >= FAR:
        evidence = f"the largest weight is {far:.3g} times the median of its channel; {made}"
        yield OUTLIERS.finding(layer.name, evidence, wider)
        return
    rounded = float((np.array(found.quant.scale) / np.maximum(found.needed, TINY)).min())
    if view.rule.weight_scale == "power-of-two" and rounded >= HALF_BIT:
        evidence = f"the scale is {rounded:.3g} times what the weights need; {made}"
        yield POWER.finding(layer.name, evidence, remedies.scale_type(view, 0) or wider)
        return
    yield WIDTH.finding(layer.name, f"{made}, and their codes are all in use", wider)


def _by_channel(view: DiagnosisView, found: _Weights) -> str | None:
    """A scale for each channel, where the device can."""
    granularity, options = view.rule.weight_granularity, view.options
    if granularity == "per-channel-depthwise" and found.operands.depthwise:
        if not options.channel_wise_quantization and not view.prequantized:
            return f"{FIELDS['channel_wise_quantization'].key}=1"
    elif found.operands.axis is not None:
        better = [
            number
            for number, rule in sorted(view.target.scale_rules.items())
            if rule.weight_granularity == "per-channel" and granularity != "per-channel"
        ]
        for number in reversed(better):
            if (option := remedies.scale_type(view, number)) is not None:
                return option
    return None


def _coarse(view: DiagnosisView, found: _Weights, share: float) -> Finding | None:
    """A bias that its format rounds much or cuts off; ``None`` where a pass has moved it on purpose."""
    layer, stored, output = found.layer, found.operands.bias, found.layer.output.type.quant
    if found.bias is None or stored is None or stored.constant is None or output is None:
        return None
    codes, quant = stored.constant.array().astype(np.int64), stored.type.quant
    if quant is None:
        return None
    off = np.abs(dequantize(codes, quant) - found.bias)
    # Codes are multiples of the multiplier; a stored bias is off by at most half of it, unless it saturates.
    half = 0.5 * max(1, int(np.gcd.reduce(codes))) * np.array(quant.scale)
    saturated = int(np.abs(codes).max(initial=0)) >= _limit(view)
    if (off > 1.01 * half).any() and not saturated:
        return None
    largest = float(off.max(initial=0.0))
    evidence = (
        f"the bias is off by up to {largest:.3g}, {largest / output.scale[0]:.3g} codes of the output, and "
        f"makes {share:.0%} of the noise"
    )
    clip = saturated and view.options.bias_clipping and not view.prequantized
    wider = remedies.wider_parameters(view, layer.name)
    return BIAS.finding(layer.name, evidence, f"{FIELDS['bias_clipping'].key}=0" if clip else wider)


def _room(view: DiagnosisView, found: _Weights) -> str | None:
    """How the bias has raised the weight scale; ``None`` where it has not, or somebody chose the scale."""
    matter = found.matter
    chosen = view.solved is not None and found.layer.name in view.solved.weight_scales
    if chosen or not matter.any():
        return None
    raised = np.broadcast_to(np.array(found.quant.scale) / np.maximum(found.needed, TINY), matter.shape)
    steps, worst = found.steps, int(np.argmax(np.where(matter, raised, 0.0)))
    fewest = float(steps.max() if len(found.quant.scale) == 1 else steps[worst])
    if fewest <= _limit(view) or raised[worst] <= 2 * HALF_BIT:
        return None
    return (
        f"a bias would be {fewest:.3g} steps of the accumulator and {_limit(view)} fit, so the weight scale "
        f"is {raised[worst]:.3g} times what weights need"
    )


def _limit(view: DiagnosisView) -> int:
    return SPLIT_BIAS_LIMIT if view.target.bias.split else LARGE_BIAS
