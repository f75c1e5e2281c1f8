"""How elements spread: of activations over their codes, of weights over their channels; for the report."""

from __future__ import annotations

import numpy as np

from lowtide.ir import Array, Layer
from lowtide.measure import Histogram
from lowtide.quantize.operands import by_output_channel, mac_operands
from lowtide.report.model import HistogramReport, SpreadReport
from lowtide.runtime import dequantize

MOST_CHANNELS = 256
"""Channels that the report has one by one; more are joined into that many runs."""


def histogram_report(found: Histogram | None) -> HistogramReport | None:
    """The counts as the report has them."""
    if found is None:
        return None
    below, above = found.outside.tolist()
    return HistogramReport(
        low=found.low, high=found.high, counts=tuple(found.counts.tolist()), below=below, above=above
    )


def weight_spread(layer: Layer) -> SpreadReport | None:
    """The largest weight of every output channel, as the codes have it; ``None`` without weights.

    Figures have six digits.
    """
    node = layer.nodes[0]
    operands = mac_operands(node)
    if operands is None or operands.weights.constant is None or not operands.weights.constant.size:
        return None
    quant = operands.weights.type.quant
    stored = operands.weights.constant.array()
    real = dequantize(stored, quant) if quant else stored
    largest = np.abs(by_output_channel(node, real)).max(axis=1)
    scale = np.array(quant.scale if quant else ())
    return SpreadReport(
        channels=len(largest),
        largest=_joined(largest),
        scale=_joined(scale) if len(scale) in {1, len(largest)} else (),
    )


def _joined(channels: Array) -> tuple[float, ...]:
    runs = np.array_split(channels, min(len(channels), MOST_CHANNELS)) if len(channels) else []
    return tuple(float(f"{run.max():.6g}") for run in runs)
