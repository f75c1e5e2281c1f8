"""A histogram as a density, and what quantization on a uniform grid costs under it."""

from __future__ import annotations

from typing import Self

import attrs
import numpy as np
from numpy.typing import NDArray

from lowtide.calibrate import MinMax
from lowtide_plugins.calibrators.histogram import SMALLEST_BIN, Histogram

NARROW = 1e-4
"""Bins narrower than this share of a step are points: an integral over one would lose its digits."""

FINEST = 2.0**-14
"""No bins but those around 0 need to be narrower than this share of the largest magnitude."""

Floats = NDArray[np.float64]


@attrs.frozen(eq=False)
class Density:
    """A distribution that is even within each bin.

    Attributes:
        edges: ascending, ``[B + 1]``; a bin of width 0 holds elements of one value.
        shares: what part of all elements each bin holds, ``[B]``; they add up to 1.
    """

    edges: Floats
    shares: Floats

    @classmethod
    def of(cls, counted: Histogram, seen: MinMax, finest: float = FINEST) -> Self:
        """The density of what was counted, its outermost bins cut where the extremes are.

        Args:
            counted: with at least one element.
            seen: the extremes, of at least the frames that were counted.
            finest: bins narrower than this share of the largest magnitude are merged; 0 merges none.
        """
        edges, counts = counted.bins()
        used = np.flatnonzero(counts)
        first, last = int(used[0]), int(used[-1]) + 1
        cut = np.clip(edges[first : last + 1], min(seen.low, 0.0), max(seen.high, 0.0))
        kept = _kept(cut, finest)
        return cls(cut[kept], np.add.reduceat(counts[first:last], kept[:-1]) / counted.total)

    def mirrored(self) -> Density:
        """The density of the negated elements."""
        return Density(-self.edges[::-1], self.shares[::-1])

    def below(self, x: Floats) -> Floats:
        """What part of the elements lies below each of `x`, any shape."""
        place = self._places(x)
        before = np.concatenate([[0.0], np.cumsum(self.shares)])
        below: Floats = before[place] + self.shares[place] * self._inside(x, place)
        return below

    def clipping_errors(self, low: Floats, high: Floats) -> Floats:
        """The mean of (x - low)^2 where x < low, and of (x - high)^2 where x > high, added.

        Args:
            low: any shape.
            high: of the same shape.
        """
        # Sums that start at the end that is cut off are as small as it is, so little of them cancels.
        under = _second_moment_about(low, *self.moments_below(low))
        over = _second_moment_about(-high, *self.mirrored().moments_below(-high))
        return np.maximum(under, 0.0) + np.maximum(over, 0.0)

    def quantization_errors(self, steps: Floats, low: Floats, high: Floats) -> Floats:
        """The mean squared error of rounding to multiples of a step and clipping.

        Args:
            steps: ``[K]``, above 0.
            low: the lowest multiple that has a code, ``[K, J]``, at most 0.
            high: the highest one, ``[K, J]``, at least 0.

        Returns:
            ``[K, J]``: the mean of (x - step * round(x / step))^2 over low <= x <= high, plus
            `clipping_errors`. The integral of the rounding error over part of a bin is a difference of
            G(u) = round(u) / 12 + (u - round(u))^3 / 3 with u = x / step, so it is exact for any width.
        """
        step = steps[:, None]
        scaled = self.edges / step
        width, middle = np.diff(scaled, axis=1), (scaled[:, 1:] + scaled[:, :-1]) / 2
        point = (middle - np.rint(middle)) ** 2
        wide = width > NARROW
        mean = np.where(wide, np.diff(_integral(scaled), axis=1) / np.where(wide, width, 1.0), point)
        whole = self.shares * mean
        before = np.concatenate([np.zeros_like(step), np.cumsum(whole, axis=1)], axis=1)

        def up_to(x: Floats) -> Floats:
            place, row = self._places(x), np.arange(len(steps))[:, None]
            start, bin_width = scaled[row, place], width[row, place]
            parts = _integral(x / step) - _integral(start)
            exact = self.shares[place] * parts / np.where(wide[row, place], bin_width, 1.0)
            share = whole[row, place] * self._inside(x, place)
            inside: Floats = np.where(wide[row, place], exact, share)
            return before[row, place] + inside

        # Where nothing is clipped, elements on the very end of the last bin count too.
        until = np.where(high >= self.edges[-1], before[:, -1:], up_to(high))
        since = np.where(low <= self.edges[0], 0.0, up_to(low))
        rounding: Floats = step**2 * (until - since)
        return rounding + self.clipping_errors(low, high)

    def _places(self, x: Floats) -> NDArray[np.intp]:
        """The bin in which each of `x` lies; the outermost ones for what lies outside."""
        return np.clip(np.searchsorted(self.edges, x, "right") - 1, 0, self.shares.size - 1)

    def _inside(self, x: Floats, place: NDArray[np.intp]) -> Floats:
        """What part of its bin lies below each of `x`, 0 to 1."""
        start, width = self.edges[place], self.edges[place + 1] - self.edges[place]
        points = np.where(x > start, 1.0, 0.0)
        return np.where(width > 0, np.clip((x - start) / np.where(width > 0, width, 1.0), 0.0, 1.0), points)

    def moments_below(self, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Integrals of 1, of y, and of y^2 over what lies below each of `x`."""
        start, stop = self.edges[:-1], self.edges[1:]
        place = self._places(x)
        part = self._inside(x, place)
        begin = start[place]
        end = begin + (stop - start)[place] * part
        share = self.shares[place] * part
        bins = _moments(self.shares, start, stop)
        ends = _moments(share, begin, end)
        zero, one, two = (
            np.concatenate([[0.0], np.cumsum(whole)])[place] + partial
            for whole, partial in zip(bins, ends, strict=True)
        )
        return zero, one, two


def _kept(edges: Floats, finest: float) -> NDArray[np.intp]:
    """The edges to keep: bins of small numbers are merged, which halves the work and more."""
    if not finest:
        return np.arange(edges.size)
    cell = max(-edges[0], edges[-1], np.finfo(np.float64).tiny) * finest
    moved = np.diff(np.floor(edges / cell)) != 0
    # The bins that touch 0 hold exact zeros, which cost nothing; a wide one may be the gap between the signs.
    zero = np.abs(edges) <= SMALLEST_BIN
    alone = zero[1:] | zero[:-1] | (np.diff(edges) > cell)
    kept = np.ones(edges.size, np.bool_)
    kept[1:-1] = moved[:-1] | alone[:-1] | alone[1:]
    return np.flatnonzero(kept)


def _moments(share: Floats, start: Floats, stop: Floats) -> tuple[Floats, Floats, Floats]:
    return share, share * (start + stop) / 2, share * (start**2 + start * stop + stop**2) / 3


def _second_moment_about(x: Floats, zero: Floats, one: Floats, two: Floats) -> Floats:
    return two - 2 * x * one + x**2 * zero


def _integral(u: Floats) -> Floats:
    """The integral of (u - round(u))^2, from 0."""
    nearest = np.rint(u)
    fraction = u - nearest
    integral: Floats = nearest / 12 + fraction * fraction * fraction / 3
    return integral
