"""The contracts of what judges and shows results: metrics, emitters and sections of the report."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast, get_args, get_type_hints

import attrs
import numpy as np

from lowtide.compiler.output import MANIFEST, emitted
from lowtide.compiler.result import CompileResult
from lowtide.compiler.stages import Compilation
from lowtide.compiler.summary import section_of
from lowtide.data import Frame
from lowtide.emit import Emitter
from lowtide.errors import DataError, PluginError
from lowtide.ir import Array
from lowtide.measure import Metric, update_metric
from lowtide.measure.evaluate import metric_value
from lowtide.plugin.calls import plugin_code
from lowtide.report import Section

Seen = tuple[Frame, Mapping[str, Array]]
"""A frame, and what the float network makes of it: float32 arrays by output name."""


def check_metric(kind: type[Metric], frames: Sequence[Seen] | None = None) -> float:
    """Check a metric on frames that the float network gets right.

    Args:
        kind: the metric.
        frames: each with the outputs of the float network, and a label that agrees with them; by default
            those of a classifier with scores ``[1, 8]`` and the label of the highest.

    Returns:
        The figure of the float network.

    Raises:
        PluginError: when a fact of the class is of another kind, the value is no number, objects of the class
            disturb each other, `update` changes its arguments, `value` is another one the second time, a
            metric that needs no labels fails without them, or outputs of the opposite sign are judged better
            than those of the float network.
    """
    place = f"metric {kind.name}"
    better = get_args(get_args(get_type_hints(Metric)["better"])[0])
    if kind.better not in better:
        raise PluginError(f"better should be {' or '.join(better)}, found {kind.better!r}", place=place)
    if not isinstance(kind.needs_labels, bool):  # pyright: ignore[reportUnnecessaryIsInstance]  # third parties write it
        raise PluginError(f"needs_labels should be True or False, found {kind.needs_labels!r}", place=place)
    seen = _classified() if frames is None else frames
    right, wrong = _figures(kind, seen, place)
    if wrong > right if kind.better == "higher" else wrong < right:
        raise PluginError(
            f"{kind.better} is better, but outputs of the opposite sign have {wrong:g} "
            f"and those of the float network {right:g}",
            place=place,
        )
    if not kind.needs_labels:
        unlabelled = [(attrs.evolve(frame, label=None), outputs) for frame, outputs in seen]
        try:
            _figures(kind, unlabelled, place)
        except (DataError, PluginError) as error:
            raise PluginError(
                f"fails without labels: {error.message}",
                place=place,
                hint="give the class needs_labels = True",
            ) from error
    return right


def _figures(kind: type[Metric], seen: Sequence[Seen], place: str) -> tuple[float, float]:
    """The value for the outputs themselves and for their opposites, each by an object of its own."""
    alone = [_judged([_made(kind, place)], seen, place)[0], _judged([_made(kind, place)], seen, place)[0]]
    if alone[0] != alone[1]:
        raise PluginError(
            f"a second object has {alone[1]:g} for what the first has {alone[0]:g}",
            place=place,
            hint="counts belong into fields",
        )
    right, wrong = _judged([_made(kind, place), _made(kind, place)], seen, place)
    if right != alone[0]:
        raise PluginError(
            f"has {right:g} instead of {alone[0]:g} while another object judges other outputs", place=place
        )
    return right, wrong


def _made(kind: type[Metric], place: str) -> Metric:
    with plugin_code(place):
        return kind()


def _judged(metrics: Sequence[Metric], seen: Sequence[Seen], place: str) -> list[float]:
    """The first object sees the outputs, a second one their opposites, in turn."""
    for frame, reference in seen:
        for sign, metric in zip((1, -1), metrics, strict=False):
            outputs = {name: np.asarray(array * sign) for name, array in reference.items()}
            kept = [
                {name: np.array(array) for name, array in found.items()} for found in (outputs, reference)
            ]
            update_metric(metric, outputs, frame, reference, place)
            if not all(_same(*pair) for pair in zip(kept, (outputs, reference), strict=True)):
                raise PluginError("update changes the outputs that it is given", place=place)
    values = [metric_value(metric, place) for metric in metrics]
    if any(math.isnan(value) for value in values):
        raise PluginError("value should return a number, found NaN", place=place)
    if [metric_value(metric, place) for metric in metrics] != values:
        raise PluginError("value is another one the second time", place=place)
    return values


def _same(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def _classified() -> Sequence[Seen]:
    random = np.random.default_rng(20240501)
    scores = [random.standard_normal((1, 8), np.float32) for _ in range(6)]
    return [
        (Frame(f"frame {at}", {"input": found}, int(found.argmax())), {"scores": found})
        for at, found in enumerate(scores)
    ]


def check_emitter(kind: type[Emitter], result: CompileResult) -> tuple[str, ...]:
    """Check an emitter on a finished compile.

    Args:
        kind: the emitter.
        result: of a network of which it has something to write.

    Returns:
        The names of the files that it wrote.

    Raises:
        PluginError: when it fails, returns what are no names of files in the folder, does not write a file
            that it returns, writes one that it does not return, writes other bytes the second time, or
            changes the networks.
    """
    place = f"emitter {kind.__name__}"
    networks = (result.graph, result.reference, result.conditioned)
    before = [graph.clone() for graph in networks]
    with tempfile.TemporaryDirectory() as folder:
        first, second = (_written(kind, result, Path(folder) / name, place) for name in ("first", "second"))
    if before != list(networks):
        raise PluginError("changes the network", place=place)
    if first != second:
        other = sorted(name for name in {*first, *second} if first.get(name) != second.get(name))
        raise PluginError(f"writes another {other[0]} the second time", place=place)
    return tuple(first)


def _written(kind: type[Emitter], result: CompileResult, folder: Path, place: str) -> dict[str, bytes]:
    folder.mkdir()
    try:
        names = [Path(name).as_posix() for name in emitted(kind, result, folder, place)]
    except OSError as error:
        raise PluginError(f"failed with {type(error).__name__}: {error}", place=place) from error
    if MANIFEST in names:
        raise PluginError(f"writes {MANIFEST}, which a compile writes", place=place)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise PluginError(f"returns {twice[0]} twice", place=place)
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    unnamed = [name for name in files if name not in names]
    if unnamed:
        raise PluginError(f"writes {unnamed[0]}, which it does not return", place=place)
    return files


def check_section(kind: type[Section], compilation: Compilation) -> str:
    """Check a section of the report.

    Args:
        kind: the section.
        compilation: that ran, of a network of which the section has something to say.

    Returns:
        The text of the section.

    Raises:
        PluginError: when it fails, its title is no line of text, what it returns is no text or another one
            the second time, or it changes the networks.
    """
    place = f"section {kind.__name__}"
    networks = (compilation.graph, compilation.reference, compilation.imported)
    before = [graph.clone() for graph in networks]
    first, again = (section_of(kind, compilation, place) for _ in range(2))
    title = cast("object", first[0])
    if not isinstance(title, str) or "\n" in title:
        raise PluginError(f"the title should be one line of text, found {title!r}", place=place)
    if again != first:
        raise PluginError("says something else the second time", place=place)
    if before != list(networks):
        raise PluginError("changes the network", place=place)
    return first[1]
