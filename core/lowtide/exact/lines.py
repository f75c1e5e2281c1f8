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

BLOCK = 16
"""Channels that are looked at together, so that what is known of them stays close to the processor."""

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
    """Where codes begin, by channel and code, all but `reached` ``[channels, codes]``.

    Attributes:
        codes: int64, ascending.
        first: int64, the smallest integer that gives the code or a higher one.
        reached: how many codes can come up, int64 ``[channels]``; behind these the last one is repeated.
    """

    codes: Array
    first: Array
    reached: Array

    def less(self, channels: Array, middle: Array, centre: Array) -> Begins:
        """Those of some channels, counted from elsewhere."""
        codes, first = self.codes[channels], self.first[channels]
        codes -= middle[:, np.newaxis]
        first -= centre[:, np.newaxis]
        return Begins(codes, first, self.reached[channels])


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
    lines: list[Line] = []
    for start in range(0, mantissas.size, BLOCK):
        block = slice(start, start + BLOCK)
        line = _line(Multiplier(mantissas[block], shifts[block]), highest, bounds[block], double=double)
        if line is None:
            return None
        lines.append(line)
    fields = (attrs.astuple(line, recurse=False) for line in lines)
    return Line(*(np.concatenate(parts) for parts in zip(*fields, strict=True)))


def _line(by: Multiplier, highest: int, bounds: Array, *, double: bool) -> Line | None:
    """The same for a few channels."""
    begins = begins_of(by, highest, bounds, double=double)
    if begins is None:
        return None
    real = np.ldexp(by.mantissa.astype(np.float64), (by.shift - 31).astype(np.int32))
    reached = begins.reached
    factor, offset = (np.zeros(real.shape, np.float32) for _ in range(2))
    centre, middle = (np.zeros(real.shape, np.int64) for _ in range(2))
    left = np.flatnonzero(reached)
    for away, slope, place in product(MIDDLES, SLOPES, PLACES):
        middle[left] = np.maximum(reached[left] // 2 + away, 0)
        centre[left] = np.rint(middle[left] / real[left])
        factor[left] = real[left].astype(np.float32)
        factor[left] += slope * np.spacing(factor[left])
        seen = begins.less(left, middle[left], centre[left])
        least, most = _between(seen, factor[left])
        # A multiple of the last bit of the factor, so that sums of products are integers of it.
        unit = np.spacing(factor[left]).astype(np.float64)
        offset[left] = np.rint((least + place * (most - least)) / unit) * unit
        holds = (least < most) & _holds(seen, factor[left], offset[left])
        left = left[~holds]
        if not left.size:
            return Line(factor, offset, centre, middle)
    return None


def begins_of(by: Multiplier, highest: int, bounds: Array, *, double: bool) -> Begins | None:
    """Where codes begin; ``None`` where int64 does not hold it. Arguments are those of `find_line`.

    `bounds` may also be one for all.
    """
    behind = (31 - by.shift).reshape((-1, 1))
    if behind.max(initial=0) + highest.bit_length() > LARGEST_SHIFTED or behind.min(initial=1) < 1:
        return None
    codes = np.arange(1, highest + 1, dtype=np.int64)
    begin = (2 * codes - 1) << (behind - 1)
    if double:
        begin -= np.where(behind > 31, 1 << 30, 0)
    first = -(-begin // np.maximum(by.mantissa, 1).reshape((-1, 1)))
    reached = np.where(by.mantissa > 0, (first <= bounds.reshape((-1, 1))).sum(axis=1), 0)
    last = np.maximum(reached, 1).reshape((-1, 1))
    return Begins(np.minimum(codes, last), np.minimum(first, np.take_along_axis(first, last - 1, 1)), reached)


def _between(begins: Begins, factor: Array) -> tuple[Array, Array]:
    """Between what offsets codes begin where they should, were nothing rounded."""
    wide, half = factor.astype(np.float64)[:, np.newaxis], begins.codes - 0.5
    first = begins.first.astype(np.float64)
    least: Array = (half - wide * first).max(axis=1)
    most: Array = (half - wide * (first - 1)).min(axis=1)
    return least, most


def _holds(begins: Begins, factor: Array, offset: Array) -> Array:
    """Whether every code begins where it should, with the product rounded before the sum or not."""
    factor, offset = factor[:, np.newaxis], offset[:, np.newaxis]
    unit = np.spacing(factor)
    mantissa, rest = ((array / unit.astype(np.float64)).astype(np.int64) for array in (factor, offset))

    def both(integers: Array) -> tuple[Array, Array]:
        """What is rounded, the offset added to the rounded product and to the whole one."""
        twice = integers.astype(np.float32) * factor + offset
        return twice, (mantissa * integers + rest).astype(np.float32) * unit

    codes = begins.codes.astype(np.float32)
    begun = np.rint(np.minimum(*both(begins.first))) >= codes
    begun &= np.rint(np.maximum(*both(begins.first - 1))) < codes
    return np.asarray(begun.all(axis=1))
