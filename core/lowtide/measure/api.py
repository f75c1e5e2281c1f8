"""What a metric is."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import attrs

from lowtide.data import Frame
from lowtide.ir import Array


@attrs.define(kw_only=True)
class Metric(abc.ABC):
    """Judges the outputs of a network, frame by frame.

    Subclasses are decorated with ``@attrs.define(kw_only=True)`` and keep counts, never outputs.
    """

    name: ClassVar[str]
    better: ClassVar[Literal["higher", "lower"]] = "higher"
    needs_labels: ClassVar[bool] = False
    """Frames without a label are refused before `update` sees them."""

    @abc.abstractmethod
    def update(self, outputs: Mapping[str, Array], frame: Frame, reference: Mapping[str, Array]) -> None:
        """Take in one frame.

        Args:
            outputs: outputs by name of the network under test, float32.
            frame: what it was fed, with its label.
            reference: outputs of the float network for the same frame.

        Raises:
            DataError: when the label is none that the metric can use.
        """

    @abc.abstractmethod
    def value(self) -> float:
        """The result over all frames so far."""

    def guessed(self) -> float:
        """What guessing hardly exceeds over the frames so far: a float network below it has other labels.

        NaN, for a metric that cannot tell, leaves the warning `LT766` out.
        """
        return math.nan
