"""The codes that a number format has, and the zoom search over ranges that they can cover."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np

from lowtide.calibrate import NumberFormat, Range
from lowtide_plugins.calibrators.density import Density, Floats

COARSE_PER_OCTAVE = 3
"""Steps tried in the first round; an error curve that has several minima is smooth enough for that."""

POSITIONS = 17
"""Places of a window of one width that are tried in the first round."""

ZOOM = 7
"""Steps, and positions, around the best ones that are tried in each later round."""

ROUNDS = 2
"""Later rounds; each divides the distance between what is tried by (ZOOM - 1) / 2."""


@attrs.frozen
class Codes:
    """Codes without a zero point.

    Attributes:
        low: the lowest one.
        high: the highest one.
    """

    low: int
    high: int

    def step(self, span: Range) -> float:
        """The smallest step at which no number of a range saturates."""
        return max(span.max / self.high, span.min / self.low if self.low else 0.0)

    def cut(self, span: Range, step: float) -> Range:
        """The part of a range that the codes cover."""
        return Range(max(span.min, self.low * step), min(span.max, self.high * step))

    def errors(self, density: Density, steps: Floats) -> Floats:
        """The mean squared error at each of `steps`, ``[K]``."""
        step = steps[:, None]
        return density.quantization_errors(steps, self.low * step, self.high * step)[:, 0]


@attrs.frozen
class Choice:
    """A range and the mean squared error that is expected of it."""

    span: Range
    error: float


def best_codes(density: Density, span: Range, bits: int, best: Callable[[Codes], Choice]) -> Choice:
    """The better of signed codes, for a range that goes below zero, and unsigned ones.

    Without their negative numbers, codes of tensors with both signs are twice as fine.

    Args:
        density: the elements.
        span: where they lie.
        bits: width of a code.
        best: what can be had of codes.
    """
    unsigned = Codes(0, 2**bits - 1)
    if span.min == 0:
        return best(unsigned)
    choice = best(Codes(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
    # What the negative numbers alone would cost is seldom worth a search.
    lost = density.clipping_errors(np.zeros(1), np.full(1, span.max))
    return choice if lost[0] >= choice.error else min(choice, best(unsigned), key=lambda found: found.error)


def best_symmetric(density: Density, span: Range, bits: int, narrowest: float) -> Choice:
    """The range inside of `span` with the least error, under codes without a zero point and any step."""
    return best_codes(density, span, bits, lambda codes: _best_step(density, span, codes, narrowest))


def _best_step(density: Density, span: Range, codes: Codes, narrowest: float) -> Choice:
    whole = codes.step(span)
    steps = whole * _coarse(narrowest)
    best, error = _least(steps, codes.errors(density, steps))
    for radius in _radii():
        steps = np.clip(best * 2 ** np.linspace(-radius, radius, ZOOM), whole * narrowest, whole)
        best, error = _least(steps, codes.errors(density, steps))
    return Choice(codes.cut(span, best), error)


def best_asymmetric(density: Density, span: Range, bits: int, narrowest: float) -> Choice:
    """The range inside of `span` with the least error, under codes with a zero point.

    Both ends move: every width is tried at several positions, at the zero point that each rounds to.
    """
    codes, whole = 2**bits - 1, span.max - span.min
    both = span.min < 0 < span.max
    widths = whole * _coarse(narrowest)
    places = np.linspace(0, 1, POSITIONS) if both else np.zeros(1)
    width, place, choice = _best_window(density, span, codes, widths, places)
    gap = 1 / (POSITIONS - 1)
    for radius in _radii():
        widths = np.clip(width * 2 ** np.linspace(-radius, radius, ZOOM), whole * narrowest, whole)
        places = np.clip(place + np.linspace(-gap, gap, ZOOM), 0, 1) if both else places
        width, place, choice = _best_window(density, span, codes, widths, places)
        gap /= (ZOOM - 1) / 2
    return choice


def _best_window(
    density: Density, span: Range, codes: int, widths: Floats, places: Floats
) -> tuple[float, float, Choice]:
    """The best of all widths ``[K]`` at all places ``[J]``, 0 the lowest to 1 the highest one possible."""
    lowest = np.maximum(span.min, -widths)[:, None]
    highest = np.minimum(0.0, span.max - widths)[:, None]
    low = lowest + np.maximum(highest - lowest, 0.0) * places
    step = (widths / codes)[:, None]
    zero = np.clip(np.rint(-low / step), 0, codes)
    errors = density.quantization_errors(widths / codes, -zero * step, (codes - zero) * step)
    at = int(np.argmin(errors))
    row, column = divmod(at, places.size)
    width = float(widths[row])
    start = max(float(low[row, column]), span.min)
    found = Range(start, min(start + width, span.max))
    return width, float(places[column]), Choice(found, float(errors[row, column]))


def best_range(density: Density, span: Range, fmt: NumberFormat, narrowest: float) -> Choice:
    """The range inside of `span` with the least error, at the step that its own width gives."""
    search = best_symmetric if fmt.symmetric else best_asymmetric
    return search(density, span, fmt.bits, narrowest)


def _coarse(narrowest: float) -> Floats:
    """1 down to `narrowest`, evenly spread among logarithms."""
    count = 1 + int(np.ceil(-np.log2(narrowest) * COARSE_PER_OCTAVE))
    return np.geomspace(1.0, narrowest, count) if count > 1 else np.ones(1)


def _radii() -> list[float]:
    return [(2 / (ZOOM - 1)) ** step / COARSE_PER_OCTAVE for step in range(ROUNDS)]


def _least(steps: Floats, errors: Floats) -> tuple[float, float]:
    at = int(np.argmin(errors))
    return float(steps[at]), float(errors[at])
