"""Task metrics of the float and of the quantized network over the same frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from lowtide.data import DataSource, Frame
from lowtide.errors import DataError, PluginError
from lowtide.ir import Array, Graph
from lowtide.measure.api import Metric
from lowtide.narrow import is_number
from lowtide.plugin import MetricSpec, Registry, plugin_code
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
    registry: Registry | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Evaluation:
    """Run every frame through both networks and judge both by all metrics.

    Args:
        reference: the float network.
        fixed: what runs the quantized one; its results are in the order of the reference's outputs.
        frames: what to run.
        metrics: how to judge.
        registry: where the metrics come from, for messages; without it, their modules are named.
        progress: told how many of how many frames are done.

    Raises:
        DataError: when a metric needs labels that the frames do not have.
        PluginError: naming the metric, when it fails or its value is no number.
    """
    places = [_place(metric, registry) for metric in metrics]
    before, after = (
        [_made(metric, place) for metric, place in zip(metrics, places, strict=True)] for _ in range(2)
    )
    float_session = Session(to_model(reference, quantized=False))
    names = [value.name for value in reference.outputs]
    count = 0
    for frame in frames.frames():
        note_labels(metrics, frame, frames)
        plain = dict(zip(names, float_session.run(frame.feeds).values(), strict=True))
        found = dict(zip(names, fixed.run(frame.feeds).values(), strict=True))
        for metric, place in zip(before, places, strict=True):
            update_metric(metric, plain, frame, plain, place)
        for metric, place in zip(after, places, strict=True):
            update_metric(metric, found, frame, plain, place)
        count += 1
        if progress is not None:
            progress(count, frames.count)
    for metric, place in zip(before, places, strict=True):
        note_guessing(metric, frames, place)
    judged = zip(before, after, places, strict=True)
    return Evaluation(
        count, {old.name: (metric_value(old, place), metric_value(new, place)) for old, new, place in judged}
    )


def note_labels(metrics: Iterable[type[Metric]], frame: Frame, frames: DataSource) -> None:
    """Note what was taken for labels among the diagnostics of the frames, where metrics need them."""
    names = [metric.name for metric in metrics if metric.needs_labels]
    if names and frame.label_from:
        frames.diagnostics.info(
            "LT765",
            frames.describe(),
            f"labels for {', '.join(names)} are {frame.label_from}",
            "--labels FILE where they are others",
        )


def note_guessing(metric: Metric, frames: DataSource, place: str | None = None) -> None:
    """Warn among the diagnostics of the frames of a float network that is no better than guessing.

    Args:
        metric: has seen the outputs of the float network for all frames.
        frames: those.
        place: see `update_metric`.

    Raises:
        PluginError: naming the metric, when it fails.
    """
    place = place or _place(type(metric), None)
    value = metric_value(metric, place)
    with plugin_code(place):
        guessed = metric.guessed()
    if value < guessed if metric.better == "higher" else value > guessed:
        frames.diagnostics.warning(
            "LT766",
            frames.describe(),
            f"the float network has {metric.name} {value:.4g}, which guessing reaches too: the labels are "
            "hardly those that it was trained with, and figures on them say nothing",
            "check the labels and what numbers the classes have, or give others with --labels FILE",
        )


def _place(metric: type[Metric], registry: Registry | None) -> str:
    if registry is None:
        return f"the metric {metric.name} of {metric.__module__}"
    return registry.describe(registry.get(MetricSpec, metric.name))


def _made(metric: type[Metric], place: str) -> Metric:
    with plugin_code(place):
        return metric()


def update_metric(
    metric: Metric,
    outputs: Mapping[str, Array],
    frame: Frame,
    reference: Mapping[str, Array],
    place: str | None = None,
) -> None:
    """Let a metric see one frame, see `Metric.update`.

    Args:
        metric: which.
        outputs: of the network that is judged.
        frame: what it was fed.
        reference: the outputs of the float network.
        place: names the metric in messages; by default with its module.

    Raises:
        DataError: when the metric needs a label and the frame has none.
        PluginError: naming the metric, when it fails.
    """
    require_label(type(metric), frame)
    with plugin_code(f"{place or _place(type(metric), None)}, {frame.name}"):
        metric.update(outputs, frame, reference)


def require_label(metric: type[Metric], frame: Frame) -> None:
    """Refuse a frame without the label that a metric needs.

    Raises:
        DataError: naming the frame.
    """
    if metric.needs_labels and frame.label is None:
        raise DataError(
            f"the metric {metric.name} needs a label for every frame",
            place=frame.name,
            hint="begin file names with the number of the class (numbers that only count files are none), "
            "use a folder for each class, or give --labels FILE",
        )


def metric_value(metric: Metric, place: str) -> float:
    """The figure of a metric, see `Metric.value`.

    Raises:
        PluginError: naming it with `place`, when it fails or returns no number.
    """
    with plugin_code(place):
        found: object = metric.value()
    if not is_number(found):
        raise PluginError(f"value should return a number, found {found!r}", place=place)
    return float(found)
