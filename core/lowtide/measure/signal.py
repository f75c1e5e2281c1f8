"""Signal-to-noise figures."""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs
import numpy as np

from lowtide.ir import Array


@attrs.define
class ErrorSum:
    """Sums over frames from which the figures follow; all in float64.

    Attributes:
        signal: sum of the squares of the reference.
        noise: sum of the squares of the differences.
        product: sum of reference times result.
        result: sum of the squares of the result.
        largest: the largest magnitude of a difference.
    """

    signal: float = 0.0
    noise: float = 0.0
    product: float = 0.0
    result: float = 0.0
    largest: float = 0.0

    def add(self, reference: Array, result: Array) -> None:
        """Add one pair of arrays of the same shape."""
        f, q = reference.astype(float).ravel(), result.astype(float).ravel()
        difference = f - q
        self.add_sums(float(f @ f), float(difference @ difference), float(abs(difference).max(initial=0.0)))
        self.product += float(f @ q)
        self.result += float(q @ q)

    def add_outputs(self, reference: Mapping[str, Array], result: Mapping[str, Array]) -> None:
        """Add all outputs of one frame, by name.

        Those of numbers count; where there are none, of integers the elements that differ are the noise, and
        all are the signal. An output that has another shape, since data decide about it, is lost: all that it
        was to be is noise.
        """
        floats = {name: array for name, array in reference.items() if array.dtype.kind == "f"}
        for name, wanted in (floats or reference).items():
            found = result[name]
            if name not in floats:
                wrong = np.count_nonzero(wanted != found) if wanted.shape == found.shape else wanted.size
                self.add_sums(float(wanted.size), float(wrong), float(wrong > 0))
            else:
                self.add(wanted, found if wanted.shape == found.shape else np.zeros_like(wanted))

    def add_sums(self, signal: float, noise: float, largest: float) -> None:
        """Add sums that were computed elsewhere; the cosine is not known then."""
        self.signal += signal
        self.noise += noise
        self.largest = max(self.largest, largest)

    @property
    def sqnr_db(self) -> float:
        """10 log10(signal / noise) in dB: infinity without noise, minus infinity without a signal."""
        if self.noise == 0:
            return math.inf
        ratio = self.signal / self.noise
        return -math.inf if ratio == 0 else 10 * math.log10(ratio)

    @property
    def cosine(self) -> float:
        """Cosine of the angle between reference and result; NaN when one of them is zero everywhere."""
        length = math.sqrt(self.signal * self.result)
        return self.product / length if length else math.nan
