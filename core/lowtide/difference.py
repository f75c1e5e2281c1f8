"""What differs between two results, by effect; third parties implement `Comparison` for their own files."""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs
import numpy as np

from lowtide.ir import Array

WIDTH_STEP_DB = 20 * math.log10(2)
"""What one more bit is worth."""


@attrs.frozen
class Difference:
    """One difference.

    Attributes:
        layer: the layer, or another place; empty for the whole.
        tensor: which tensor of the layer; may be empty.
        effect: how much it weighs, in dB of quantization noise; infinity where a layer has no counterpart,
            0 for what follows from other differences.
    """

    layer: str
    tensor: str
    field: str
    before: str
    after: str
    effect: float


@attrs.frozen
class Comparison(abc.ABC):
    """Compares two files of one kind."""

    @abc.abstractmethod
    def differences(self, first: Path, second: Path) -> tuple[Difference, ...]:
        """Everything that differs; either may be an output folder that holds such files.

        Raises:
            LowtideError: when one cannot be read.
        """


def by_effect(found: Iterable[Difference]) -> tuple[Difference, ...]:
    """The largest effect first; equal ones stay in their order."""
    return tuple(sorted(found, key=lambda entry: -entry.effect))


def scale_effect(before: Sequence[float], after: Sequence[float]) -> float:
    """The largest change of a scale in dB: one that is twice as coarse costs 6 dB.

    A single scale stands for all channels of the other side.
    """
    count = max(len(before), len(after))
    if {len(before), len(after)} - {1, count}:
        return math.inf
    pairs = zip(itertools.cycle(before), itertools.cycle(after), range(count), strict=False)
    return max((abs(20 * math.log10(new / old)) for old, new, _ in pairs), default=0.0)


def width_effect(before: tuple[float, float], after: tuple[float, float]) -> float:
    """The change of the width of a range in dB."""
    old, new = before[1] - before[0], after[1] - after[0]
    return abs(20 * math.log10(new / old)) if old > 0 and new > 0 else 0.0


def value_effect(before: Sequence[float] | Array, after: Sequence[float] | Array) -> float:
    """How far entries moved, relative to the largest one."""
    old, new = np.ravel(np.asarray(before, np.float64)), np.ravel(np.asarray(after, np.float64))
    if old.size != new.size:
        return math.inf
    largest = float(np.abs(old).max(initial=0.0))
    moved = float(np.abs(new - old).max(initial=0.0))
    return 20 * math.log10(1 + moved / largest) if largest else 0.0


def shown(entries: float | Sequence[float]) -> str:
    """A number, or several in short."""
    if isinstance(entries, int | float):
        return f"{entries:g}"
    numbers = list(entries)
    if len(numbers) > 1:
        return f"{len(numbers)} entries, {min(numbers):.3g} to {max(numbers):.3g}"
    return f"{numbers[0]:g}" if numbers else "-"
