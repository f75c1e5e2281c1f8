"""Causes in the ranges of activations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

import attrs

from lowtide.diagnosis import Cause, Diagnosis, DiagnosisView
from lowtide.errors import counted, short_name
from lowtide.ir import Value
from lowtide.measure import Histogram
from lowtide.report.model import Finding
from lowtide_plugins.diagnosis import remedies
from lowtide_plugins.diagnosis.spread import (
    BULK,
    NARROWER,
    WIDER,
    Span,
    Usage,
    gain_db,
    usage,
)

MATTERS = 0.3
"""The share of a layer's noise from which on a part of it is explained."""

HALF_BIT = 1.4
"""The factor between two widths that costs 3 dB."""

TWO_BITS = 4.0
"""The same for 12 dB: elements in the tail may be what a network looks at."""

ENOUGH_DB = 3.0
"""The gain from which on another calibrator is advised instead of wider codes."""

OUTLIERS = Cause("LT951", "range dominated by outliers", "99.9 % of the elements need a quarter of the codes")
CONSTANT = Cause(
    "LT952", "range taken by constant channels", "the other channels need 1 / 1.4 of the range or less"
)
TIED = Cause("LT953", "scale tied to that of other tensors", "they need 1.4 times the range or more")
SHIFT = Cause(
    "LT954", "scale rounded up since requantization only shifts", "codes reach 1.4 times as far as the range"
)
ONE_SIDED = Cause(
    "LT955", "one-sided range in signed codes", "codes for the other side are 1.4 times as many"
)
CUT = Cause(
    "LT956",
    "range cut off by the calibrator",
    "a third of the noise comes from saturated elements, and what reads them is not flat there",
)
DOMAIN = Cause(
    "LT957", "input not in the calibrated domain", "the same, and the range was known before calibration"
)
CHANNELS = Cause("LT959", "range taken by a few channels", "it is 4 times that of the median channel or more")
WIDTH = Cause("LT958", "output too wide-ranging for 8 bits", "a third of the noise comes from rounding it")

CAUSES = (OUTLIERS, CONSTANT, TIED, SHIFT, ONE_SIDED, CUT, DOMAIN, WIDTH, CHANNELS)


@attrs.frozen(kw_only=True)
class Ranges(Diagnosis):
    """Explains noise that the codes of activations make."""

    name: ClassVar[str] = "ranges"
    causes: ClassVar[tuple[Cause, ...]] = (
        OUTLIERS,
        CONSTANT,
        TIED,
        SHIFT,
        ONE_SIDED,
        CUT,
        DOMAIN,
        CHANNELS,
        WIDTH,
    )

    def find(self, view: DiagnosisView) -> Iterable[Finding]:
        """See `Diagnosis.find`."""
        found: dict[tuple[str, str], Finding] = {}
        for finding in _findings(view):
            found.setdefault((finding.code, finding.layer), finding)
        return found.values()


FLAT = frozenset({"HardSigmoid", "Sigmoid", "Tanh"})
FLAT_FROM = 3.9
"""From here on these are within a fiftieth of their limits; 8-bit codes of a power of two end before 4."""


def _findings(view: DiagnosisView) -> Iterator[Finding]:
    for cost in view.worst:
        parts, layer = view.parts.get(cost.layer), view.layers[cost.layer]
        rule = view.target.operators.get(layer.op)
        if parts is None or rule is None or rule.kind == "table":
            continue
        if parts.share(parts.clipping) >= MATTERS:
            yield from _clipped(view, layer.output, parts.share(parts.clipping))
        if parts.share(parts.rounding) >= MATTERS:
            yield from _rounded(view, layer.output, parts.share(parts.rounding), "its")
        if parts.share(parts.inputs) >= MATTERS:
            for value in layer.inputs:
                share = parts.share(parts.inputs)
                yield from _rounded(view, value, share, f"{short_name(layer.name)}'s")


def _rounded(view: DiagnosisView, value: Value, share: float, whose: str) -> Iterator[Finding]:
    """Why the codes of a tensor are coarse."""
    found, quant = usage(view, value), value.type.quant
    if found is None or quant is None or quant.bits > 8:
        return
    layer = _maker(view, value)
    on_device = layer in view.layers and view.placement.on_accelerator(layer)
    wider = remedies.wider_output(view, layer) if on_device else None
    gain = gain_db(view.histograms[value.name], quant, NARROWER)
    candidates = [
        (CONSTANT, found.factor(found.kept, found.live), HALF_BIT),
        (CHANNELS, found.spread(), TWO_BITS),
        (OUTLIERS, found.factor(found.live, found.bulk), TWO_BITS),
        (TIED, found.factor(found.tied, found.kept), HALF_BIT),
        (SHIFT, found.factor(found.reach, found.tied), HALF_BIT),
        (ONE_SIDED, _one_sided(found), HALF_BIT),
    ]
    named = [(factor, cause) for cause, factor, threshold in candidates if factor >= threshold]
    cause = max(named, key=lambda item: item[0])[1] if named else WIDTH
    remedy: str | None = wider
    if cause in (OUTLIERS, SHIFT) and gain >= ENOUGH_DB:
        better = "mse" if view.rule.activation_scale == "free" else "shift-aware"
        remedy = remedies.calibrator(view, better) or wider
    elif cause is ONE_SIDED:
        remedy = remedies.scale_type(view, 4) or wider
    if remedy is not None:
        evidence = f"{_evidence(cause, found)}; rounding it makes {share:.0%} of {whose} noise"
        yield cause.finding(layer, evidence, remedy)


