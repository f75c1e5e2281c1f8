"""Task metrics of the float and of the quantized network over the same frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from lowtide.data import DataSource
from lowtide.ir import Graph
from lowtide.measure.api import Metric
from lowtide.runtime import Session, to_model


@attrs.frozen
class Evaluation:
    """Figures by metric name: float, then fixed."""

    frames: int
    figures: Mapping[str, tuple[float, float]]


def evaluate(
    reference: Graph,
    quantized: Graph,
    frames: DataSource,
    metrics: Sequence[type[Metric]],
    *,
    progress: Callable[[int, int | None], None] | None = None,
) -> Evaluation:
    """Run every frame through both networks and judge both by all metrics.

    Raises:
        DataError: when a metric needs labels that the frames do not have.
    """
    before, after = [metric() for metric in metrics], [metric() for metric in metrics]
    float_session = Session(to_model(reference, quantized=False))
    fixed_session = Session(to_model(quantized, quantized=True))
    names = [value.name for value in reference.outputs]
    count = 0
    for frame in frames.frames():
        plain = dict(zip(names, float_session.run(frame.feeds).values(), strict=True))
        fixed = dict(zip(names, fixed_session.run(frame.feeds).values(), strict=True))
        for metric in before:
            metric.update(plain, frame, plain)
        for metric in after:
            metric.update(fixed, frame, plain)
        count += 1
        if progress is not None:
            progress(count, frames.count)
    pairs = zip(before, after, strict=True)
    return Evaluation(count, {old.name: (old.value(), new.value()) for old, new in pairs})
