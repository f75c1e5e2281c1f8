"""The range of the least squared error at the scale that a rule makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import attrs
import numpy as np

from lowtide.calibrate import Calibrator, NumberFormat, Range, Statistic
from lowtide.ir import DType
from lowtide.quantize.numbers import accumulator_scale, power_of_two_scale, signed_dtype, unsigned_dtype
from lowtide_plugins.calibrators.codes import Choice, Codes, best_codes, best_range
from lowtide_plugins.calibrators.density import Density
from lowtide_plugins.calibrators.mse import check_narrowest, observed

PER_OCTAVE = 6
"""Steps of an octave over which an unknown factor between 1 and 2 is averaged."""


@attrs.frozen(kw_only=True)
class ShiftAwareCalibrator(Calibrator):
    """As `mse`, but a range is judged at the step that the target's scale rule makes of it.

    Power-of-two scales: the steps are s_k = S / 2^k, S what the rule makes of the whole range; the range
    returned ends where the codes at the best s_k do.

    Shift-only scales: the steps are accumulator * 2^n, chosen likewise, where the scale of the accumulator is
    known. Where it is not, a range whose own step is s becomes one of s * 2^u. u depends on the scales of
    input and weights alone and is taken to be anything from 0 to 1, equally likely, so s minimises

        integral over u from 0 to 1 of E(s * 2^u) du,

    with E as in `mse`, by the trapezoidal rule over 6 steps an octave.

    Codes are signed or unsigned, whichever costs less. With a zero point, or a free scale, the result is that
    of `mse`.

    Attributes:
        narrowest: the smallest step that is tried, as a share of that of the whole range.

    Raises:
        OptionError: on construction, when `narrowest` is not above 0 and at most 1.

    Source: the rules are those that the solver quantizes with; the expectation follows from log2 of an
    unrelated scale being evenly spread modulo 1.
    """

    name: ClassVar[str] = "shift-aware"
    statistics: ClassVar[tuple[str, ...]] = ("histogram", "minmax")

    narrowest: float = attrs.field(default=1 / 64, validator=check_narrowest)

    def range(self, statistics: Mapping[str, Statistic], fmt: NumberFormat) -> Range:
        """See `Calibrator.range`."""
        span, density = observed(statistics)
        if density is None:
            return span
        if not fmt.symmetric or not (fmt.power_of_two or fmt.shift_only):
            return best_range(density, span, fmt, self.narrowest).span
        return best_codes(
            density, span, fmt.bits, lambda codes: _best(density, span, codes, fmt, self.narrowest)
        ).span


def _best(density: Density, span: Range, codes: Codes, fmt: NumberFormat, narrowest: float) -> Choice:
    if not fmt.power_of_two and fmt.accumulator is None:
        return _best_expected(density, span, codes, narrowest)
    # Negative codes or none: what the range is without its negative part, the rule sees so too.
    within = span if codes.low else Range(0.0, span.max)
    top = _step(within, _dtype(codes, fmt.bits), fmt)
    steps = np.ldexp(top, -np.arange(1 + math.floor(-math.log2(narrowest))))
    if fmt.accumulator is not None and not fmt.power_of_two:
        steps = steps[steps >= min(fmt.accumulator, top)]  # shifts go to the right only
    errors = codes.errors(density, steps)
    at = int(np.argmin(errors))
    return Choice(codes.cut(span, float(steps[at])), float(errors[at]))


def _step(span: Range, dtype: DType, fmt: NumberFormat) -> float:
    """What the rule makes of a range."""
    if fmt.power_of_two or fmt.accumulator is None:
        return power_of_two_scale(max(-span.min, span.max), dtype)
    step, _ = accumulator_scale(span.min, span.max, dtype, fmt.accumulator)
    return step


def _dtype(codes: Codes, bits: int) -> DType:
    return signed_dtype(bits) if codes.low else unsigned_dtype(bits)


def _best_expected(density: Density, span: Range, codes: Codes, narrowest: float) -> Choice:
    """The range with the least error expected when its step grows by a factor between 1 and 2."""
    lower = math.floor(-math.log2(narrowest) * PER_OCTAVE)
    steps = codes.step(span) * 2.0 ** (1 - np.arange(PER_OCTAVE + lower + 1) / PER_OCTAVE)
    errors = codes.errors(density, steps)
    weights = np.full(PER_OCTAVE + 1, 1 / PER_OCTAVE)
    weights[[0, -1]] /= 2
    expected = np.convolve(errors, weights, "valid")
    at = int(np.argmin(expected))
    return Choice(codes.cut(span, float(steps[PER_OCTAVE + at])), float(expected[at]))
