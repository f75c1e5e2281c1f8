"""The running average of the extremes of every frame."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import attrs
import numpy as np

from lowtide.calibrate import Calibrator, Extremes, NumberFormat, Range, Statistic, TensorInfo
from lowtide.calibrate.api import Wants
from lowtide.ir import Array

LEAST_FACTOR = 0.001
"""The weight of a new frame never falls below this."""

MEAN_FRAMES = 1000
"""Up to here 1/n >= `LEAST_FACTOR`, and the running average is the plain mean."""


class MovingAverageExtremes(Statistic):
    """The running averages of the lowest and of the highest element of the tensor.

    r_1 = x_1, r_n = r_(n-1) + (x_n - r_(n-1)) * max(1/n, 0.001): the plain mean of the first 1000 frames, in
    whatever order; after that a frame counts 0.999 times as much as the one behind it, so the order of those
    frames matters.

    To be mergeable, an object keeps its first 1000 pairs and, for the frames after them, the affine map
    r -> 0.999^k r + b that they amount to wherever they stand. Means are exactly rounded sums in float64
    divided once; beyond 1000 frames, how frames are split changes the last bits of a float64.

    Source: the vendor's published calibration code, update factor max(1/n, 0.001).
    """

    name: ClassVar[str] = "moving-average"
    wants: ClassVar[Wants] = "extremes"

    def __init__(self, info: TensorInfo) -> None:
        super().__init__(info)
        self._first: list[tuple[float, float]] = []
        self._later = 0
        self._offset = (0.0, 0.0)

    @property
    def frames(self) -> int:
        """How many frames were seen."""
        return len(self._first) + self._later

    @property
    def low(self) -> float:
        """The running average of the lowest element; NaN before the first frame."""
        return self._average(0)

    @property
    def high(self) -> float:
        """The running average of the highest element; NaN before the first frame."""
        return self._average(1)

    def _average(self, end: int) -> float:
        if not self._first:
            return math.nan
        mean = math.fsum(pair[end] for pair in self._first) / len(self._first)
        return (1 - LEAST_FACTOR) ** self._later * mean + self._offset[end]

    def update(self, observed: Extremes) -> None:
        """See `Statistic.update`."""
        low = 0.0 if self.info.nonnegative else float(observed.min.min())
        self._take([(low, float(observed.max.max()))])

    def merge(self, other: Self) -> None:
        """See `Statistic.merge`."""
        if other is self:
            raise ValueError("a statistic cannot be merged with itself")
        self._take(other._first)
        self._append(other._later, other._offset)

    def _take(self, pairs: Sequence[tuple[float, float]]) -> None:
        free = MEAN_FRAMES - len(self._first)
        self._first += pairs[:free]
        for low, high in pairs[free:]:
            self._append(1, (LEAST_FACTOR * low, LEAST_FACTOR * high))

    def _append(self, frames: int, offset: tuple[float, float]) -> None:
        if frames:
            keep = (1 - LEAST_FACTOR) ** frames
            self._later += frames
            self._offset = (keep * self._offset[0] + offset[0], keep * self._offset[1] + offset[1])

    def save(self) -> dict[str, Array]:
        """See `Statistic.save`."""
        return {
            "first": np.array(self._first, np.float32).reshape(-1, 2),
            "later": np.array(self._later),
            "offset": np.array(self._offset, np.float64),
        }

    @classmethod
    def load(cls, info: TensorInfo, arrays: Mapping[str, Array]) -> Self:
        """See `Statistic.load`."""
        made = cls(info)
        made._first = [(float(low), float(high)) for low, high in arrays["first"]]
        made._later = int(arrays["later"])
        low, high = arrays["offset"]
        made._offset = (float(low), float(high))
        return made


@attrs.frozen(kw_only=True)
class MovingAverageCalibrator(Calibrator):
    """From the running average of the lowest to that of the highest element of every frame.

    Up to 1000 frames these are the plain means. A rare outlier in one frame moves the range by a small part
    of itself only.

    Source: the vendor's accuracy level 0.
    """

    name: ClassVar[str] = "moving-average"
    statistics: ClassVar[tuple[str, ...]] = ("moving-average",)

    def range(self, statistics: Mapping[str, Statistic], fmt: NumberFormat) -> Range:
        """See `Calibrator.range`."""
        del fmt
        seen = statistics["moving-average"]
        assert isinstance(seen, MovingAverageExtremes)  # noqa: S101 - as its name says
        return Range(seen.low, seen.high)
