"""How often each value occurs, without having to know the range beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from lowtide.calibrate import Statistic, TensorInfo
from lowtide.calibrate.api import Wants
from lowtide.ir import Array

BLOCK = 1 << 20
"""Elements counted at once; bounds the integers that counting makes of them."""

SIGN = 1 << 15
"""The sign bit of a code."""

SMALLEST_BIN = 2.0**-133
"""Where the bins around 0 end; they hold the zeros."""

Counts = NDArray[np.int64]


@attrs.define
class _Side:
    """Counts of the codes of one sign, from the lowest to the highest one that occurred."""

    first: int = 0
    counts: Counts = attrs.field(factory=lambda: np.zeros(0, np.int64))

    def add(self, first: int, counts: Counts) -> None:
        touched = np.flatnonzero(counts)
        if not touched.size:
            return
        low, high = first + int(touched[0]), first + int(touched[-1]) + 1
        self._reach(low, high)
        self.counts[low - self.first : high - self.first] += counts[low - first : high - first]

    def _reach(self, low: int, high: int) -> None:
        if not self.counts.size:
            self.first, self.counts = low, np.zeros(high - low, np.int64)
            return
        before, after = max(0, self.first - low), max(0, high - self.first - self.counts.size)
        if before or after:
            self.first, self.counts = self.first - before, np.pad(self.counts, (before, after))


class Histogram(Statistic):
    """Counts of the elements by their upper 16 bits, which are those of a bfloat16.

    Bins are 2^-7 of their power of two wide, so a quantile is known to better than 1 % of itself at any
    magnitude, no range is needed beforehand, and counts of different frames add up. 0 and -0, and numbers
    below 2^-133, share the two bins around 0. Only the bins between those touched are kept.
    """

    name: ClassVar[str] = "histogram"
    wants: ClassVar[Wants] = "array"

    def __init__(self, info: TensorInfo) -> None:
        super().__init__(info)
        self._positive = _Side()
        self._negative = _Side()

    @property
    def total(self) -> int:
        """How many elements were counted."""
        return int(self._positive.counts.sum() + self._negative.counts.sum())

    def update(self, observed: NDArray[np.float32]) -> None:
        """See `Statistic.update`."""
        # The upper half of a float32 is the odd one of its two 16-bit words on a little-endian machine.
        codes = np.ascontiguousarray(observed, "<f4").reshape(-1).view("<u2")[1::2]
        for start in range(0, codes.size, BLOCK):
            counts = np.bincount(codes[start : start + BLOCK])
            self._positive.add(0, counts[:SIGN])
            self._negative.add(0, counts[SIGN:])

    def merge(self, other: Self) -> None:
        """See `Statistic.merge`."""
        self._positive.add(other._positive.first, other._positive.counts)
        self._negative.add(other._negative.first, other._negative.counts)

    def bins(self) -> tuple[NDArray[np.float64], Counts]:
        """The edges and counts of all bins from the lowest to the highest value.

        Returns:
            Edges, float64 ``[B + 1]`` ascending; counts, int64 ``[B]``. Between the negative and the positive
            bins lies one without elements, of width 0 if both sides reach 0.
        """
        negative = -_values(self._negative)[::-1]
        positive = _values(self._positive)
        edges = np.concatenate([negative, positive])
        counts = np.concatenate([self._negative.counts[::-1], np.zeros(1, np.int64), self._positive.counts])
        if not self._negative.counts.size:
            return positive, self._positive.counts
        if not self._positive.counts.size:
            return negative, self._negative.counts[::-1]
        return edges, counts

    def quantile(self, share: float) -> float:
        """The value below which `share` of the elements lie, elements spread evenly within their bin.

        Args:
            share: 0 to 1.

        Raises:
            ValueError: when nothing was counted.
        """
        edges, counts = self.bins()
        cumulated = np.cumsum(counts)
        if not cumulated.size or not cumulated[-1]:
            raise ValueError("a histogram without elements has no quantile")
        rank = min(max(share, 0.0), 1.0) * float(cumulated[-1])
        # Ends lie in bins with elements: the first one that reaches the rank, or the first with any.
        position = int(np.searchsorted(cumulated, max(rank, 1e-300)))
        position = min(position, cumulated.size - 1)
        inside = (rank - float(cumulated[position] - counts[position])) / float(counts[position])
        low, high = float(edges[position]), float(edges[position + 1])
        return low + (high - low) * min(max(inside, 0.0), 1.0)

    def save(self) -> dict[str, Array]:
        """See `Statistic.save`."""
        return {
            "first": np.array([self._positive.first, self._negative.first]),
            "positive": self._positive.counts,
            "negative": self._negative.counts,
        }

    @classmethod
    def load(cls, info: TensorInfo, arrays: Mapping[str, Array]) -> Self:
        """See `Statistic.load`."""
        made = cls(info)
        positive, negative = (int(entry) for entry in arrays["first"])
        made._positive = _Side(positive, np.array(arrays["positive"], np.int64))
        made._negative = _Side(negative, np.array(arrays["negative"], np.int64))
        return made


def _values(side: _Side) -> NDArray[np.float64]:
    """The magnitudes at which the bins of one side begin, and where the last one ends, ascending."""
    codes = np.arange(side.first, side.first + side.counts.size + 1, dtype=np.uint32)
    values = (codes << 16).view(np.float32)
    # The bin of the largest numbers would end at infinity, where nothing can be interpolated.
    return np.minimum(values, np.finfo(np.float32).max).astype(np.float64)
