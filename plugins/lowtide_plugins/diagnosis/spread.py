"""How the codes of one activation are used, as factors between widths."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import attrs
import numpy as np

from lowtide.diagnosis import DiagnosisView
from lowtide.ir import QuantParams, Value
from lowtide.measure import Histogram
from lowtide.precision import quantized_values
from lowtide.quantize.numbers import with_zero
from lowtide.quantize.operands import by_output_channel, mac_operands
from lowtide.quantize.solve import tied_tensors

NARROWER = tuple(2.0 ** (-number / 4) for number in range(1, 25))
WIDER = tuple(2.0 ** (number / 4) for number in range(1, 17))
"""How many times as far codes might reach."""

BULK = 0.999
"""The share of elements that the bulk of a tensor holds."""

STILL = 0.01
"""By what share of its highest element a channel may change and is still constant."""

Span = tuple[float, float]


@attrs.frozen(kw_only=True)
class Usage:
    """From the numbers that codes reach down to those that are common; each span holds the next.

    Attributes:
        codes: how many there are.
        reach: the lowest and the highest number that codes stand for.
        tied: the range that the tensor and those of the same scale need together.
        with_others: the other tensors of the same scale.
        kept: the part of what calibration saw that the calibrator kept.
        live: that without channels that never change.
        constant: how many channels those are.
        channels: the range of every live channel; empty where they were not looked at.
        bulk: what holds `BULK` of the elements.
        mirrored: whether codes reach as far below zero as above.
    """

    codes: int
    reach: Span
    tied: Span
    with_others: tuple[str, ...]
    kept: Span
    live: Span
    constant: int
    channels: tuple[Span, ...]
    bulk: Span
    mirrored: bool

    def width(self, span: Span) -> float:
        """How much of the axis codes must cover to hold a span."""
        low, high = with_zero(*span)
        return 2 * max(-low, high) if self.mirrored else high - low

    def factor(self, outer: Span, inner: Span) -> float:
        """How much wider one span is than another, at least 1."""
        wide, narrow = self.width(outer), self.width(inner)
        return max(1.0, wide / narrow) if narrow > 0 else math.inf if wide > 0 else 1.0

    def spread(self) -> float:
        """The range of all live channels by that of the median one."""
        if len(self.channels) < 2:
            return 1.0
        return self.factor(self.live, sorted(self.channels, key=self.width)[len(self.channels) // 2])

    def used(self, span: Span) -> int:
        """How many of the codes a span uses."""
        low, high = with_zero(*span)
        whole = self.reach[1] - self.reach[0]
        return max(1, min(self.codes, round((high - low) / whole * self.codes))) if whole > 0 else 1


def usage(view: DiagnosisView, value: Value) -> Usage | None:
    """How the codes of a tensor are used; ``None`` for one without codes or of which nothing was seen."""
    quant, histogram = value.type.quant, view.histograms.get(value.name)
    known = view.ranges.get(value.name)
    if quant is None or histogram is None or known is None:
        return None
    chosen = with_zero(known.min, known.max)
    channels, constant = _channels(view, value.name)
    live = _joined(channels) or chosen
    seen = _joined([*channels, *constant]) or chosen
    # What a calibrator cut off is no waste.
    kept, live = _cut(seen, chosen), _cut(live, chosen)
    others = _tied(view, value.name)
    ranges = [view.ranges[name] for name in others if name in view.ranges]
    tied = (min([chosen[0], *(r.min for r in ranges)]), max([chosen[1], *(r.max for r in ranges)]))
    return Usage(
        codes=quant.dtype.max - quant.dtype.min + 1,
        reach=quant.range,
        tied=tied,
        with_others=others,
        kept=kept,
        live=live,
        constant=len(constant),
        channels=tuple(_cut(span, chosen) for span in channels),
        bulk=_cut(bulk(histogram), live),
        mirrored=quant.dtype.signed and abs(sum(quant.range)) <= 2 * quant.scale[0],
    )


def bulk(histogram: Histogram) -> Span:
    """Between which edges of bins `BULK` of the elements lie, as much left out below as above."""
    counts = histogram.counts.astype(np.int64)
    total = int(counts.sum()) + int(histogram.outside.sum())
    spare = (1 - BULK) / 2 * total
    step = (histogram.high - histogram.low) / len(counts)
    below, above = int(histogram.outside[0]), int(histogram.outside[1])
    first, last = 0, len(counts)
    while first < last - 1 and below + int(counts[first]) <= spare:
        below += int(counts[first])
        first += 1
    while last > first + 1 and above + int(counts[last - 1]) <= spare:
        above += int(counts[last - 1])
        last -= 1
    return histogram.low + first * step, histogram.low + last * step


def gain_db(histogram: Histogram, quant: QuantParams, factors: Iterable[float]) -> float:
    """By how much the noise of the codes would fall at most if they reached so many times as far, in dB.

    An estimate: rounding makes scale^2 / 12 for each element, a cut the square of its length; elements
    outside of the bins are taken as spread evenly up to the extremes. 0 when nothing would be won.
    """
    step = (histogram.high - histogram.low) / len(histogram.counts)
    centres = histogram.low + (np.arange(len(histogram.counts)) + 0.5) * step
    counts = histogram.counts.astype(np.float64)
    below, above = (float(count) for count in histogram.outside)
    elements = max(1.0, float(counts.sum()) + below + above)
    low, high = quant.range
    lowest, highest = (float(end) for end in histogram.extremes)

    def noise(factor: float) -> float:
        cut = np.maximum(0.0, centres - high * factor) + np.maximum(0.0, low * factor - centres)
        far = [(above, highest - high * factor), (below, low * factor - lowest)]
        outside = sum(count * max(0.0, length) ** 2 / 3 for count, length in far)
        return float((counts * cut**2).sum()) + outside + elements * (quant.scale[0] * factor) ** 2 / 12

    before, after = noise(1.0), min([noise(1.0), *map(noise, factors)])
    return 10 * math.log10(before / after) if after > 0 else 0.0


def _channels(view: DiagnosisView, tensor: str) -> tuple[list[Span], list[Span]]:
    """The range of every channel that was seen to change, and of those that were not."""
    if view.statistics is None or tensor not in view.statistics.statistics:
        return [], []
    extremes = view.statistics.minmax(tensor)
    live: list[Span] = []
    constant: list[Span] = []
    moves = _movement(view, tensor)
    for channel, (low, high) in enumerate(zip(extremes.min.tolist(), extremes.max.tolist(), strict=True)):
        changes = high > low
        if changes and extremes.info.nonnegative and moves is not None and channel < len(moves):
            # Nobody looked for the lowest elements of what is never negative.
            changes = moves[channel] > STILL * high
        (live if changes else constant).append(with_zero(low, high))
    return live, constant


def _movement(view: DiagnosisView, tensor: str) -> Sequence[float] | None:
    """How far the weights behind a tensor can move each of its channels; ``None`` without weights."""
    twin = view.reference_layers.get(tensor)
    operands = mac_operands(twin.nodes[0]) if twin else None
    if twin is None or operands is None or operands.weights.constant is None:
        return None
    source = view.ranges.get(operands.activation.name)
    if source is None:
        return None
    rows = by_output_channel(twin.nodes[0], operands.weights.constant.array().astype(np.float64))
    largest = max(abs(source.min), abs(source.max))
    return [float(total) for total in np.abs(rows).sum(axis=1) * largest]


def _joined(spans: Sequence[Span]) -> Span | None:
    return (min(low for low, _ in spans), max(high for _, high in spans)) if spans else None


def _cut(span: Span, limits: Span) -> Span:
    low, high = max(span[0], limits[0]), min(span[1], limits[1])
    return (low, high) if low <= high else limits


def _tied(view: DiagnosisView, tensor: str) -> tuple[str, ...]:
    if view.solved is None or view.prequantized:
        return ()
    values = quantized_values(view.graph, view.target, view.placement)
    sets = tied_tensors(view.graph, view.solved, values)
    members = sets.sets()[sets.find(tensor)]
    return tuple(name for name in members if name != tensor)
