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

BLOCK = 32
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

    def of(self, channels: Array) -> Begins:
        """Those of some channels."""
        return Begins(self.codes[channels], self.first[channels], self.reached[channels])

    def less(self, middle: Array, centre: Array) -> Begins:
        """Counted from elsewhere."""
        codes, first = self.codes - middle[:, np.newaxis], self.first - centre[:, np.newaxis]
        return Begins(codes, first, self.reached)


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
    real = np.ldexp(mantissas.astype(np.float64), (shifts - 31).astype(np.int32))
    line = Line(
        *(np.zeros(real.shape, np.float32) for _ in range(2)),
        *(np.zeros(real.shape, np.int64) for _ in range(2)),
    )
    first, *others = product(MIDDLES, SLOPES, PLACES)
    rest: list[Array] = []
    for start in range(0, real.size, BLOCK):
        block = np.arange(start, min(start + BLOCK, real.size))
        begins = begins_of(Multiplier(mantissas[block], shifts[block]), highest, bounds[block], double=double)
        if begins is None:
            return None
        block, begins = block[begins.reached > 0], begins.of(begins.reached > 0)
        rest.append(block[~_tried(line, block, real, begins, *first)])
    left = np.concatenate(rest) if rest else np.arange(0)
    begins = begins_of(Multiplier(mantissas[left], shifts[left]), highest, bounds[left], double=double)
    for choice in others:
        if not left.size or begins is None:
            break
        fails = ~_tried(line, left, real, begins, *choice)
        left, begins = left[fails], begins.of(fails)
    return None if left.size else line


def _tried(line: Line, at: Array, real: Array, begins: Begins, away: int, slope: int, place: float) -> Array:  # noqa: PLR0917
    """Set the line of some channels, and whether it holds there."""
    middle = np.maximum(begins.reached // 2 + away, 0)
    centre = np.rint(middle / real[at]).astype(np.int64)
    factor = real[at].astype(np.float32)
    factor += slope * np.spacing(factor)
    seen = begins.less(middle, centre)
    least, most = _between(seen, factor)
    # A multiple of the last bit of the factor, so that sums of products are integers of it.
    unit = np.spacing(factor).astype(np.float64)
    offset = (np.rint((least + place * (most - least)) / unit) * unit).astype(np.float32)
    line.factor[at], line.offset[at], line.centre[at], line.middle[at] = factor, offset, centre, middle
    holds: Array = (least < most) & _holds(seen, factor, offset)
    return holds


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
