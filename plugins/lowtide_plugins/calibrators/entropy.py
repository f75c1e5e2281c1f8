"""The range that loses the least information."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from lowtide.calibrate import Calibrator, NumberFormat, Range, Statistic
from lowtide.errors import OptionError
from lowtide_plugins.calibrators.density import Density, Floats
from lowtide_plugins.calibrators.histogram import SMALLEST_BIN, Histogram
from lowtide_plugins.calibrators.mse import observed

STRIDE = 16
"""Bins from one end that is tried to the next."""

EMPTY = 1e-4
"""Elements that a level without any is taken to have when others are clipped to it."""

FEWEST_BINS = 512

Integers = NDArray[np.int64]


def _check_bins(_: object, attribute: attrs.Attribute[int], value: object) -> None:
    if not isinstance(value, int) or value < FEWEST_BINS:
        raise OptionError(
            f"{attribute.name} should be a whole number of at least {FEWEST_BINS}, found {value}",
            place="entropy",
        )


@attrs.frozen(kw_only=True)
class EntropyCalibrator(Calibrator):
    """Minimises the Kullback-Leibler divergence of the quantized distribution from the observed one.

    With the largest magnitude T divided into `bins` bins, each i-th bin ends a window, that is what of
    [-i * T / bins, i * T / bins] the observed range has. P holds the counts of the bins in the window, those
    outside added to its outermost bins. Q is the counts in the window, added up over each level and spread
    evenly over those of its bins that P has elements in. With both divided by their sums, the window is that
    with the least

        D(P || Q) = sum of P * log(P / Q).

    There are as many levels as the number format has codes in the window: 2^b over the window with a zero
    point, or over that of a tensor without negative elements; 2^(b-1) over [0, i * T / bins], as many below
    0, for signed symmetric codes. Every 16th window is tried, from the one whose levels are as narrow as a
    bin; where there is none, as with 16 bits, the range is the whole one over all frames. Zeros are left out
    of both: every format has them exactly. Q of a level without elements is 0.0001 elements.

    Attributes:
        bins: bins of the largest magnitude.

    Raises:
        OptionError: on construction, when `bins` is not a whole number of at least 512.

    Source: S. Migacz, "8-bit inference with TensorRT", GPU Technology Conference 2017, entropy calibration,
    with 2048 bins and 128 levels of |x|; as ONNX Runtime does, signed tensors keep their sign, and empty
    bins get 0.0001 elements.
    """

    name: ClassVar[str] = "entropy"
    statistics: ClassVar[tuple[str, ...]] = ("histogram", "minmax")

    bins: int = attrs.field(default=2048, validator=_check_bins)

    def range(self, statistics: Mapping[str, Statistic], fmt: NumberFormat) -> Range:
        """See `Calibrator.range`."""
        # Merged bins would end elsewhere than the levels do, which decides between windows.
        span, density = observed(statistics, finest=0.0)
        if density is None:
            return span
        counted = statistics["histogram"]
        assert isinstance(counted, Histogram)  # noqa: S101 - the registry has one statistic of this name
        width = max(-span.min, span.max) / self.bins
        reach = np.minimum(np.ceil(np.array([-span.min, span.max]) / width).astype(np.int64), self.bins)
        windows, levels = _windows(reach, self.bins, fmt)
        if not windows.size:
            return span
        sides = ((density.mirrored(), reach[0]), (density, reach[1]))
        sums: list[_Sums] = []
        for side, end in sides:
            if end:
                counts = _counts(side, width, self.bins) * counted.total
                sums.append(_Side.of(counts).sums(np.minimum(windows, end), levels))
        divergence = _divergence(sums)
        # Of windows that lose the same, the widest one.
        end = width * float(windows[::-1][np.argmin(divergence[::-1])])
        return Range(max(span.min, -end), min(span.max, end))


def _windows(reach: Integers, bins: int, fmt: NumberFormat) -> tuple[Integers, Floats]:
    """The windows tried, by how many bins they reach to each side, and the width of a level in bins."""
    windows = np.arange(bins, 0, -STRIDE)[::-1]
    if fmt.symmetric and reach[0]:
        levels = windows / 2 ** (fmt.bits - 1)
    else:
        levels = np.minimum(windows[:, None], reach).sum(axis=1) / 2**fmt.bits
    return windows[levels >= 1], levels[levels >= 1]


def _counts(density: Density, width: float, bins: int) -> Floats:
    """The shares of the elements above 0 in bins of a width."""
    edges = np.arange(bins + 1, dtype=np.float64) * width
    edges[0] = SMALLEST_BIN  # below it are the zeros
    edges[-1] = np.inf
    return np.maximum(np.diff(density.below(edges)), 0.0)


@attrs.frozen(eq=False)
class _Sums:
    """Parts of the divergence of one side, one entry a window."""

    entropy: Floats
    cross: Floats
    elements: Floats
    inside: Floats


@attrs.frozen(eq=False)
class _Side:
    """Counts of one side of 0, outwards, ``[bins]``, and running sums that begin with 0, ``[bins + 1]``."""

    counts: Floats
    elements: Floats
    entropy: Floats
    filled: Floats

    @classmethod
    def of(cls, counts: Floats) -> _Side:
        parts = (counts, _times_log(counts), (counts > 0).astype(np.float64))
        elements, entropy, filled = (np.concatenate([[0.0], np.cumsum(part)]) for part in parts)
        return cls(counts, elements, entropy, filled)

    def sums(self, ends: Integers, levels: Floats) -> _Sums:
        """Sum up windows of `ends` bins at levels of `levels` bins, in time that does not grow with bins."""
        count = int(np.ceil(ends / levels).max())
        edges = np.minimum(np.rint(np.arange(count + 1) * levels[:, None]).astype(np.int64), ends[:, None])
        rows, last = np.arange(ends.size), (edges < ends[:, None]).sum(axis=1) - 1
        outermost = ends - 1
        clipped = self.elements[-1] - self.elements[ends]
        end = self.counts[outermost] + clipped
        kept = np.diff(self.elements[edges], axis=1)
        filled = np.diff(self.filled[edges], axis=1)
        filled[rows, last] += (clipped > 0) & (self.counts[outermost] == 0)
        weight = kept.copy()
        weight[rows, last] += clipped
        spread = np.where(kept > 0, kept, np.where(weight > 0, EMPTY, 1.0)) / np.maximum(filled, 1.0)
        return _Sums(
            entropy=self.entropy[outermost] + _times_log(end),
            cross=(weight * np.log(spread)).sum(axis=1),
            elements=np.full(ends.size, self.elements[-1]),
            inside=np.where(weight > 0, spread * filled, 0.0).sum(axis=1),
        )


def _times_log(x: Floats) -> Floats:
    return x * np.log(np.where(x > 0, x, 1.0))


def _divergence(sides: list[_Sums]) -> Floats:
    elements = np.maximum(sum(side.elements for side in sides), np.finfo(np.float64).tiny)
    inside = np.maximum(sum(side.inside for side in sides), np.finfo(np.float64).tiny)
    own, cross = sum(side.entropy for side in sides), sum(side.cross for side in sides)
    divergence: Floats = (own - cross) / elements - np.log(elements) + np.log(inside)
    return divergence
