"""How the elements of a tensor spread, from evenly spread samples of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import attrs
import numpy as np
from numpy.typing import NDArray

from lowtide.calibrate import Range
from lowtide.ir import Array, Graph, Value, layers

BINS = 64
SAMPLES = 4096
"""Elements that one frame contributes at most, which bounds memory whatever the size of the tensor."""


@attrs.frozen
class Histogram:
    """Counts of elements between two numbers that are known beforehand.

    Attributes:
        low: lower edge of the first bin.
        high: upper edge of the last one, which belongs to it; all bins are equally wide.
        counts: elements in each of the `BINS` bins.
        outside: how many elements lie below and above; NaN is counted nowhere.
        extremes: the lowest and the highest element; infinite, the other way round, before there is one.
    """

    low: float
    high: float
    counts: NDArray[np.int64] = attrs.field(factory=lambda: np.zeros(BINS, np.int64), eq=False)
    outside: NDArray[np.int64] = attrs.field(factory=lambda: np.zeros(2, np.int64), eq=False)
    extremes: NDArray[np.float64] = attrs.field(factory=lambda: np.array([np.inf, -np.inf]), eq=False)

    def add(self, values: Array) -> None:
        """Count the elements of an array of any shape."""
        wide = values.astype(np.float64).ravel()
        wide = wide[~np.isnan(wide)]
        self.counts[:] += np.histogram(wide, BINS, (self.low, self.high))[0]
        self.outside[:] += np.count_nonzero(wide < self.low), np.count_nonzero(wide > self.high)
        self.extremes[0] = wide.min(initial=self.extremes[0])
        self.extremes[1] = wide.max(initial=self.extremes[1])


def spans(graph: Graph, ranges: Mapping[str, Range]) -> dict[str, tuple[float, float]]:
    """Between which numbers to count: what the codes and the calibrated range of a tensor span together.

    Args:
        graph: a quantized network; its inputs and layer outputs have a span where they have codes.
        ranges: calibrated ranges by tensor name.
    """
    found: dict[str, tuple[float, float]] = {}
    for value in (*graph.inputs, *(layer.output for layer in layers(graph))):
        if value.type.quant is None:
            continue
        low, high = value.type.quant.range
        known = ranges.get(value.name)
        found[value.name] = (min(low, known.min), max(high, known.max)) if known else (low, high)
    return found


def sample_step(value: Value) -> int | None:
    """Every how manyth element to take; ``None`` where there is none or only a run tells the size.

    The step has no common divisor with the size, so that no channel, row or column is left out for ever.
    """
    if not value.type.is_static:
        return None
    size = math.prod(value.type.static_shape)
    if size == 0:
        return None
    step = math.ceil(size / SAMPLES)
    while math.gcd(step, size) > 1:
        step += 1
    return step
