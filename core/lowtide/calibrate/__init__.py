"""Calibration: frames to statistics, statistics to ranges."""

from __future__ import annotations

from lowtide.calibrate.api import Calibrator, Extremes, NumberFormat, Range, Statistic, TensorInfo
from lowtide.calibrate.cache import StatisticsCache
from lowtide.calibrate.collect import Collected, collect
from lowtide.calibrate.minmax import MinMax
from lowtide.calibrate.nonnegative import provably_nonnegative
from lowtide.calibrate.observe import observable
from lowtide.calibrate.ranges import calibrate

__all__ = [
    "Calibrator",
    "Collected",
    "Extremes",
    "MinMax",
    "NumberFormat",
    "Range",
    "Statistic",
    "StatisticsCache",
    "TensorInfo",
    "calibrate",
    "collect",
    "observable",
    "provably_nonnegative",
]
