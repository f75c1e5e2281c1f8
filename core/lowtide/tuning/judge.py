"""Configurations held against frames that nothing has learned from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import attrs

from lowtide.compiler.result import CompileResult
from lowtide.compiler.run import run_frames
from lowtide.data import DataSource
from lowtide.errors import DataError
from lowtide.ir import Graph
from lowtide.measure import ErrorSum, Metric, note_guessing, note_labels, update_metric
from lowtide.tuning.record import Figures

PARTS = 4
"""Disjoint parts of the frames, from which follows how sure a difference is."""


@attrs.define(kw_only=True)
class Judge:
    """Measures a metric and the output error in exact execution.

    Attributes:
        metric: the class of the metric.
        frames: those that were set aside.
    """

    metric: type[Metric]
    frames: DataSource
    progress: Callable[[int, int | None], None] | None = None

    def figures(self, result: CompileResult) -> tuple[Figures, float]:
        """The figures of a configuration, and the metric of the float network.

        Raises:
            DataError: when the metric needs labels that the frames do not have.
        """
        whole, plain = self.metric(), self.metric()
        parts = [self.metric() for _ in range(PARTS)]
        sums = ErrorSum()
        pairs = zip(
            run_frames(result.reference, self.frames, "float"),
            run_frames(result.graph, self.frames, "exact", result.device),
            strict=True,
        )
        for number, ((frame, real), (_, made)) in enumerate(pairs):
            named = dict(zip(real, made.values(), strict=True))
            note_labels([self.metric], frame, self.frames)
            update_metric(plain, real, frame, real)
            update_metric(whole, named, frame, real)
            update_metric(parts[number % PARTS], named, frame, real)
            sums.add_outputs(real, named)
            if self.progress is not None:
                self.progress(number + 1, self.frames.count)
        note_guessing(plain, self.frames)
        found = Figures(
            metric=whole.value(),
            parts=tuple(part.value() for part in parts),
            sqnr_db=sums.sqnr_db,
            latency_ms=result.report.latency_ms,
        )
        return found, plain.value()


def allowed(metric: type[Metric], reference: Graph, frames: DataSource) -> bool:
    """Whether a metric takes the frames of some data, tried on the first one in the float network."""
    frame, outputs = next(iter(run_frames(reference, frames.select(1), "float")))
    try:
        update_metric(metric(), outputs, frame, outputs)
    except DataError:
        return False
    return True


def better(after: Figures, before: Figures, direction: Literal["higher", "lower"]) -> tuple[bool, str]:
    """Whether one configuration is better than another, and why in words.

    The metric decides where its difference is larger than its own uncertainty, the standard error of the mean
    over parts of the frames; else the error at the outputs does, which differs by less chance.
    """
    sign = 1.0 if direction == "higher" else -1.0
    gains = [sign * (new - old) for new, old in zip(after.parts, before.parts, strict=True)]
    gains = [gain for gain in gains if math.isfinite(gain)]
    gain = sign * (after.metric - before.metric)
    if math.isfinite(gain) and abs(gain) > _standard_error(gains):
        return gain > 0, f"metric {'better' if gain > 0 else 'worse'} by {abs(gain):.4g}"
    closer = after.sqnr_db > before.sqnr_db
    difference = after.sqnr_db - before.sqnr_db
    if math.isnan(difference) or difference == 0:
        return False, "nothing changes"
    return closer, f"metric undecided, outputs {difference:+.2f} dB"


def _standard_error(gains: list[float]) -> float:
    if len(gains) < 2:
        return math.inf
    mean = math.fsum(gains) / len(gains)
    variance = math.fsum((gain - mean) ** 2 for gain in gains) / (len(gains) - 1)
    return math.sqrt(variance / len(gains))