def _maker(view: DiagnosisView, value: Value) -> str:
    """The layer that computes the numbers of a tensor, not one that only moves them; or the network input."""
    maker = view.makers.get(value.name)
    while maker is not None and len(maker.inputs) == 1 and view.target.operators.get(maker.op) is not None:
        source = maker.inputs[0]
        if view.target.operators[maker.op].kind != "same-codes" or source.type.quant != value.type.quant:
            break
        value, maker = source, view.makers.get(source.name)
    return view.layer_of(value)


def _one_sided(found: Usage) -> float:
    low, high = found.kept
    return found.width(found.kept) / (high - low) if found.mirrored and high > low else 1.0


def _evidence(cause: Cause, found: Usage) -> str:
    codes = found.codes
    match cause.code:
        case OUTLIERS.code:
            few = f"{BULK:.1%} of the elements need {found.used(found.bulk)} of {codes} codes"
            return f"{few}: they lie in {_span(found.bulk)}, the range is {_span(found.kept)}"
        case CONSTANT.code:
            few = f"the range {_span(found.kept)} comes of {counted(found.constant, 'constant channel')}"
            return f"{few}; the others need {found.used(found.live)} of {codes} codes"
        case CHANNELS.code:
            median = sorted(found.channels, key=found.width)[len(found.channels) // 2]
            few = f"the median of {len(found.channels)} channels needs {found.used(median)} of {codes} codes"
            return f"{few}: its range is {_span(median)}, that of all {_span(found.live)}"
        case TIED.code:
            shown = ", ".join(map(short_name, found.with_others[:2]))
            others = f"{shown}, …" if len(found.with_others) > 2 else shown
            return (
                f"{found.used(found.kept)} of {codes} codes: its range is {_span(found.kept)}, "
                f"with {others} {_span(found.tied)}"
            )
        case SHIFT.code:
            reach = f"codes reach {_span(found.reach)}, the range is {_span(found.tied)}"
            return f"{found.used(found.tied)} of {codes} codes: {reach}"
        case ONE_SIDED.code:
            return f"{found.used(found.kept)} of {codes} codes: the range is {_span(found.kept)}"
        case _:
            return f"{found.used(found.kept)} of {codes} codes are used, the range is {_span(found.kept)}"


def _is_flat_beyond(value: Value, histogram: Histogram) -> bool:
    """Whether nothing reads a tensor but functions that give the same for all that is cut off."""
    quant, readers = value.type.quant, value.users
    if quant is None or not readers or any(node.op not in FLAT for node in readers):
        return False
    (low, high), (lowest, highest) = quant.range, histogram.extremes
    return bool((low <= -FLAT_FROM or lowest >= low) and (high >= FLAT_FROM or highest <= high))


def _clipped(view: DiagnosisView, value: Value, share: float) -> Iterator[Finding]:
    """Who chose a range that is too small."""
    quant, histogram = value.type.quant, view.histograms.get(value.name)
    if quant is None or histogram is None or value.name not in view.ranges:
        return
    if _is_flat_beyond(value, histogram):
        return
    measured = counted(view.frames, "frame")
    lowest, highest = (float(end) for end in histogram.extremes)
    evidence = (
        f"codes reach {_span(quant.range)}; on the {measured} that errors are measured on, elements are "
        f"{_span((lowest, highest))}, and saturated ones make {share:.0%} of the noise"
    )
    layer = view.layer_of(value)
    if value.name in view.calibrated and not view.prequantized:
        gain = gain_db(histogram, quant, WIDER)
        remedy = remedies.calibrator(view, "minmax") if gain >= ENOUGH_DB else None
        yield CUT.finding(layer, evidence, remedy or remedies.wider_output(view, layer))
    elif view.prequantized:
        yield DOMAIN.finding(layer, evidence, remedies.recalibrated())
    elif view.options.quant_params_proto_path:
        yield DOMAIN.finding(layer, evidence, "advanced_options:quant_params_proto_path=")


def _span(span: Span) -> str:
    return f"{span[0]:.4g} to {span[1]:.4g}"
