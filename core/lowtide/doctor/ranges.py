"""How ranges grow with frames, and which frames stretch them alone."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from lowtide.data.source import evenly_spread
from lowtide.doctor.records import Convergence, Moving

Floats = NDArray[np.float64]

TOLERANCE = 0.1
"""A range that lacks less than this share of its width is settled: the step would be 0.9 dB finer at most."""

ALLOWED = 0.05
"""The share of tensors that may stay unsettled; always one."""

MOST_STEPS = 512
"""Above so many frames, not every number of them is tried."""

FEWEST = 8
"""Frames that it takes to say which of them is unusual."""

SCORE, STRETCH = 8.0, 2.0
"""A frame is an outlier where its largest magnitude lies so many robust standard deviations above the median
of the frames, and widens the range of the others by this factor: a bit of the codes of all other frames."""

MOST_OUTLIERS = 0.1
"""The share of frames that can be outliers; more of them are what the data is like."""


@attrs.frozen(eq=False)
class Extents:
    """The extremes of every tensor in every frame.

    Attributes:
        low: ``[frames, tensors]``, the lowest element, at most 0.
        high: ``[frames, tensors]``, the highest element, at least 0.
    """

    names: tuple[str, ...]
    tensors: tuple[str, ...]
    low: Floats
    high: Floats

    def without(self, names: Sequence[str]) -> Extents:
        """The other frames."""
        kept = [position for position, name in enumerate(self.names) if name not in names]
        return Extents(
            tuple(self.names[position] for position in kept), self.tensors, self.low[kept], self.high[kept]
        )

    def widths(self, frames: Sequence[int] | NDArray[np.int64]) -> Floats:
        """The width of the range of every tensor over some frames, 0 included."""
        chosen = np.asarray(frames)
        found: Floats = self.high[chosen].max(axis=0) - self.low[chosen].min(axis=0)
        return found


@attrs.frozen
class Outlier:
    """A frame that stretches ranges alone.

    Attributes:
        tensors: how many tensors it stretches.
        tensor: the one that it stretches most.
        stretch: by which factor.
        score: how far its magnitude lies above the median of the frames, in robust standard deviations.
    """

    frame: str
    tensors: int
    tensor: str
    stretch: float
    score: float


def converge(extents: Extents) -> Convergence | None:
    """How many frames the ranges need, see `Convergence`; ``None`` with fewer than two frames."""
    total, tensors = extents.low.shape
    if total < 2 or not tensors:
        return None
    full = extents.widths(range(total))
    spread = np.linspace(1, total, min(total, MOST_STEPS), dtype=np.float64)
    counts: NDArray[np.int64] = np.unique(np.rint(spread).astype(np.int64))
    missing = np.array([_missing(extents.widths(evenly_spread(total, int(count))), full) for count in counts])
    # Which frames are taken depends on their number: a tensor is settled where no larger number undoes it.
    missing = np.maximum.accumulate(missing[::-1])[::-1]
    unsettled = (missing > TOLERANCE).sum(axis=1)
    allowed = max(1, int(ALLOWED * tensors))
    late = np.flatnonzero(unsettled > allowed)
    first = int(late[-1]) + 1 if late.size else 0
    shown = sorted({*(round(total * share) for share in (0.1, 0.25, 0.5, 0.75)), int(counts[first])} - {0})
    steps = tuple(_step(extents, missing, counts, unsettled, count) for count in shown)
    worst = missing[first]
    order = [int(place) for place in np.argsort(-worst, kind="stable") if worst[place] > TOLERANCE]
    return Convergence(
        frames=total,
        tensors=tensors,
        tolerance=TOLERANCE,
        allowed=allowed,
        needed=int(counts[first]),
        steps=steps,
        moving=tuple(Moving(extents.tensors[place], float(worst[place])) for place in order),
    )


def _missing(widths: Floats, full: Floats) -> Floats:
    covered: Floats = np.divide(widths, full, out=np.ones_like(full), where=full > 0)
    return 1.0 - covered


def _step(
    extents: Extents, missing: Floats, counts: NDArray[np.int64], unsettled: NDArray[np.int64], count: int
) -> tuple[int, int, Moving | None]:
    at = int(np.searchsorted(counts, count))
    worst = int(np.argmax(missing[at]))
    moving = Moving(extents.tensors[worst], float(missing[at, worst])) if unsettled[at] else None
    return int(counts[at]), int(unsettled[at]), moving


def outliers(extents: Extents) -> tuple[Outlier, ...]:
    """Frames that stretch ranges alone, the worst first; none where there are too few frames to tell.

    The magnitude of a frame in a tensor is its largest absolute element. Median and median absolute deviation
    (times 1.4826, its ratio to the standard deviation of a normal distribution) are those of the frames.
    """
    total = len(extents.names)
    if total < FEWEST:
        return ()
    magnitude = np.maximum(extents.high, -extents.low)
    median = np.median(magnitude, axis=0)
    spread = 1.4826 * np.median(np.abs(magnitude - median), axis=0)
    # Where most frames agree to the last bit, as behind a clip, any other would be infinitely far away.
    scores = (magnitude - median) / np.maximum(spread, 0.02 * median + np.finfo(np.float32).tiny)
    suspects = np.flatnonzero((scores > SCORE).any(axis=1))
    ranked = suspects[np.argsort(-scores[suspects].max(axis=1), kind="stable")][: int(MOST_OUTLIERS * total)]
    rest = np.setdiff1d(np.arange(total), ranked)
    base = extents.widths(rest)
    found = [_judged(extents, scores, base, rest, int(frame)) for frame in ranked]
    return tuple(sorted((entry for entry in found if entry), key=lambda entry: -entry.stretch))


def _judged(
    extents: Extents, scores: Floats, base: Floats, rest: NDArray[np.int64], frame: int
) -> Outlier | None:
    widths = extents.widths(np.append(rest, frame))
    stretch = np.divide(widths, base, out=np.ones_like(base), where=base > 0)
    hit = (scores[frame] > SCORE) & (stretch > STRETCH)
    if not hit.any():
        return None
    worst = int(np.argmax(np.where(hit, stretch, 0.0)))
    return Outlier(
        extents.names[frame],
        int(hit.sum()),
        extents.tensors[worst],
        float(stretch[worst]),
        float(scores[frame, worst]),
    )
