"""``lowtide tune``."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import attrs
import click
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from lowtide.calibrate import StatisticsCache
from lowtide.cli.compile import required
from lowtide.cli.context import registry_of, stderr, stdout
from lowtide.cli.shared import (
    cache_options,
    data_options,
    given_options,
    option_options,
    print_diagnostics,
    progress_bars,
    resumable,
)
from lowtide.report.json import json_text
from lowtide.report.terminal import db, figure, milliseconds, new_table, spaced
from lowtide.tuning import TuneResult
from lowtide.tuning.api import tune
from lowtide.tuning.record import FILE, FOLDER
from lowtide.tuning.search import front

MISSED = 1
WIDE = 110
"""Columns from which on there is room for a column of what each step sets."""


@click.command("tune")
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option("--target", metavar="NAME", help="The device; see `lowtide targets`.")
@data_options
@option_options
@click.option(
    "--goal",
    metavar="METRIC>=X",
    help="When to stop: top1>=0.70, sqnr>=30, or top1>=float-0.01 beside the float network.",
)
@click.option(
    "--budget", type=float, metavar="RATIO", help="The most latency, as a multiple of that of 8 bits."
)
@click.option("--time-budget", type=float, metavar="SECONDS", help="When to stop in any case.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("out"), show_default=True, metavar="DIR"
)
@click.option("--force", is_flag=True, help="Start over in a folder with an earlier output.")
@cache_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    model: Path | None,
    target: str | None,
    data: str | None,
    frames: int | None,
    labels: str | None,
    options_file: Path | None,
    assignments: tuple[str, ...],
    goal: str | None,
    budget: float | None,
    time_budget: float | None,
    output: Path,
    force: bool,
    cache: StatisticsCache | None,
    as_json: bool,
) -> int:
    """Find the options with the best accuracy for MODEL on a device.

    A part of the frames is set aside. The configurations of the device's ladder are tried one by one, from
    plain 8 bits to 16 bits, and each is kept only if the frames set aside say so. The output folder holds
    the best result as soon as there is one. The same command goes on where it was interrupted.
    """
    if data is None:
        raise click.UsageError("--data is needed: frames to learn from and to judge with")
    registry = registry_of(ctx)
    given = given_options(options_file, assignments)
    model = model or required(given.model(), "no model is given", "MODEL", "model_path")
    named = given.named_target(registry) if target is None else target
    target = required(named, "no device is given", "--target NAME", "target_device")
    kept = "what was tried is kept, the same command goes on from there"
    with progress_bars() as progress, resumable(kept), _interruption() as interrupted:
        found = tune(
            model,
            target=target,
            data=data,
            output=output,
            goal=goal,
            budget=budget,
            time_budget=time_budget,
            frames=frames,
            labels=labels,
            options=given.layers,
            preprocess=given.preprocess,
            cache=cache,
            registry=registry,
            progress=progress,
            force=force,
            stopped=interrupted,
        )
    if as_json:
        click.echo(json_text(_document(found)), nl=False)
    else:
        stdout().print(render_tuning(found))
    print_diagnostics(found.notes)
    stderr().print(
        f"written to {output}; what was tried is in {output / FOLDER}",
        style="green",
        markup=False,
        highlight=False,
    )
    return MISSED if goal is not None and not found.reached else 0


@contextmanager
def _interruption() -> Generator[Any, None, None]:
    """Notes an interrupt that somebody else takes as a wish to go on with what there is."""
    seen = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield seen.is_set
        return

    def note(number: int, frame: FrameType | None) -> None:
        seen.set()
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield seen.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def _document(found: TuneResult) -> dict[str, Any]:
    return {
        "goal": str(found.goal),
        "reached": found.reached,
        "end": found.end,
        "metric": found.goal.metric,
        "float": found.float_metric,
        "frames": {"learned_from": found.frames[0], "set_aside": found.frames[1]},
        "budget": found.budget,
        "best": found.best.number,
        "front": [entry.number for entry in front(found.tried)],
        "tried": [attrs.asdict(entry) for entry in found.tried],
    }


def render_tuning(found: TuneResult) -> RenderableType:
    """The way to the best configuration, and what accuracy costs."""
    learned, aside = found.frames
    best = found.best
    head = Table.grid(padding=(0, 2))
    head.add_row("goal", Text(f"{found.goal}: {'reached' if found.reached else 'missed'}; {found.end}"))
    head.add_row("frames", Text(f"{learned} learned from, {aside} set aside"))
    head.add_row("float", Text(f"{found.goal.metric} {figure(found.float_metric, '.4f')}"))
    if found.budget is not None:
        head.add_row("budget", Text(f"{found.budget:g} times the latency of 8 bits"))
    head.add_row("best", Text(f"{best.number}: {_options(best.options)}"))
    return spaced(
        [
            head,
            _Path(found),
            _front(found),
            Text(f"{FOLDER}/{FILE} has all, {FOLDER}/tried/ the options files", "dim"),
        ]
    )


@attrs.frozen
class _Path:
    """What was tried, one after the other; what each sets stands under its step where a line is short."""

    found: TuneResult

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw as wide as there is room."""
        found, wide = self.found, options.max_width >= WIDE
        right = (found.goal.metric, "SQNR dB", "ms", "s")
        columns = ("step", "sets", "", "why") if wide else ("step", "", "why")
        table = new_table("what was tried", "", *columns, right=right)
        before: Mapping[str, Any] = {}
        for entry in found.tried:
            new = {key: value for key, value in entry.options.items() if before.get(key) != value}
            figures = entry.figures
            step, sets = Text(entry.step), Text(_options(new), style="" if wide else "dim")
            table.add_row(
                str(entry.number),
                *([step, sets] if wide else [Text("\n").join([step, sets])]),
                Text("kept", style="green") if entry.kept else Text("dropped", style="dim"),
                Text(entry.why),
                figure(figures.metric if figures else None, ".4f"),
                db(figures.sqnr_db if figures else None),
                milliseconds(figures.latency_ms if figures else None),
                f"{entry.seconds:.1f}",
            )
            before = entry.options if entry.kept else before
        yield table


def _front(found: TuneResult) -> Table:
    right = (found.goal.metric, "SQNR dB", "ms")
    table = new_table("accuracy by latency: nothing tried is better in both", "", "sets", right=right)
    for entry in front(found.tried):
        figures = entry.figures
        mark = f"{entry.number} (best)" if entry.number == found.best.number else str(entry.number)
        table.add_row(
            mark,
            Text(_options(entry.options)),
            figure(figures.metric if figures else None, ".4f"),
            db(figures.sqnr_db if figures else None),
            milliseconds(figures.latency_ms if figures else None),
        )
    return table


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items()) or "nothing"
