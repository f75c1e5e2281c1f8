"""What several commands share: flags, progress bars, the way from flags to options and frames."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import attrs
import click
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from lowtide.calibrate import StatisticsCache
from lowtide.cli.context import stderr
from lowtide.compiler.output import SavedOutput
from lowtide.compiler.progress import Progress
from lowtide.compiler.run import input_specs, preprocess_for
from lowtide.data import DataSource, Preprocess, open_data
from lowtide.diagnostics import Diagnostic, Diagnostics
from lowtide.errors import OptionError, UnknownNameError
from lowtide.ir import Graph
from lowtide.options import (
    LoadedOptions,
    OptionLayer,
    load_options_file,
    parse_assignment,
    resolve_options,
    written,
)
from lowtide.plugin import Registry
from lowtide.target import find_target

F = TypeVar("F", bound=Callable[..., Any])

PREPROCESSING = frozenset({"input_mean", "input_scale", "input_optimization"})
"""Options that decide how images become arrays, besides the ``preprocess`` block."""


def data_options(command: F) -> F:
    """The flags that say which frames to use."""
    for option in (
        click.option("--labels", metavar="FILE", help="Labels, for data that does not bring them."),
        click.option("--frames", type=click.IntRange(min=1), metavar="N", help="Use N evenly spread frames."),
        click.option(
            "--data",
            metavar="DATA",
            help="A folder of images, .npy or .npz; one .npz or .npy with a leading frame axis; "
            "package.module:callable; or random:N.",
        ),
    ):
        command = option(command)
    return command


def cache_options(command: F) -> F:
    """The flags that say where statistics are kept, as ``cache``: a `StatisticsCache` or ``None``."""

    @click.option("--no-cache", is_flag=True, help="Do not keep or reuse statistics.")
    @click.option(
        "--cache",
        "folder",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Keep statistics here instead of in the user's cache folder.",
    )
    @functools.wraps(command)
    def with_cache(*args: Any, folder: Path | None, no_cache: bool, **named: Any) -> Any:
        if folder is not None and no_cache:
            raise click.UsageError("--cache and --no-cache exclude each other")
        kept = StatisticsCache.default() if folder is None else StatisticsCache(folder)
        return command(*args, cache=None if no_cache else kept, **named)

    return cast(F, with_cache)


@contextmanager
def resumable(text: str) -> Generator[None, None, None]:
    """Add to an interrupt what it leaves behind; nothing where the text is empty."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if text:
            stop.add_note(text)
        raise


def option_options(command: F) -> F:
    """The flags that set options."""
    for option in (
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="KEY=VALUE",
            help="Set one option; may be repeated.",
        ),
        click.option(
            "--options",
            "options_file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Options from a JSON or YAML file, or a model-zoo configuration.",
        ),
    ):
        command = option(command)
    return command


@attrs.frozen
class GivenOptions:
    """Options as the flags have them, the strongest layer last.

    Attributes:
        loaded: the options file, if there is one.
    """

    layers: tuple[OptionLayer, ...]
    preprocess: Preprocess | None
    loaded: LoadedOptions | None = None

    def model(self) -> Path | None:
        """The model that the options file is about.

        Raises:
            OptionError: when it is named and not there.
        """
        return None if self.loaded is None else self.loaded.find_model()

    def named_target(self, registry: Registry) -> str | None:
        """The device that the options file is made for.

        Raises:
            OptionError: when nobody provides it.
        """
        if self.loaded is None or self.loaded.target is None:
            return None
        try:
            return find_target(self.loaded.target, registry).name
        except UnknownNameError as error:
            place = f"{self.loaded.file}, session.target_device"
            raise OptionError(
                f"there is no device {self.loaded.target!r}", place=place, hint=error.hint
            ) from error


