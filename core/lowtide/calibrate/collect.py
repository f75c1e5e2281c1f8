"""The streaming collector: every frame runs once, and memory does not grow with their number.

Statistics are accumulated in chunks of `CHUNK` frames that are merged in order, whether a chunk was just
computed or comes from the cache; so fresh, resumed and cached runs give the same bits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import attrs

from lowtide.calibrate.api import Statistic, TensorInfo
from lowtide.calibrate.cache import CacheEntry, StatisticsCache, cache_key
from lowtide.calibrate.minmax import MinMax
from lowtide.calibrate.observe import observed_tensors
from lowtide.calibrate.pipeline import in_order
from lowtide.calibrate.probes import ArrayProbe, ExtremesProbe, Probe, observed_graph
from lowtide.calibrate.tally import Tally
from lowtide.data import DataSource, Frame
from lowtide.data.source import evenly_spread
from lowtide.diagnostics import Diagnostics
from lowtide.errors import DataError
from lowtide.ir import Graph

CHUNK = 64
"""Frames between two saves."""

ARRAY_FRAMES = 64
"""Frames that statistics of whole tensors see by default."""

ByTensor = Mapping[str, Mapping[str, Statistic]]
Progress = Callable[[int, int | None], None]


@attrs.frozen
class Collected:
    """What is known about the activations of a network.

    Attributes:
        frames: how many frames were run.
        array_frames: how many of them statistics of whole tensors have seen.
        infos: the observed tensors by name, in the order of the graph.
        statistics: by tensor, then by name of the statistic; ``minmax`` is always there.
        cached_frames: how many of the frames came from the cache instead of a run.
    """

    frames: int
    array_frames: int
    infos: Mapping[str, TensorInfo]
    statistics: ByTensor
    cached_frames: int = 0

    def minmax(self, tensor: str) -> MinMax:
        """The extremes of a tensor over all frames."""
        found = self.statistics[tensor][MinMax.name]
        assert isinstance(found, MinMax)  # noqa: S101 - the collector sees to it
        return found


def array_positions(count: int | None, wanted: int) -> frozenset[int]:
    """Which frames are seen whole: `wanted` evenly spread ones, or the first of an unknown count."""
    return frozenset(range(wanted) if count is None else evenly_spread(count, wanted))


def collect(
    graph: Graph,
    source: DataSource,
    statistics: Sequence[type[Statistic]],
    *,
    tensors: Sequence[str] | None = None,
    array_frames: int = ARRAY_FRAMES,
    progress: Progress | None = None,
    cache: StatisticsCache | None = None,
    diagnostics: Diagnostics | None = None,
) -> Collected:
    """Run all frames through the float network and observe the activations that leave a layer.

    Args:
        graph: a prepared network; quantization of types is ignored.
        source: the frames.
        statistics: what to accumulate for every tensor, besides ``minmax``.
        tensors: which activations; by default all of `lowtide.calibrate.observe.observable`.
        array_frames: how many evenly spread frames are seen by statistics of whole tensors; the first ones
            when the number of frames is not known beforehand.
        progress: told of the frames done and of their number, if known.
        cache: where finished chunks are kept; not used for data without a fingerprint.
        diagnostics: told of cache files that cannot be used.

    Raises:
        DataError: when there is no frame, or when an activation is NaN or infinite; the place is frame and
            tensor.
        QuantizationError: when one of `tensors` is none that can be observed.
    """
    infos = observed_tensors(graph, tensors)
    every: list[type[Statistic]] = [*statistics, MinMax]
    kinds = tuple({kind.name: kind for kind in every}.values())
    needs_arrays = any(kind.wants == "array" for kind in kinds)
    whole = array_positions(source.count, array_frames if needs_arrays else 0)
    fingerprint = source.fingerprint() if cache else None
    entry = None
    if cache and fingerprint is not None:
        key = cache_key(graph, fingerprint, kinds, infos, sorted(whole))
        entry = cache.entry(key, Diagnostics() if diagnostics is None else diagnostics)
    total = Tally.empty(kinds, infos)
    cached = 0
    for chunk, loaded in _chunks(_Stream(graph, source, infos, whole), entry, total, progress or _silent):
        total.merge(chunk)
        cached += chunk.frames if loaded else 0
        for note in chunk.notes:
            source.diagnostics.add(note)
    if not total.frames:
        raise DataError("there is no frame to calibrate with", hint="give at least one frame")
    by_name = {info.name: info for info in infos}
    return Collected(total.frames, total.array_frames, by_name, total.statistics, cached)


def _silent(done: int, total: int | None) -> None:
    del done, total


def _chunks(
    stream: _Stream, entry: CacheEntry | None, like: Tally, progress: Progress
) -> Iterator[tuple[Tally, bool]]:
    """The statistics of every `CHUNK` frames, and whether they came from the cache."""
    count = stream.source.count
    for index in itertools.count():
        start = index * CHUNK
        if count is not None and start >= count:
            return
        chunk = None if entry is None else _load(entry, index, like)
        loaded = chunk is not None
        if chunk is None:
            chunk = _run(stream, start, Tally.empty(like.kinds, like.infos), progress)
            if entry is not None:
                entry.save(index, chunk.save())
        else:
            progress(start + chunk.frames, count)
        yield chunk, loaded
        if chunk.frames < CHUNK:
            return


def _load(entry: CacheEntry, index: int, like: Tally) -> Tally | None:
    saved = entry.load(index)
    if saved is None:
        return None
    try:
        return Tally.load(like.kinds, like.infos, saved)
    except (LookupError, ValueError, TypeError) as error:
        entry.damaged(index, error)
        return None


def _run(stream: _Stream, start: int, chunk: Tally, progress: Progress) -> Tally:
    for (frame, _), seen in in_order(lambda job: job[1].observe(job[0].feeds), stream.jobs(start)):
        if not seen.finite:
            stream.explain(frame)
        chunk.update(seen)
        progress(start + chunk.frames, stream.source.count)
    chunk.notes = tuple(stream.source.diagnostics)
    return chunk


class _Stream:
    """The frames in order, each with the session that it goes through; opened when one is needed.

    What is noted of frames is kept apart: it belongs to the statistics, which may be saved.
    """

    def __init__(
        self,
        graph: Graph,
        source: DataSource,
        infos: Sequence[TensorInfo],
        whole: frozenset[int],
    ) -> None:
        self.source = attrs.evolve(source, diagnostics=Diagnostics())
        self._graph = graph
        self._infos = infos
        self._whole = whole
        self._frames: Iterator[Frame] | None = None
        self._position = 0
        self._extremes: ExtremesProbe | None = None
        self._arrays: ArrayProbe | None = None

    def jobs(self, start: int) -> Iterable[tuple[Frame, Probe]]:
        if self._frames is None:
            self._frames = iter(self.source.frames())
        skipped = itertools.islice(self._frames, start - self._position)
        self._position += sum(1 for _ in skipped)
        for frame in itertools.islice(self._frames, CHUNK):
            position, self._position = self._position, self._position + 1
            yield frame, self.arrays if position in self._whole else self.extremes

    @property
    def arrays(self) -> ArrayProbe:
        if self._arrays is None:
            self._arrays = ArrayProbe(observed_graph(self._graph, self._infos), self._infos)
        return self._arrays

    @property
    def extremes(self) -> ExtremesProbe:
        if self._extremes is None:
            self._extremes = ExtremesProbe(observed_graph(self._graph, self._infos), self._infos)
        return self._extremes

    def explain(self, frame: Frame) -> None:
        """Find out which tensor is not finite.

        Raises:
            DataError: naming frame and tensor.
        """
        bad = self.arrays.first_bad(frame.feeds)
        if bad is not None:
            tensor, element = bad
            raise DataError(
                f"the activation should be finite, found {element}",
                place=f"{frame.name}, tensor {tensor}",
                hint="check the preprocessing of this frame, or leave it out",
            )
