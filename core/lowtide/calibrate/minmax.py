"""The statistic that is always collected: the extremes over all frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from lowtide.calibrate.api import Extremes, Statistic, TensorInfo, Wants
from lowtide.ir import Array


class MinMax(Statistic):
    """The lowest and highest element of every channel over all frames.

    Attributes:
        min: float32 ``[C]`` or ``[1]``; +inf before the first frame.
        max: float32 ``[C]`` or ``[1]``; -inf before the first frame.
    """

    name: ClassVar[str] = "minmax"
    wants: ClassVar[Wants] = "extremes"

    def __init__(self, info: TensorInfo) -> None:
        super().__init__(info)
        self.min: NDArray[np.float32] = np.full(info.channels, np.inf, np.float32)
        self.max: NDArray[np.float32] = np.full(info.channels, -np.inf, np.float32)

    @property
    def low(self) -> float:
        """The lowest element of the tensor."""
        return float(self.min.min())

    @property
    def high(self) -> float:
        """The highest element of the tensor."""
        return float(self.max.max())

    def update(self, observed: Extremes) -> None:
        """See `Statistic.update`."""
        np.minimum(self.min, observed.min, out=self.min)
        np.maximum(self.max, observed.max, out=self.max)

    def merge(self, other: Self) -> None:
        """See `Statistic.merge`."""
        np.minimum(self.min, other.min, out=self.min)
        np.maximum(self.max, other.max, out=self.max)

    def save(self) -> dict[str, Array]:
        """See `Statistic.save`."""
        return {"min": self.min, "max": self.max}

    @classmethod
    def load(cls, info: TensorInfo, arrays: Mapping[str, Array]) -> Self:
        """See `Statistic.load`."""
        made = cls(info)
        made.min[:] = arrays["min"]
        made.max[:] = arrays["max"]
        return made
