"""Signal-to-noise ratio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs

from lowtide.data import Frame
from lowtide.ir import Array
from lowtide.measure import ErrorSum, Metric


@attrs.define(kw_only=True)
class Sqnr(Metric):
    """10 log10(sum f^2 / sum (f - q)^2) in dB over all frames and outputs; infinite without error.

    Of a network with integer outputs only, 10 log10(elements / elements that differ); see
    `ErrorSum.add_outputs`.
    """

    name: ClassVar[str] = "sqnr"
    sums: ErrorSum = attrs.field(factory=ErrorSum)

    def update(self, outputs: Mapping[str, Array], frame: Frame, reference: Mapping[str, Array]) -> None:
        """See `Metric.update`."""
        del frame
        self.sums.add_outputs(reference, outputs)

    def value(self) -> float:
        """See `Metric.value`."""
        return self.sums.sqnr_db
