"""Statistics to ranges, with checks of what calibrators return."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from lowtide.calibrate.api import Calibrator, NumberFormat, Range, Statistic
from lowtide.calibrate.collect import Collected
from lowtide.errors import QuantizationError, nearest
from lowtide.narrow import is_number
from lowtide.plugin import plugin_code


def calibrate(
    collected: Collected, calibrator: Calibrator, formats: Mapping[str, NumberFormat], *, provider: str = ""
) -> dict[str, Range]:
    """Ask a calibrator for the range of every tensor in `formats`.

    Args:
        collected: the statistics, among them those that the calibrator reads.
        calibrator: what turns them into ranges.
        formats: what each tensor will be stored in, by name.
        provider: who provides the calibrator, for messages; by default its module.

    Raises:
        PluginError: naming the calibrator and the tensor, when the calibrator fails.
        QuantizationError: when a tensor or statistic was not collected, or when the range is no two numbers,
            NaN, infinite or inverted; the place is the tensor.
    """
    source = f"the calibrator {calibrator.name} of {provider or type(calibrator).__module__}"
    return {tensor: _range(collected, calibrator, tensor, fmt, source) for tensor, fmt in formats.items()}


def _range(
    collected: Collected, calibrator: Calibrator, tensor: str, fmt: NumberFormat, source: str
) -> Range:
    wanted = {name: _statistic(collected, tensor, name, source) for name in calibrator.statistics}
    with plugin_code(f"{source}, tensor {tensor}"):
        found = calibrator.range(wanted, fmt)
    if not isinstance(found, Range):  # pyright: ignore[reportUnnecessaryIsInstance]  # third parties write it
        raise QuantizationError(f"{source} should return a Range, found {found!r}", place=tensor)
    if not (is_number(found.min) and is_number(found.max)):
        raise QuantizationError(f"{source} should return a range of two numbers, found {found}", place=tensor)
    if not (math.isfinite(found.min) and math.isfinite(found.max)):
        raise QuantizationError(f"{source} should return a finite range, found {found}", place=tensor)
    if found.min > found.max:
        raise QuantizationError(f"{source} should return min <= max, found {found}", place=tensor)
    # Files carry ranges as float32: a range that is read back has to give the same scale.
    with np.errstate(over="ignore"):
        return Range(float(np.float32(found.min)), float(np.float32(found.max)))


def _statistic(collected: Collected, tensor: str, name: str, source: str) -> Statistic:
    if tensor not in collected.statistics:
        raise QuantizationError(
            "this tensor was not observed", place=tensor, hint=nearest(tensor, collected.statistics)
        )
    found = collected.statistics[tensor]
    if name not in found:
        hint = nearest(name, found)
        raise QuantizationError(
            f"{source} reads the statistic {name}, which was not collected", place=tensor, hint=hint
        )
    return found[name]
