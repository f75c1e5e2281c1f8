"""The whole range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs

from lowtide.calibrate import Calibrator, MinMax, NumberFormat, Range, Statistic


@attrs.frozen(kw_only=True)
class MinMaxCalibrator(Calibrator):
    """From the lowest to the highest element over all frames: nothing that was seen saturates."""

    name: ClassVar[str] = "minmax"
    statistics: ClassVar[tuple[str, ...]] = ("minmax",)

    def range(self, statistics: Mapping[str, Statistic], fmt: NumberFormat) -> Range:
        """See `Calibrator.range`."""
        del fmt
        seen = statistics["minmax"]
        assert isinstance(seen, MinMax)  # noqa: S101 - the registry has one statistic of this name
        return Range(seen.low, seen.high)
