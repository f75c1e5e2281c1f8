"""How a compile tells where it is; the command line draws bars from it."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

import attrs

from lowtide.report.model import StageTime


@attrs.define
class Progress:
    """Hears of stages and of frames within them. This one is silent; subclasses show something."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def advance(self, done: int, total: int | None) -> None:
        """So many of so many steps of the present stage are done."""


@attrs.define
class Stage:
    """A stage under way.

    Attributes:
        cached: set by who works in it: whether all that it would have measured came from the cache.
    """

    cached: bool = False


@attrs.define
class Clock:
    """Measures the stages of one compile."""

    progress: Progress
    _times: dict[str, StageTime] = attrs.field(factory=dict[str, StageTime], init=False)

    @property
    def times(self) -> tuple[StageTime, ...]:
        """The stages in the order in which they began; one that ran more than once has the sum."""
        return tuple(self._times.values())

    @contextmanager
    def stage(self, name: str) -> Generator[Stage, None, None]:
        """Announce a stage and note its wall and CPU seconds when it ends."""
        stage = Stage()
        self.progress.stage(name)
        wall, cpu = time.perf_counter(), time.process_time()
        yield stage
        before = self._times.get(name)
        self._times[name] = StageTime(
            stage=name,
            wall=time.perf_counter() - wall + (before.wall if before else 0.0),
            cpu=time.process_time() - cpu + (before.cpu if before else 0.0),
            cached=stage.cached and (before is None or before.cached),
        )
