"""One pass over the frames, and what it tells."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator

import numpy as np

from lowtide.calibrate.observe import observed_tensors
from lowtide.calibrate.pipeline import in_order
from lowtide.calibrate.probes import ArrayProbe, ExtremesProbe, Observation, observed_graph
from lowtide.data import BadFrame, DataSource, Frame, Preprocess
from lowtide.data.source import evenly_spread
from lowtide.doctor.preparation import KEPT, KEPT_ELEMENTS, TRIED, judge_preparation
from lowtide.doctor.ranges import Extents, Outlier, converge, outliers
from lowtide.doctor.records import Convergence, Examination, FrameFinding
from lowtide.errors import DataError, counted, short_name
from lowtide.ir import Graph

SHOWN = 5
"""Names in one finding."""

Progress = Callable[[int, int | None], None]


def examine_frames(
    original: Graph,
    prepared: Graph,
    source: DataSource,
    *,
    preprocess: Preprocess | None,
    progress: Progress,
    stage: Callable[[str], None],
) -> Examination:
    """Run every frame through the float network once, and judge frames and ranges.

    Args:
        original: the network as imported, with its batch normalizations.
        prepared: the float network that is quantized.
        source: the frames.
        preprocess: how pictures became arrays; ``None`` for arrays.
        progress: told of steps done.
        stage: told of what begins.

    Raises:
        DataError: when there is no frame, or reading cannot go on.
    """
    pass_ = _Pass(prepared, source)
    stage("frames")
    for number in pass_.run():
        progress(number, source.count)
    if not pass_.read:
        raise DataError("there are no frames", place=source.describe())
    extents = pass_.extents()
    unusual = outliers(extents)
    settled = converge(extents.without([entry.frame for entry in unusual]))
    basis = "nothing: the frames are random numbers"
    prepared_wrong: tuple[FrameFinding, ...] = ()
    if not source.synthetic:
        stage("preparation")
        basis, prepared_wrong = judge_preparation(original, prepared, pass_.samples(), preprocess, progress)
    findings = [
        *pass_.findings,
        *prepared_wrong,
        *(_outlier(entry) for entry in unusual),
        *_number(settled),
    ]
    return Examination(
        data=source.describe(),
        frames=pass_.read,
        good=len(extents.names),
        basis=basis,
        findings=tuple(sorted(findings, key=lambda finding: not finding.fatal)),
        convergence=settled,
    )


class _Pass:
    """The pass over the frames; what is kept of them is small, but for the few that are tried again."""

    def __init__(self, graph: Graph, source: DataSource) -> None:
        self.source = source
        self.read = 0
        self.findings: list[FrameFinding] = []
        self._infos = observed_tensors(graph)
        self._graph = observed_graph(graph, self._infos)
        self._probe = ExtremesProbe(self._graph, self._infos)
        self._names: list[str] = []
        self._low: list[list[float]] = []
        self._high: list[list[float]] = []
        self._digests: dict[bytes, list[str]] = {}
        elements = sum(math.prod(spec.shape) for spec in source.inputs)
        kept = min(KEPT, max(TRIED, KEPT_ELEMENTS // max(elements, 1)))
        self._wanted = set(range(kept) if source.count is None else evenly_spread(source.count, kept))
        self._samples: list[Frame] = []

    def run(self) -> Iterator[int]:
        """All frames; yields how many are done."""
        for frame, seen in in_order(lambda frame: self._probe.observe(frame.feeds), self._usable()):
            self._take(frame, seen)
            yield self.read
        for names in self._digests.values():
            if len(names) > 1:
                self._note(
                    "LT773", names[0], "several frames are the same", _listed(names), "keep one of them"
                )

    def extents(self) -> Extents:
        """The extremes of all usable frames."""
        shape = (len(self._names), len(self._infos))
        low, high = (np.array(rows, np.float64).reshape(shape) for rows in (self._low, self._high))
        tensors = tuple(info.name for info in self._infos)
        return Extents(tuple(self._names), tensors, np.minimum(low, 0), np.maximum(high, 0))

    def samples(self) -> list[Frame]:
        """Some evenly spread usable frames."""
        usable = set(self._names)
        return [frame for frame in self._samples if frame.name in usable]

    def _usable(self) -> Iterator[Frame]:
        for found in self.source.attempts():
            position, self.read = self.read, self.read + 1
            if isinstance(found, BadFrame):
                remedy = found.error.hint or "leave the frame out"
                self._note(
                    "LT771",
                    found.name,
                    "is no frame for this network",
                    found.error.message,
                    remedy,
                    fatal=True,
                )
                continue
            self._look(found, keep=position in self._wanted)
            yield found

    def _look(self, frame: Frame, *, keep: bool) -> None:
        digest = hashlib.sha256()
        for name, array in frame.feeds.items():
            digest.update(array.tobytes())
            if array.size > 1 and bool((array == array.flat[0]).all()):
                value = f"every element of {name} is {array.flat[0]:.6g}"
                self._note("LT772", frame.name, "is constant", value, "leave the frame out")
        self._digests.setdefault(digest.digest(), []).append(frame.name)
        if keep:
            self._samples.append(frame)

    def _take(self, frame: Frame, seen: Observation) -> None:
        if not seen.finite:
            bad = ArrayProbe(self._graph, self._infos).first_bad(frame.feeds)
            if bad is not None:
                tensor, element = bad
                evidence = f"{short_name(tensor)} has the element {element}"
                remedy = "check the preprocessing of this frame, or leave it out"
                self._note("LT778", frame.name, "makes activations infinite", evidence, remedy, fatal=True)
                return
        self._names.append(frame.name)
        self._low.append([float(seen.extremes[info.name].min.min()) for info in self._infos])
        self._high.append([float(seen.extremes[info.name].max.max()) for info in self._infos])

    def _note(
        self, code: str, place: str, cause: str, evidence: str, remedy: str, *, fatal: bool = False
    ) -> None:
        self.findings.append(
            FrameFinding(code=code, place=place, cause=cause, evidence=evidence, remedy=remedy, fatal=fatal)
        )


def _outlier(found: Outlier) -> FrameFinding:
    others = f" and {counted(found.tensors - 1, 'more tensor')}" if found.tensors > 1 else ""
    return FrameFinding(
        code="LT774",
        place=found.frame,
        cause="stretches ranges alone",
        evidence=f"{short_name(found.tensor)}{others}: {found.stretch:.3g} times the range of the others, "
        f"{found.score:.3g} robust standard deviations above their median",
        remedy="leave the frame out, or --calibrator percentile",
    )


def _number(found: Convergence | None) -> Iterator[FrameFinding]:
    """Whether the number of frames is right."""
    if found is None:
        return
    if not found.enough:
        count, unsettled, worst = next(step for step in reversed(found.steps) if step[0] < found.needed)
        assert worst is not None  # noqa: S101 - fewer frames than needed leave tensors unsettled
        moving = f"with {count}, {unsettled} tensors still move"
        most = f"{short_name(worst.tensor)} lacks {worst.missing:.0%}"
        yield FrameFinding(
            code="LT776",
            place="all frames",
            cause="ranges still grow: more frames are needed",
            evidence=f"{found.needed} of {found.frames} frames were needed: {moving}, {most}",
            remedy=f"give at least {2 * found.frames} frames",
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
