"""The range of the least squared error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs

from lowtide.calibrate import Calibrator, MinMax, NumberFormat, Range, Statistic
from lowtide.errors import OptionError
from lowtide_plugins.calibrators.codes import best_range
from lowtide_plugins.calibrators.density import FINEST, Density
from lowtide_plugins.calibrators.histogram import Histogram


def check_narrowest(instance: Calibrator, attribute: attrs.Attribute[float], value: float) -> None:
    """Refuse a share that is none.

    Raises:
        OptionError: naming calibrator and option.
    """
    if not 0 < value <= 1:
        raise OptionError(
            f"{attribute.name} should be above 0 and at most 1, found {value}",
            place=instance.name,
            hint="it is a share of the observed range; 1 never clips",
        )


def observed(statistics: Mapping[str, Statistic], *, finest: float = FINEST) -> tuple[Range, Density | None]:
    """The range over all frames, widened to 0, and the density; ``None`` where there is nothing to weigh.

    Args:
        statistics: ``minmax`` and ``histogram``.
        finest: see `Density.of`.
    """
    seen, counted = statistics["minmax"], statistics["histogram"]
    assert isinstance(seen, MinMax)  # noqa: S101 - the registry has one statistic of this name
    assert isinstance(counted, Histogram)  # noqa: S101 - the same
    span = Range(min(seen.low, 0.0), max(seen.high, 0.0))
    known = counted.total > 0 and span.min < span.max
    return span, Density.of(counted, seen, finest) if known else None


@attrs.frozen(kw_only=True)
class MseCalibrator(Calibrator):
    """Minimises the mean squared error of quantizing the elements of all frames that were seen whole.

    E(s, z) = mean of (x - Q(x))^2, Q(x) = s * (clip(round(x / s) + z, qmin, qmax) - z): what rounding costs
    inside of the range, and clipping outside. Without a zero point z is 0, codes are signed or unsigned
    whichever costs less, and s is searched; with one, s and z are. Elements are even within each bin of the
    histogram, and the integrals over bins are exact. s goes from that of the whole range over all frames
    down to `narrowest` of it: the best of 3 steps an octave (at 17 positions, where both ends can move),
    then twice the best of 7 (by 7) around it. The whole range is among what is tried.

    The step is that of the range itself, whatever a power-of-two rule makes of it; `shift-aware` looks at
    that. Tensors of zeros only, and those that no frame has shown whole, get the whole range.

    Attributes:
        narrowest: the smallest step that is tried, as a share of that of the whole range.

    Raises:
        OptionError: on construction, when `narrowest` is not above 0 and at most 1.

    Source: the error that a symmetric quantizer's scale minimises in Banner et al., "Post-training 4-bit
    quantization of convolutional networks" (NeurIPS 2019), section 3, here on the observed distribution
    instead of a fitted one.
    """

    name: ClassVar[str] = "mse"
    statistics: ClassVar[tuple[str, ...]] = ("histogram", "minmax")

    narrowest: float = attrs.field(default=1 / 64, validator=check_narrowest)

    def range(self, statistics: Mapping[str, Statistic], fmt: NumberFormat) -> Range:
        """See `Calibrator.range`."""
        span, density = observed(statistics)
        return best_range(density, span, fmt, self.narrowest).span if density else span
