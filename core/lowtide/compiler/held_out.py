"""Frames that no pass learns from, and what quantized networks lose on them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import attrs

from lowtide.compiler.run import Device, session_of
from lowtide.data import DataSource
from lowtide.ir import Array, Graph
from lowtide.measure import ErrorSum, is_comparable, judged
from lowtide.runtime import Session, in_flight, to_model

KEPT = 64 << 20
"""Bytes of float outputs that are kept; larger ones are computed again for every measurement."""

MOST = 32
SHARE = 4
"""One frame in so many is held out, at most `MOST`."""

NOTHING = 1e-8
"""Less noise by signal counts as this: an output without any says nothing of the others."""

FEWEST = 10
"""With fewer frames all are learned from and measured with."""


@attrs.define(eq=False, slots=False)
class HeldOut:
    """Frames to measure with.

    Attributes:
        reference: the float network.
        frames: what it and quantized networks run.
        runs: of either on one frame so far.
    """

    reference: Graph
    frames: DataSource
    runs: int = 0
    _outputs: list[Sequence[Array]] | None = None

    @cached_property
    def _plain(self) -> Session:
        return Session(to_model(judged(self.reference), quantized=False))

    def error(self, quantized: Graph, device: Device) -> float:
        """Noise by signal in exact execution, the geometric mean over all that `judged` ends with.

        So every output counts by the decibels that it gains or loses; in the arithmetic mean the worst one
        would decide alone.

        Args:
            quantized: what was made of the float network, with outputs of the same order.
            device: how integers are rounded.
        """
        graph = judged(quantized)
        exact = session_of(graph, "exact", device)
        sums = [ErrorSum() if is_comparable(value) else None for value in graph.outputs]
        results = in_flight(exact, self.frames.frames(), lambda frame: frame.feeds)
        for (_, outputs), wanted in zip(results, self._wanted(), strict=True):
            self.runs += 1
            for total, real, made in zip(sums, wanted, outputs.values(), strict=True):
                if total is not None:
                    total.add(real, made)
        ratios = [total.noise / total.signal for total in sums if total is not None and total.signal > 0]
        if len(ratios) < 2:
            return math.fsum(ratios)
        return math.exp(math.fsum(math.log(max(ratio, NOTHING)) for ratio in ratios) / len(ratios))

    def _wanted(self) -> Iterator[Sequence[Array]]:
        """The float outputs, frame by frame."""
        if self._outputs is not None:
            yield from self._outputs
            return
        kept: list[Sequence[Array]] = []
        size = 0
        for _, outputs in in_flight(self._plain, self.frames.frames(), lambda frame: frame.feeds):
            self.runs += 1
            found = tuple(outputs.values())
            size += sum(array.nbytes for array in found)
            if size <= KEPT:
                kept.append(found)
            yield found
        if size <= KEPT:
            self._outputs = kept


def split(source: DataSource) -> tuple[DataSource, DataSource]:
    """The frames that passes learn from and those to measure with; calibrators see both."""
    every = source.select(1 << 62)
    count = every.count or 0
    return every.hold_out(min(MOST, count // SHARE)) if count >= FEWEST else (every, every)
