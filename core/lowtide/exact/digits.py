"""Wide products by digits: carries instead of float64.

Operands of 16 bits are split into two digits, so that their products are sums of three levels of digits.
Where the result is shifted to the right, nothing of the lower levels counts but what they carry: every level
is one or two convolutions in float32, and what it carries is added to the next.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np

from lowtide.exact.builder import MAGIC, PROVEN, Builder, Window
from lowtide.exact.product import Product, by_channel, multiply, reach_of
from lowtide.ir import Array

WIDTHS = (8, 7, 6, 5)
"""Bits of the lower digit that are tried, the most first."""

Terms = list[tuple[int, Array]]
"""Digits of the activation, by number, and of the weights, that are multiplied."""


@attrs.frozen(eq=False)
class _Split:
    """A product by digits of so many bits.

    Attributes:
        windows: lowest and highest digit of the activation, the lower digit first.
        levels: what is multiplied, by the power of the digit; the lowest first.
        biases: digits of the bias, int64 ``[C_out]``, one per level.
        reaches: the largest magnitude of every level, whatever the order of its sums.
    """

    bits: int
    windows: tuple[tuple[int, int], ...]
    levels: tuple[Terms, ...]
    biases: tuple[Array, ...]
    reaches: tuple[int, ...] = ()


@attrs.frozen(eq=False)
class _Level:
    """One power of the digit."""

    product: Product
    split: _Split
    power: int


def shift_in_digits(b: Builder, product: Product, factor: Array, window: Window) -> str | None:
    """Accumulate and shift to the right, ties up; ``None`` where digits do not fit.

    Args:
        b: where nodes go.
        product: what is multiplied; its operands have more bits than one convolution takes.
        factor: powers of two, float64 ``[C_out]``.
        window: what the result is limited to.
    """
    if not product.planes or product.node.value(0).type.rank != product.node.output.type.rank:
        return None
    shift = -np.log2(factor)
    if np.any(shift != np.rint(shift)):
        return None
    for bits in WIDTHS:
        split = _split(product, bits)
        if max(split.reaches) >= PROVEN // 2:
            # One bit more is for what decides ties.
            continue
        # What is left of the lower levels must be less than half of the last bit that rounding looks at.
        left = shift - bits * (len(split.levels) - 1)
        if left.min() > 0:
            return _carried(b, product, split, factor, window)
        if len(split.levels) > 1 and left.min() > -bits and _can_join(split, left, window):
            return _joined(b, product, split, factor, window)
    return None


def _split(product: Product, bits: int) -> _Split:
    weights = _digits(product.weights, bits)
    ends = [_digits(np.array(end), bits) for end in product.window]
    count = max(len(end) for end in ends)
    half = 1 << (bits - 1)
    windows: tuple[tuple[int, int], ...] = (product.window,)
    if count > 1:
        low, high = (int(end[1]) if len(end) > 1 else 0 for end in ends)
        # Ties of the upper digit go to even.
        windows = ((-half, half), (low - 1, high))
    levels: list[Terms] = [[] for _ in range(count + len(weights) - 1)]
    for at in range(count):
        for power, digit in enumerate(weights):
            levels[at + power].append((at, digit))
    biases: list[Array] = []
    rest = product.bias
    for _ in levels[1:]:
        upper = (rest + half) >> bits
        biases.append(rest - (upper << bits))
        rest = upper
    split = _Split(bits, windows, tuple(levels), (*biases, rest))
    return attrs.evolve(split, reaches=_reaches(product, split))


def _digits(numbers: Array, bits: int) -> list[Array]:
    """One digit where all numbers are small, else the lower, around zero, and the upper."""
    if np.abs(numbers).max(initial=0) <= 1 << 8:
        return [numbers]
    upper = (numbers + (1 << (bits - 1))) >> bits
    return [numbers - (upper << bits), upper]


def _reaches(product: Product, split: _Split) -> tuple[int, ...]:
    """The largest magnitude of every level, whatever the order of its sums."""
    carried = 0
    found: list[int] = []
    for terms, bias in zip(split.levels, split.biases, strict=True):
        reach = sum(reach_of(product.node, weights, split.windows[at]) for at, weights in terms)
        found.append(int((reach + np.abs(bias)).max(initial=0)) + 2 * carried)
        carried = (found[-1] >> split.bits) + 1
    return tuple(found)


def rounded_planes(
    b: Builder, total: Callable[[int, int], str], window: Window, planes: int, flip: bool
) -> str:
    """Real numbers on planes to the nearest integers of the window.

    Args:
        b: where nodes go.
        total: adds the nodes for offset + sign * number, given the sign and the offset.
        window: the limits.
        planes: how many channels there are.
        flip: whether highest - number is exact too. Convolutions cut off at zero for nothing, and so below
            zero at either end.
    """
    if not flip or window.low != 0:
        return b.codes_from(total(1, 0), window, planes)
    below = b.node("Relu", [total(-1, window.high)])
    raised = b.planes(below, planes, -1.0, MAGIC + window.high)
    return b.node("Relu", [b.planes(raised, planes, 1.0, -MAGIC)])


def _carried(b: Builder, product: Product, split: _Split, factor: Array, window: Window) -> str:
    """Every level but the last passes on its whole part."""
    last = len(split.levels) - 1
    scale = factor * 2.0 ** (split.bits * last)
    room = PROVEN // 2 - split.reaches[last]

    def total(sign: int, offset: int) -> str:
        return _levels(b, product, split, sign * scale, offset)

    return rounded_planes(b, total, window, product.planes, bool(np.all(window.high <= room * scale)))


def _raised(split: _Split) -> int:
    """What makes the level before the last positive: digits of the last, in units of the other."""
    return ((split.reaches[-2] >> split.bits) + 2) << split.bits


def _can_join(split: _Split, left: Array, window: Window) -> bool:
    """Whether float32 holds the last two levels at once, to half of their last bit, up to the limits."""
    return (
        2 * (split.reaches[-2] + _raised(split)) + (window.reach << int(left.max() + split.bits + 1)) < PROVEN
    )


def _joined(b: Builder, product: Product, split: _Split, factor: Array, window: Window) -> str:
    """The last two levels are added instead, where the result keeps bits of both.

    Their sum is rounded only where it is so large that it saturates.
    """
    last = len(split.levels) - 1
    unit, digit = factor * 2.0 ** (split.bits * (last - 1)), factor * 2.0 ** (split.bits * last)
    raised = _raised(split) * unit
    below = attrs.evolve(split, levels=split.levels[:-1])
    upper = _sums(b, _Level(product, split, last), np.ones(product.planes), split.biases[last])

    def total(sign: int, offset: int) -> str:
        # ONNX Runtime adds within the convolution that comes before, where partial sums would need the bits
        # of both levels: so one has no partial sums, and the other is made positive and cut at zero.
        lower = b.node("Relu", [_levels(b, product, below, sign * unit, raised)])
        return b.node("Add", [b.planes(upper, product.planes, sign * digit, offset - raised), lower])

    most = (window.high + raised + split.reaches[last] * digit) / np.minimum(digit, 1.0)
    return rounded_planes(b, total, window, product.planes, bool(np.all(most < PROVEN)))


def _levels(b: Builder, product: Product, split: _Split, scale: Array, offset: Array | int = 0) -> str:
    """The sum of the levels by whole parts: the last one scaled, and with what makes ties go up."""
    step = np.full(product.planes, 2.0**-split.bits)
    total: str | None = None
    taken: Array | float = 0.0
    for power in range(len(split.levels)):
        end = power + 1 == len(split.levels)
        by = scale if end else step
        if total is not None:
            # The carry is made positive, so that a cut at zero changes nothing, but keeps sums behind it.
            taken = np.abs(by) * (split.reaches[power - 1] >> split.bits) + np.abs(by)
            raised = b.planes(total, product.planes, 1.0, MAGIC)
            total = b.node("Relu", [b.planes(raised, product.planes, by, taken - MAGIC * by)])
        # Half of the last bit decides ties: upwards at the end, and down, with one half less, for a carry.
        within = split.biases[power] * by + by / 2 - taken + (offset if end else -0.5)
        total = _sums(b, _Level(product, split, power), by, within, total)
    assert total is not None  # noqa: S101 - there is at least one level
    return total


def _sums(b: Builder, level: _Level, scale: Array, offset: Array, total: str | None = None) -> str:
    """The sums of products of one level, scaled, and the offset; added to a total of the same level."""
    digits = _activation_digits(b, level.product, level.split)
    for number, (at, weights) in enumerate(level.split.levels[level.power]):
        part = attrs.evolve(level.product, source=digits[at])
        made = multiply(b, part, weights * by_channel(part, scale), None if number else offset)
        # One sum at a time fits into the convolution that comes before it.
        total = made if total is None else b.node("Add", [made, total])
    assert total is not None  # noqa: S101 - no level is empty
    return total


def _activation_digits(b: Builder, product: Product, split: _Split) -> tuple[str, ...]:
    """The digits of the activation, the lower first."""
    if len(split.windows) == 1:
        return (product.source,)
    return b.split(product.source, product.node.value(0).type.static_shape[1], 1 << split.bits)
