"""From rung to rung of a ladder: what is tried, what stays, when to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from lowtide.compiler.api import compile_request as compile_request  # noqa: PLC0414 - tests replace it
from lowtide.compiler.output import MANIFEST, write_output
from lowtide.compiler.progress import Progress
from lowtide.compiler.request import CompileRequest
from lowtide.compiler.result import CompileResult
from lowtide.errors import LowtideError
from lowtide.options import OptionLayer
from lowtide.target import Rung
from lowtide.tuning.goal import Goal
from lowtide.tuning.judge import Judge, better
from lowtide.tuning.record import Figures, Record, Tried, digest

BUDGET = "budget"
"""The value of an option in a ladder that stands for the user's budget."""

FACTOR = "mixed_precision_factor"
ORIGIN = "tune"


class TimeUpError(BaseException):
    """The time is over; what was under way is dropped.

    As an interruption it is none of the errors that plugins handle or are blamed for.
    """


@attrs.define
class DeadlineProgress(Progress):
    """Passes everything on, and stops the work once the time is over and a result is there.

    Attributes:
        inner: who shows the progress.
        deadline: by `time.monotonic`; ``None`` for no limit.
        armed: whether there is a result that may stand.
    """

    inner: Progress
    deadline: float | None = None
    armed: bool = False
    step: str = ""

    def stage(self, name: str) -> None:
        """See `Progress.stage`."""
        self.check()
        self.inner.stage(f"{self.step}: {name}" if self.step else name)

    def advance(self, done: int, total: int | None) -> None:
        """See `Progress.advance`."""
        self.check()
        self.inner.advance(done, total)

    def check(self) -> None:
        """Stop when the time is over.

        Raises:
            TimeUpError: then.
        """
        if self.armed and self.deadline is not None and time.monotonic() >= self.deadline:
            raise TimeUpError


