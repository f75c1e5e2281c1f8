"""All but the tails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs

from lowtide.calibrate import Calibrator, MinMax, NumberFormat, Range, Statistic
from lowtide.errors import OptionError
from lowtide_plugins.calibrators.histogram import Histogram

HALF = 50.0


def _check_shrink(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not 0 <= value < HALF:
        raise OptionError(
            f"{attribute.name} should be at least 0 and below 50 percent, found {value}", place="percentile"
        )


@attrs.frozen(kw_only=True)
class PercentileCalibrator(Calibrator):
    """Cuts off a share of the elements at both ends.

    low = quantile(shrink / 100), high = quantile(1 - shrink / 100) over the elements of all frames that were
    seen whole, clipped to what was seen over all frames; a tensor without negative elements begins at 0, one
    without positive elements ends there, and 0 is always inside. A shrink of 0 is the whole range over all
    frames.

    Attributes:
        shrink: percent of the elements cut off on each side.

    Raises:
        OptionError: on construction, when `shrink` is not from 0 to below 50.

    Source: the vendor's published calibration code cuts 0.01 percent of the elements on each side.
    """

    name: ClassVar[str] = "percentile"
    statistics: ClassVar[tuple[str, ...]] = ("histogram", "minmax")

    shrink: float = attrs.field(default=0.01, validator=_check_shrink)

    def range(self, statistics: Mapping[str, Statistic], fmt: NumberFormat) -> Range:
        """See `Calibrator.range`."""
        del fmt
        seen, counted = statistics["minmax"], statistics["histogram"]
        assert isinstance(seen, MinMax)  # noqa: S101 - the registry has one statistic of this name
        assert isinstance(counted, Histogram)  # noqa: S101 - the same
        lowest, highest = min(seen.low, 0.0), max(seen.high, 0.0)
        if not self.shrink:
            return Range(lowest, highest)
        share = self.shrink / 100
        low = counted.quantile(share) if lowest < 0 else 0.0
        high = counted.quantile(1 - share) if highest > 0 else 0.0
        return Range(min(max(low, lowest), 0.0), max(min(high, highest), 0.0))
