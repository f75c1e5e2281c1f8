"""Task metrics of the float and of the quantized network over the same frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from lowtide.data import DataSource
from lowtide.ir import Graph
from lowtide.measure.api import Metric
from lowtide.runtime import Runner, Session, to_model


@attrs.frozen
class Evaluation:
    """Figures by metric name: float, then fixed."""

    frames: int
    figures: Mapping[str, tuple[float, float]]


def evaluate(
    reference: Graph,
    fixed: Runner,
    frames: DataSource,
    metrics: Sequence[type[Metric]],
    *,
    progress: Callable[[int, int | None], None] | None = None,
) -> Evaluation:
    """Run every frame through both networks and judge both by all metrics.

    Args:
        reference: the float network.
        fixed: what runs the quantized one; its results are in the order of the reference's outputs.
        frames: what to run.
        metrics: how to judge.
        progress: told how many of how many frames are done.

    Raises:
        DataError: when a metric needs labels that the frames do not have.
    """
    before, after = [metric() for metric in metrics], [metric() for metric in metrics]
    float_session = Session(to_model(reference, quantized=False))
    names = [value.name for value in reference.outputs]
    count = 0
    for frame in frames.frames():
        plain = dict(zip(names, float_session.run(frame.feeds).values(), strict=True))
        found = dict(zip(names, fixed.run(frame.feeds).values(), strict=True))
        for metric in before:
            metric.update(plain, frame, plain)
        for metric in after:
            metric.update(found, frame, plain)
        count += 1
        if progress is not None:
            progress(count, frames.count)
    pairs = zip(before, after, strict=True)
    return Evaluation(count, {old.name: (old.value(), new.value()) for old, new in pairs})