@attrs.define(kw_only=True)
class Search:
    """A search under way.

    Attributes:
        request: what the user asks for, with the calibration frames fixed.
        judge: holds results against the frames that were set aside; set once the metric is known.
        options_file: makes the options file of a configuration.
        stopped: whether the user has interrupted something that went on nevertheless.
        best: the options of the best configuration so far.
        result: of a configuration that was compiled in this run, with its options.
        end: why the search ended, in words.
    """

    request: CompileRequest
    ladder: tuple[Rung, ...]
    goal: Goal
    judge: Judge
    record: Record
    folder: Path
    budget: float | None
    progress: DeadlineProgress
    options_file: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    stopped: Callable[[], bool] = bool
    best: dict[str, Any] | None = None
    figures: Figures | None = None
    plain_ms: float | None = None
    result: tuple[dict[str, Any], CompileResult] | None = None
    end: str = ""

    def run(self) -> None:
        """Climb the ladder.

        Raises:
            LowtideError: when even the first rung is not possible.
            KeyboardInterrupt: when the user interrupts; the folder holds the best result so far.
        """
        try:
            for rung in self.ladder:
                options = self._options(rung)
                if options is None or (self.best is not None and options == self.best):
                    continue
                self._try(rung, options)
                if self.figures is not None and self._reached(self.figures):
                    self.end = f"the goal {self.goal} is reached"
                    return
            self.end = "the ladder is at its end"
        except TimeUpError:
            self.end = "the time is over"

    def finish(self) -> None:
        """Leave the best result in the folder, if it is not there."""
        self.progress.armed = False
        if self.best is None:
            return
        if self._in_folder(self.best):
            self.record.write(self.folder)
            return
        if self.result is None or self.result[0] != self.best:
            self.result = (self.best, self.compile(self.best))
        self._save()

    def _in_folder(self, options: Mapping[str, Any]) -> bool:
        """Whether the folder holds the result of some options."""
        return self.record.saved == digest(dict(options)) and (self.folder / MANIFEST).is_file()

    def compile(self, options: Mapping[str, Any]) -> CompileResult:
        """Compile with some options on top of those that the user gave."""
        layers = [*self.request.options, OptionLayer(ORIGIN, dict(options))]
        return compile_request(attrs.evolve(self.request, options=layers, progress=self.progress))

    def _options(self, rung: Rung) -> dict[str, Any] | None:
        """What a rung sets, with what is best so far; ``None`` when the budget does not allow it."""
        own: dict[str, Any] = dict(rung.options)
        for key, value in own.items():
            if value == BUDGET:
                if self.budget is None:
                    return None
                own[key] = self.budget
        factor = own.get(FACTOR)
        if factor is not None and self.budget is not None and float(factor) > self.budget:
            return None
        return {**(self.best or {}), **own}

    def _try(self, rung: Rung, options: dict[str, Any]) -> None:
        self.progress.check()
        self.progress.step = rung.step
        begin = time.perf_counter()
        known = self.record.recall(options)
        if known is None:
            figures, why = self._measured(options)
            seconds = time.perf_counter() - begin
            self.record.remember(options, figures, why, seconds)
        else:
            figures, why, seconds = known
        kept = False
        if figures is not None:
            kept, why = self._judged(figures)
        number = len(self.record.tried) + 1
        entry = Tried(
            number=number,
            step=rung.step,
            options=options,
            figures=figures,
            kept=kept,
            why=why,
            seconds=seconds,
        )
        self.record.add(entry, self.options_file(options))
        if kept:
            self.best, self.figures = options, figures
            if self.plain_ms is None and figures is not None:
                self.plain_ms = figures.latency_ms
            if self.result is not None and self.result[0] == options:
                self._save()
            # What an earlier run knew may be best without being there; then the end makes it.
            self.progress.armed = (self.folder / MANIFEST).is_file()
        elif known is None and (self.folder / MANIFEST).is_file():
            self.record.write(self.folder)

    def _measured(self, options: dict[str, Any]) -> tuple[Figures | None, str]:
        try:
            result = self.compile(options)
        except LowtideError as error:
            if self.best is None:
                raise
            return None, f"not possible: {error}"
        if self.stopped():
            raise KeyboardInterrupt
        self.progress.stage("judge")
        figures, float_metric = self.judge.figures(result)
        if self.stopped():
            raise KeyboardInterrupt
        self.record.float_metric = float_metric
        self.result = (options, result)
        return figures, ""

    def _judged(self, figures: Figures) -> tuple[bool, str]:
        if self.figures is None:
            return True, "the first"
        if self.budget is not None and self.plain_ms is not None and figures.latency_ms is not None:
            ratio = figures.latency_ms / self.plain_ms
            if ratio > self.budget * (1 + 1e-9):
                return False, f"over the budget: {ratio:.3g} times the latency of 8 bits"
        return better(figures, self.figures, self.judge.metric.better)

    def _reached(self, figures: Figures) -> bool:
        float_metric = self.record.float_metric
        return float_metric is not None and self.goal.met(figures.metric, float_metric, figures.sqnr_db)

    def _save(self) -> None:
        assert self.result is not None  # noqa: S101 - the caller has a result
        self.record.saved = digest(self.result[0])
        write_output(self.result[1], self.folder, force=True, beside=self.record.write)


def front(tried: Iterable[Tried]) -> list[Tried]:
    """The configurations that no other is better than in both latency and output error, the fastest first."""
    points = [(entry, entry.figures) for entry in tried if entry.figures is not None]
    found = [
        (entry, figures)
        for entry, figures in points
        if not any(_beats(other, figures) for _, other in points)
    ]
    ordered = sorted(found, key=lambda item: (item[1].latency_ms or 0.0, -item[1].sqnr_db))
    return [entry for entry, _ in ordered]


def _beats(one: Figures, other: Figures) -> bool:
    times = one.latency_ms or 0.0, other.latency_ms or 0.0
    as_good = times[0] <= times[1] and one.sqnr_db >= other.sqnr_db
    return as_good and (times[0] < times[1] or one.sqnr_db > other.sqnr_db)
