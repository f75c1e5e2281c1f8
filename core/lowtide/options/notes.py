"""What limits the effect of an option that was set: another option, or the kind of the option itself."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from lowtide.options.fields import Effect, Kind
from lowtide.options.schema import FIELDS, CompileOptions
from lowtide.options.widths import FLOAT_BITS, LISTS, WIDE_BITS, WIDTH_OPTIONS

LEVEL_NINE_FLAGS = ("activation_clipping", "weight_clipping", "bias_calibration")
QUANTIZATION = (
    "accuracy_level",
    "quantization_scale_type",
    "channel_wise_quantization",
    "bias_clipping",
    "calibrator",
    "strategy",
    "recipe",
    "structure",
    "condition",
    "scales",
    "weights",
    "statistics_frames",
    "quant_params_proto_path",
    *WIDTH_OPTIONS,
)
"""Options that mean nothing to a network that stays in float."""

MOST_VERBOSE = 6
"""The vendor documents levels up to this; scripts in the wild write 300, so that more is no error."""

ADVISED_FRAMES = 10
"""Source: the vendor's option list advises ten frames or more and expects a considerable gain from fifty."""


def note(field: str, options: CompileOptions) -> str:
    """The note of one option that was set; empty where it has its full effect."""
    parts = [_limit(field, options), _twice(field, options)]
    return "; ".join(part for part in parts if part)


def placeholder_note(field: str, value: Any, origin: str) -> str:
    """The note of an option whose only value is a placeholder."""
    instead = "all frames are used" if field == "calibration_frames" else "it keeps its default"
    return f"{value} ({origin}) is a placeholder: {instead}"


def _limit(field: str, options: CompileOptions) -> str:
    if field == "debug_level" and options.debug_level > MOST_VERBOSE:
        return f"{Effect.VENDOR_ONLY}; the vendor's levels are 0 to {MOST_VERBOSE}"
    if FIELDS[field].effect is Effect.VENDOR_ONLY:
        return str(Effect.VENDOR_ONLY)
    if field in LEVEL_NINE_FLAGS and options.accuracy_level != 9:
        return "read at accuracy_level 9 only"
    if field in QUANTIZATION and options.tensor_bits == FLOAT_BITS:
        return f"without effect: tensor_bits {FLOAT_BITS} leaves the network in float"
    if field in LISTS and options.tensor_bits == WIDE_BITS:
        return f"without effect: tensor_bits {WIDE_BITS} gives all layers 16 bits"
    if field == "search_frames" and not options.strategy and not options.seeks_widths:
        return "without effect: no budget, goal or point of the front asks for a search"
    if field == "accuracy_level":
        return _level(options)
    frames = options.calibration_frames
    if field == "calibration_frames" and frames is not None and frames < ADVISED_FRAMES:
        return f"fewer than the {ADVISED_FRAMES} that the vendor advises"
    return ""


def _twice(field: str, options: CompileOptions) -> str:
    if FIELDS[field].kind is not Kind.NAMES:
        return ""
    counted = Counter(cast(tuple[str, ...], getattr(options, field)))
    listed = ", ".join(name for name, count in counted.items() if count > 1)
    return f"named more than once: {listed}" if listed else ""


def _level(options: CompileOptions) -> str:
    parts: list[str] = []
    if options.calibrator is not None:
        parts.append("calibrator chooses the ranges")
    if options.weights is not None:
        parts.append("weights chooses the corrections")
    return "; ".join(parts)