def given_options(options_file: Path | None, assignments: Sequence[str]) -> GivenOptions:
    """Read the options file and the assignments.

    Raises:
        OptionError: when one does not parse, or two contradict each other.
    """
    layers: list[OptionLayer] = []
    preprocess: Preprocess | None = None
    loaded: LoadedOptions | None = None
    if options_file is not None:
        loaded = load_options_file(options_file)
        layers.append(loaded.layer)
        if loaded.preprocess:
            preprocess = Preprocess.from_mapping(loaded.preprocess, place=str(options_file))
    layers += _assigned(assignments)
    options = resolve_options(layers).options
    return GivenOptions(tuple(layers), preprocess_for(options, preprocess), loaded)


def preprocess_of(saved: SavedOutput, given: GivenOptions) -> Preprocess | None:
    """How images become arrays for an output folder: as given, else as in its compile.

    Raises:
        OptionError: for an option that has no effect there and is not what the folder was compiled with.
    """
    compiled = saved.manifest["options"]
    for option in resolve_options(given.layers).effective:
        same = compiled.get(option.key) == str(option.value)
        if option.origin != "default" and option.key not in PREPROCESSING and not same:
            raise OptionError(
                f"has no effect on an output folder, and {saved.folder} was compiled with another value",
                place=f"{option.origin}: {option.key}={written(option.value)}",
                hint="leave it out, or compile with it",
            )
    return saved.preprocess if given.preprocess is None else given.preprocess


def _assigned(assignments: Sequence[str]) -> list[OptionLayer]:
    """Assignments as layers: a key that is set again begins another, which overrides the one before."""
    found: list[dict[str, Any]] = []
    for key, value in map(parse_assignment, assignments):
        if not found or key in found[-1]:
            found.append({})
        found[-1][key] = value
    return [OptionLayer("--set", values) for values in found]


def frames_for(
    graph: Graph, data: str | None, frames: int | None, labels: str | None, preprocess: Preprocess | None
) -> DataSource:
    """Open data for a graph that is already there.

    What is found out about the frames, most of it while they are read, is printed when the command ends.

    Raises:
        DataError: when it does not fit.
        UsageError: when none is named.
    """
    if data is None:
        raise click.UsageError("--data is needed: frames to run")
    diagnostics = Diagnostics()
    click.get_current_context().call_on_close(lambda: print_diagnostics(diagnostics))
    source = open_data(
        data, input_specs(graph), preprocess=preprocess, labels=labels, diagnostics=diagnostics
    )
    return source if frames is None else source.select(frames)


def print_diagnostics(diagnostics: Iterable[Diagnostic]) -> None:
    """Print findings on standard error."""
    for found in diagnostics:
        remedy = f" ({found.hint})" if found.hint else ""
        text = f"{found.severity}: {found.code} {found.place}: {found.message}{remedy}"
        stderr().print(text, markup=False, highlight=False, soft_wrap=True)


@attrs.define
class BarProgress(Progress):
    """One line a stage, with an estimate of the time left where the number of steps is known."""

    bars: Bars
    _task: TaskID | None = attrs.field(default=None, init=False)

    def stage(self, name: str) -> None:
        """Finish the line of the last stage and begin another."""
        self.finish()
        self._task = self.bars.add_task(name, total=None)

    def advance(self, done: int, total: int | None) -> None:
        """Move the bar."""
        if self._task is not None:
            self.bars.update(self._task, completed=done, total=total)

    def finish(self) -> None:
        """The present stage is over."""
        if self._task is not None:
            task = self.bars.tasks[self._task]
            total = task.total or max(1, int(task.completed))
            self.bars.update(self._task, completed=total, total=total)


@contextmanager
def progress_bars() -> Generator[BarProgress, None, None]:
    """Bars on standard error; nothing is drawn where that is no terminal."""
    columns = (
        SpinnerColumn("line"),  # plain characters, which every terminal and font has
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Bars(*columns, console=stderr(), transient=False) as bars:
        shown = BarProgress(bars)
        yield shown
        shown.finish()
