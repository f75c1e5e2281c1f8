"""Fixed-point multipliers in float32: a line that passes between all integers that codes begin at.

What a multiplier and its roundings give never falls as the integer grows, so it is known by the integers that
codes begin at. A product and a sum in float32 never fall either. Where a factor and an offset are found with
which every code begins at the same integer, they give the same codes for all integers.

Integers and codes are counted from a middle, since numbers are rounded the less the smaller they are.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import attrs
import numpy as np

from lowtide.exact.fixedpoint import Multiplier
from lowtide.ir import Array

MIDDLES = (0, 7, -7)
"""Middles that are tried: so many codes from the middle of those that come up."""

SLOPES = (0, 1, -1, 2, -2)
"""Factors that are tried: so many steps of float32 from the nearest."""

PLACES = (0.5, 0.3, 0.7)
"""Offsets that are tried, as shares of what is possible without rounding."""

KEPT = 512
"""Lines that are kept, one for each layer."""

LARGEST_SHIFTED = 61
"""Bits of int64 that products may take."""


@attrs.frozen(eq=False)
class Line:
    """The code of an integer x is the middle + factor * (x - centre) + offset, rounded, one for each channel.

    Attributes:
        factor: float32.
        offset: float32; whether it is added to the rounded product does not matter.
        centre: int64.
        middle: int64.
    """

    factor: Array
    offset: Array
    centre: Array
    middle: Array


@attrs.frozen(eq=False)
class Begins:
    """Where codes begin, by code and channel, all ``[codes, channels]``.

    Attributes:
        codes: int64, ascending.
        first: int64, the smallest integer that gives the code or a higher one.
        counts: bool, whether the integer can come up.
    """

    codes: Array
    first: Array
    counts: Array

    def of(self, channels: Array) -> Begins:
        """Those of some channels."""
        return Begins(self.codes[:, channels], self.first[:, channels], self.counts[:, channels])

    def less(self, middle: Array, centre: Array) -> Begins:
        """Counted from elsewhere."""
        return Begins(self.codes - middle, self.first - centre, self.counts)


def find_line(by: Multiplier, highest: int, bounds: Array, *, double: bool) -> Line | None:
    """A line for the codes from 0; ``None`` where some channel has none.

    Args:
        by: multipliers, int64 ``[channels]``.
        highest: the highest code, above 0.
        bounds: no integer is larger, int64 ``[channels]``.
        double: whether the shift is a second rounding, see `lowtide.exact.fixedpoint`.
    """
    # A compile builds many sessions of networks that differ in a few layers.
    parts = (array.astype(np.int64).tobytes() for array in (by.mantissa, by.shift, bounds))
    return _found(*parts, highest, double)


@lru_cache(maxsize=KEPT)
def _found(mantissa: bytes, shift: bytes, most_of: bytes, highest: int, double: bool) -> Line | None:
    mantissas, shifts, bounds = (np.frombuffer(part, np.int64) for part in (mantissa, shift, most_of))
    by = Multiplier(mantissas, shifts)
    begins = begins_of(by, highest, bounds, double=double)
    if begins is None:
        return None
    real = np.ldexp(by.mantissa.astype(np.float64), (by.shift - 31).astype(np.int32))
    reached = begins.counts.sum(axis=0)
    factor, offset = (np.zeros(real.shape, np.float32) for _ in range(2))
    centre, middle = (np.zeros(real.shape, np.int64) for _ in range(2))
    left = np.flatnonzero(reached)
    for away, slope, place in product(MIDDLES, SLOPES, PLACES):
        middle[left] = np.maximum(reached[left] // 2 + away, 0)
        centre[left] = np.rint(middle[left] / real[left])
        factor[left] = real[left].astype(np.float32)
        factor[left] += slope * np.spacing(factor[left])
        seen = begins.of(left).less(middle[left], centre[left])
        least, most = _between(seen, factor[left])
        # A multiple of the last bit of the factor, so that sums of products are integers of it.
        unit = np.spacing(factor[left]).astype(np.float64)
        offset[left] = np.rint((least + place * (most - least)) / unit) * unit
        possible = np.flatnonzero(least < most)
        holds = _holds(seen.of(possible), factor[left[possible]], offset[left[possible]])
        left = np.delete(left, possible[holds])
        if not left.size:
            return Line(factor, offset, centre, middle)
    return None


def begins_of(by: Multiplier, highest: int, bounds: Array, *, double: bool) -> Begins | None:
    """Where codes begin; ``None`` where int64 does not hold it. Arguments are those of `find_line`."""
    behind = 31 - by.shift
    if behind.max(initial=0) + highest.bit_length() > LARGEST_SHIFTED or behind.min(initial=1) < 1:
        return None
    codes = np.arange(1, highest + 1, dtype=np.int64).reshape((-1, 1))
    begin = ((2 * codes - 1) << (behind - 1)) - (np.where(by.shift < 0, 1 << 30, 0) if double else 0)
    first = np.minimum(-(-begin // np.maximum(by.mantissa, 1)), bounds + 1)
    return Begins(np.broadcast_to(codes, first.shape), first, (first <= bounds) & (by.mantissa > 0))


def _between(begins: Begins, factor: Array) -> tuple[Array, Array]:
    """Between what offsets codes begin where they should, were nothing rounded."""
    wide, half = factor.astype(np.float64), begins.codes - 0.5
    least = np.where(begins.counts, half - wide * begins.first, -np.inf).max(axis=0)
    most = np.where(begins.counts, half - wide * (begins.first - 1), np.inf).min(axis=0)
    return least, most


def _holds(begins: Begins, factor: Array, offset: Array) -> Array:
    """Whether every code begins where it should, with the product rounded before the sum or not."""
    unit = np.spacing(factor)
    mantissa, rest = ((array / unit.astype(np.float64)).astype(np.int64) for array in (factor, offset))
    holds: Array = np.full(factor.shape, True)
    for integers, reached in ((begins.first, True), (begins.first - 1, False)):
        twice = integers.astype(np.float32) * factor + offset
        once = (mantissa * integers + rest).astype(np.float32) * unit
        for made in (twice, once):
            holds &= np.all(((np.rint(made) >= begins.codes) == reached) | ~begins.counts, axis=0)
    return holds
