"""Classification accuracy. The scores are the first output, flattened; ties go to the lower index."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import attrs
import numpy as np

from lowtide.data import Frame
from lowtide.errors import DataError
from lowtide.ir import Array
from lowtide.measure import Metric


@attrs.define(kw_only=True)
class _Share(Metric):
    hits: int = 0
    frames: int = 0

    def value(self) -> float:
        """See `Metric.value`; NaN without frames."""
        return self.hits / self.frames if self.frames else float("nan")


@attrs.define(kw_only=True)
class Top1(_Share):
    """Share of frames whose label has the highest score, 0 to 1."""

    name: ClassVar[str] = "top1"
    needs_labels: ClassVar[bool] = True
    places: ClassVar[int] = 1
    classes: int = 0

    def update(self, outputs: Mapping[str, Array], frame: Frame, reference: Mapping[str, Array]) -> None:
        """See `Metric.update`."""
        del reference
        scores = _scores(outputs)
        label = _label(frame, self.name, scores.size)
        best = np.argsort(-scores, kind="stable")[: self.places]
        self.hits += int(label in best)
        self.frames += 1
        self.classes = scores.size

    def guessed(self) -> float:
        """Two standard deviations above the share of equally likely classes; NaN without frames."""
        if not self.frames:
            return math.nan
        chance = min(1.0, self.places / self.classes)
        return min(1.0, chance + 2 * math.sqrt(chance * (1 - chance) / self.frames))


@attrs.define(kw_only=True)
class Top5(Top1):
    """Share of frames whose label is among the five highest scores, 0 to 1."""

    name: ClassVar[str] = "top5"
    places: ClassVar[int] = 5


@attrs.define(kw_only=True)
class Agreement(_Share):
    """Share of frames where both networks give the same index the highest score, 0 to 1."""

    name: ClassVar[str] = "agreement"

    def update(self, outputs: Mapping[str, Array], frame: Frame, reference: Mapping[str, Array]) -> None:
        """See `Metric.update`."""
        del frame
        self.hits += int(np.argmax(_scores(outputs)) == np.argmax(_scores(reference)))
        self.frames += 1


def _scores(outputs: Mapping[str, Array]) -> Array:
    name, scores = next(iter(outputs.items()))
    if not scores.size:
        raise DataError("a frame has no score: the first output is empty", place=name, hint="--metric sqnr")
    return scores.ravel().astype(np.float64)


def _label(frame: Frame, metric: str, classes: int) -> int:
    found = np.asarray(frame.label)
    if found.size != 1:
        raise DataError(f"the metric {metric} takes one label a frame, found {found.size}", place=frame.name)
    number = float(found.reshape(-1)[0])
    if not number.is_integer():
        raise DataError(
            f"the metric {metric} takes whole numbers as labels, found {number:g}", place=frame.name
        )
    label = int(number)
    if not 0 <= label < classes:
        raise DataError(f"the label {label} is none of the {classes} classes", place=frame.name)
    return label
