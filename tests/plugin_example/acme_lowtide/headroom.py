"""A calibrator of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs

from lowtide import Calibrator, NumberFormat, Range, Statistic
from lowtide.calibrate import MinMax


@attrs.frozen(kw_only=True)
class Headroom(Calibrator):
    """The observed minimum and maximum, widened by a share of their distance."""

    name: ClassVar[str] = "headroom"
    statistics: ClassVar[tuple[str, ...]] = ("minmax",)
    margin: float = 0.1

    def range(self, statistics: Mapping[str, Statistic], fmt: NumberFormat) -> Range:  # noqa: ARG002
        seen = statistics["minmax"]
        assert isinstance(seen, MinMax)
        low, high = seen.low, seen.high
        extra = (high - low) * self.margin
        return Range(low - extra if low < 0 else low, high + extra)
