"""Which scales to take when the cost of each is known, and shifts tie them."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping

import attrs

SWEEPS = 20
"""Rounds over all tensors at most; each lowers the predicted error or ends the search."""

FINER, COARSER = 2, 1
"""Octaves around the first scale that are searched."""

WALL = 40.0
"""Log2 of how much more an error costs that must not be."""

NOTHING = 1e-30
"""An error that is none."""


@attrs.frozen
class Curve:
    """The error of the outputs by log2 of a scale.

    Attributes:
        points: log2 of the scale and log2 of the error, ascending.
    """

    points: tuple[tuple[float, float], ...]

    @classmethod
    def through(cls, measured: Mapping[float, float]) -> Curve:
        """A curve through errors by scale."""
        found = sorted(measured.items())
        return cls(tuple((math.log2(scale), math.log2(max(error, NOTHING))) for scale, error in found))

    def without_finer(self) -> Curve:
        """The same, but no finer scale is worth its clipping."""
        scale, error = self.points[0]
        return Curve(((scale - 1, error + WALL), *self.points))

    def at(self, log_scale: float) -> float:
        """The error at a scale, given as log2.

        Between points it is interpolated. Coarser scales only round more, with the square of the scale; finer
        ones clip more, at the rate between the two finest points, but at least that of the square.
        """
        first, last = self.points[0], self.points[-1]
        if log_scale >= last[0]:
            return _power(last[1] + 2 * (log_scale - last[0]))
        if log_scale <= first[0]:
            rate = -_slope(first, self.points[1]) if len(self.points) > 1 else 0.0
            return _power(first[1] + max(rate, 2.0) * (first[0] - log_scale))
        at = bisect.bisect_right(self.points, (log_scale, math.inf))
        left, right = self.points[at - 1], self.points[at]
        return _power(left[1] + _slope(left, right) * (log_scale - left[0]))


def _power(exponent: float) -> float:
    """2^exponent, finite."""
    return math.exp2(min(exponent, 1000.0))


def _slope(left: tuple[float, float], right: tuple[float, float]) -> float:
    return (right[1] - left[1]) / (right[0] - left[0])


@attrs.frozen(eq=False)
class Mac:
    """A layer whose weight scale is chosen.

    Attributes:
        layer: its name.
        source: the name of the group that it reads.
        made: that of the group that it makes.
        curve: what weight scales cost.
        least_accumulator: log2 of the smallest accumulator scale at which the bias fits; minus infinity
            without a bias.
    """

    layer: str
    source: str
    made: str
    curve: Curve
    least_accumulator: float = -math.inf


@attrs.define
class Plan:
    """Scales under way, as whole numbers of steps of log2.

    Attributes:
        per_octave: steps from a power of two to the next.
        chosen: by name of the group.
        curves: what activation scales cost, by name of the group.
        macs: the layers.
        tied: whether output scales are those of accumulators times powers of two.
    """

    per_octave: int
    chosen: dict[str, int]
    curves: Mapping[str, Curve]
    macs: tuple[Mac, ...]
    tied: bool

    def weight_step(self, mac: Mac) -> tuple[int, float]:
        """The best weight scale between the scales chosen around a layer, and its cost.

        The cost is infinite where the bias needs a coarser accumulator than the output has.
        """
        octave, source = self.per_octave, self.chosen[mac.source]
        # Requantization shifts to the right only, so the accumulator is no coarser than the output.
        most = self.chosen[mac.made] - source
        first, last = (mac.curve.points[at][0] for at in (0, -1))
        lowest = octave * max(first - 1, mac.least_accumulator - source / octave)
        highest = min(most, max(octave * (last + 1), lowest + octave))
        stride = octave if self.tied else 1
        top = most - stride * math.ceil((most - highest) / stride - 1e-9)
        choices = range(top, math.ceil(lowest - 1e-9) - 1, -stride)
        if not choices:
            return most, math.inf
        found = min(choices, key=lambda step: mac.curve.at(step / octave))
        return found, mac.curve.at(found / octave)

    def shift(self, mac: Mac) -> int:
        """By how many bits a layer shifts to the right, where scales are tied."""
        return (self.chosen[mac.made] - self.chosen[mac.source] - self.weight_step(mac)[0]) // self.per_octave

    def total(self) -> float:
        """The predicted error of the outputs."""
        return math.fsum([*map(self._own, self.chosen), *(self.weight_step(mac)[1] for mac in self.macs)])

    def descend(self) -> None:
        """Change one scale after the other as long as the predicted error falls."""
        start = dict(self.chosen)
        around = {name: [mac for mac in self.macs if name in {mac.source, mac.made}] for name in start}
        for _ in range(SWEEPS):
            moved = False
            for name, first in start.items():
                best, cost = self.chosen[name], self._cost(name, around[name])
                for step in range(first - FINER * self.per_octave, first + COARSER * self.per_octave + 1):
                    self.chosen[name] = step
                    found = self._cost(name, around[name])
                    if found < cost * (1 - 1e-9):
                        best, cost, moved = step, found, True
                self.chosen[name] = best
            if not moved:
                return

    def _own(self, name: str) -> float:
        return self.curves[name].at(self.chosen[name] / self.per_octave)

    def _cost(self, name: str, around: list[Mac]) -> float:
        """The part of the predicted error that the scale of a group decides on."""
        return math.fsum([self._own(name), *(self.weight_step(mac)[1] for mac in around)])
