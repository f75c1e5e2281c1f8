"""What statistics and calibrators are; third parties implement these classes."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from lowtide.ir import Array

Wants = Literal["extremes", "array"]


@attrs.frozen
class TensorInfo:
    """An activation under observation.

    Attributes:
        name: the tensor.
        shape: its dimensions, ``None`` for one that only a run tells; ``()`` if the rank is unknown.
        channel_axis: 1 for tensors ``[N, C, ...]`` with a known C, ``None`` for those without channels.
        nonnegative: no element is ever below 0, whatever the network is fed.
    """

    name: str
    shape: tuple[int | None, ...]
    channel_axis: int | None = None
    nonnegative: bool = False

    @property
    def channels(self) -> int:
        """How many entries the extremes of a frame have: C, or 1 without channels."""
        size = None if self.channel_axis is None else self.shape[self.channel_axis]
        return 1 if size is None else size


@attrs.frozen(eq=False)
class Extremes:
    """The extremes of one frame.

    Attributes:
        min: float32 ``[C]``, the lowest element of every channel; 0 for a tensor that is provably
            nonnegative, whose lowest element is not looked for. ``[1]`` for a tensor without channels.
        max: float32 ``[C]`` or ``[1]``, the highest element.
    """

    min: NDArray[np.float32]
    max: NDArray[np.float32]


class Statistic(abc.ABC):
    """Accumulates what is seen of one tensor. A new object has seen nothing.

    The state must not depend on how frames are split among objects that are merged later, nor, unless the
    definition of the statistic says so, on their order: integer counts, minima, maxima and exact sums are
    fine. Objects are merged in the order of their frames.

    Args:
        info: the tensor.
    """

    name: ClassVar[str]
    wants: ClassVar[Wants]
    """``extremes``: `update` gets the `Extremes` of every frame. ``array``: `update` gets the whole float32
    tensor, for a fixed, evenly spread subset of the frames."""

    def __init__(self, info: TensorInfo) -> None:
        self.info = info

    @abc.abstractmethod
    def update(self, observed: Any) -> None:
        """Take in one frame: `Extremes`, or the tensor as a float32 array; finite, and not to be changed."""

    @abc.abstractmethod
    def merge(self, other: Any) -> None:
        """Take in what another object of this class has seen on later frames; `other` stays as it is."""

    @abc.abstractmethod
    def save(self) -> dict[str, Array]:
        """The state as arrays, for `load`."""

    @classmethod
    @abc.abstractmethod
    def load(cls, info: TensorInfo, arrays: Mapping[str, Array]) -> Self:
        """The object that `save` has written, equal to the last bit."""


@attrs.frozen
class Range:
    """The real numbers that codes should cover; what lies outside saturates."""

    min: float
    max: float


@attrs.frozen
class NumberFormat:
    """How a tensor will be stored, for calibrators that care.

    Attributes:
        bits: width of a code.
        symmetric: there is no zero point.
        power_of_two: the scale is rounded up to a power of two, so the range will be widened.
        shift_only: the scale is rounded up to `accumulator` times a power of two, so the range will be
            widened too, by less than 2.
        accumulator: input scale times weight scale of the layer that makes the tensor; ``None`` where these
            are chosen later, which leaves the widening open.
    """

    bits: int
    symmetric: bool
    power_of_two: bool
    shift_only: bool = False
    accumulator: float | None = None


@attrs.frozen(kw_only=True)
class Calibrator(abc.ABC):
    """Turns statistics into a range.

    Subclasses are decorated with ``@attrs.frozen(kw_only=True)``; their fields are their options.
    """

    name: ClassVar[str]
    statistics: ClassVar[tuple[str, ...]]
    """Names of the statistics that `range` reads."""

    @abc.abstractmethod
    def range(self, statistics: Mapping[str, Statistic], fmt: NumberFormat) -> Range:
        """Choose the range of one tensor; finite, and ``min <= max``.

        Args:
            statistics: those asked for, by name, of all frames.
            fmt: what the numbers will be stored in.
        """
