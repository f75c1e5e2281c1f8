"""What limits the effect of an option that was set: another option, or the kind of the option itself."""

from __future__ import annotations

from lowtide.options.fields import Effect
from lowtide.options.schema import FIELDS, CompileOptions

FLOAT_BITS = 32
LEVEL_NINE_FLAGS = ("activation_clipping", "weight_clipping", "bias_calibration")
QUANTIZATION = (
    "accuracy_level",
    "quantization_scale_type",
    "channel_wise_quantization",
    "bias_clipping",
    "calibrator",
    "strategy",
    "weights",
    "statistics_frames",
)
"""Options that mean nothing to a network that stays in float."""

ADVISED_FRAMES = 10
"""Source: the vendor's option list advises ten frames or more and expects a considerable gain from fifty; its
published model-zoo files hold one, a placeholder that its own scripts replace."""


def note(field: str, options: CompileOptions) -> str:
    """The note of one option; empty where it has its full effect."""
    if FIELDS[field].effect is Effect.VENDOR_ONLY:
        limited = field in LEVEL_NINE_FLAGS and options.accuracy_level != 9
        return "read at accuracy_level 9 only" if limited else str(Effect.VENDOR_ONLY)
    if field in QUANTIZATION and options.tensor_bits == FLOAT_BITS:
        return f"without effect: tensor_bits {FLOAT_BITS} leaves the network in float"
    if field == "channel_wise_quantization" and options.quantization_scale_type == 4:
        return "scale type 4 always has a scale per channel"
    if field == "accuracy_level":
        return _level(options)
    frames = options.calibration_frames
    if field == "calibration_frames" and frames is not None and frames < ADVISED_FRAMES:
        return f"fewer than {ADVISED_FRAMES}; published model-zoo files hold a placeholder here"
    return ""


def _level(options: CompileOptions) -> str:
    parts: list[str] = []
    if options.calibrator is not None:
        parts.append("calibrator chooses the ranges")
    if options.weights is not None:
        parts.append("weights chooses the corrections")
    return "; ".join(parts)
