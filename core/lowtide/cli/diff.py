"""``lowtide diff``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lowtide.cli.context import registry_of, stdout
from lowtide.compiler.diff import FolderDiff, diff_outputs
from lowtide.compiler.output import load_output
from lowtide.difference import Comparison, Difference
from lowtide.errors import OutputError, counted, nearest, short_name
from lowtide.plugin import ComparisonSpec, Registry, plugin_code
from lowtide.report.json import json_text
from lowtide.report.terminal import new_table, spaced

ROWS = 20
"""Differences of layers that the terminal shows; --json and --all have all of them."""


@click.command("diff")
@click.argument("first", metavar="DIR|FILE", type=click.Path(path_type=Path))
@click.argument("second", metavar="DIR|FILE", type=click.Path(path_type=Path))
@click.option(
    "--all", "every", is_flag=True, help=f"Show all differences of layers, not only the first {ROWS}."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(ctx: click.Context, *, first: Path, second: Path, every: bool, as_json: bool) -> None:
    """Show what differs between two output folders, or two files that a plugin can compare.

    Options and versions, error at the outputs, and by layer placement, widths, ranges, scales, weights,
    error and latency; the largest effect comes first: a scale that is twice as coarse costs 6 dB.
    """
    if first.is_dir() and second.is_dir():
        found = diff_outputs(load_output(first), load_output(second))
        if as_json:
            click.echo(json_text(_folders(found)), nl=False)
        else:
            stdout().print(spaced(list(_shown(found, every=every))))
        return
    rows = _compared(first, second, registry_of(ctx))
    if as_json:
        click.echo(json_text({"differences": [_row(entry) for entry in rows]}), nl=False)
    elif rows:
        stdout().print(_differences(f"{first} and {second}: {counted(len(rows), 'difference')}", rows))
    else:
        stdout().print(Text("no difference", style="green"))


def _compared(first: Path, second: Path, registry: Registry) -> tuple[Difference, ...]:
    """What differs between two files, as the plugin says that compares files of their kind.

    Raises:
        OutputError: when one is not there, or nobody compares files of their kind.
        PluginError: naming the comparison, when it fails.
    """
    for path in (first, second):
        if not path.exists():
            raise OutputError("there is no such file or folder", place=str(path))
    wanted = {path.suffix.lower() for path in (first, second) if not path.is_dir()}
    known: list[str] = []
    for spec in registry.all(ComparisonSpec):
        if wanted <= set(spec.suffixes):
            kind: type[Comparison] = registry.load(ComparisonSpec, spec.name)
            with plugin_code(registry.describe(spec)):
                return tuple(kind().differences(first, second))
        known += spec.suffixes
    raise OutputError(
        f"files in {' and '.join(sorted(wanted)) or 'no suffix'} cannot be compared",
        place=f"{first} and {second}",
        hint=f"give two output folders, or files of one kind; {nearest(min(wanted), known)}",
    )


def _shown(found: FolderDiff, *, every: bool) -> Iterator[RenderableType]:
    if found.same:
        yield Text("no difference", style="green")
    if found.settings:
        table = new_table("what was asked for", "what", "before", "after")
        for entry in found.settings:
            table.add_row(*(Text(text or "-") for text in (entry.name, entry.before, entry.after)))
        yield table
    if found.outputs:
        yield _differences("outputs", found.outputs)
    if found.layers:
        rows = found.layers if every else found.layers[:ROWS]
        more = (
            ""
            if len(rows) == len(found.layers)
            else f", the {ROWS} of {len(found.layers)} with the largest effect"
        )
        yield _differences(f"layers{more}", rows)
    if found.latency:
        table = new_table("estimated latency", "layer", right=("before ms", "after ms", "change ms"))
        for change in found.latency if every else found.latency[:ROWS]:
            figures = ("-" if ms is None else f"{ms:.3f}" for ms in (change.before, change.after))
            name = short_name(change.layer) or "the whole network"
            table.add_row(Text(name), *figures, f"{change.effect:+.3f}")
        yield table


def _differences(title: str, rows: Sequence[Difference]) -> Table:
    table = new_table(title, "layer", "what", "before", "after", right=("effect dB",))
    for entry in rows:
        what = f"{entry.tensor} {entry.field}".lstrip()
        row = (short_name(entry.layer), what, entry.before, entry.after, _effect(entry.effect))
        table.add_row(*map(Text, row))
    return table


def _effect(effect: float) -> str:
    return f"{effect:.1f}" if effect and math.isfinite(effect) else "-"


def _folders(found: FolderDiff) -> dict[str, object]:
    return {
        "same": found.same,
        "settings": [{"name": s.name, "before": s.before, "after": s.after} for s in found.settings],
        "outputs": [_row(entry) for entry in found.outputs],
        "layers": [_row(entry) for entry in found.layers],
        "latency": [
            {"layer": change.layer, "before_ms": change.before, "after_ms": change.after}
            for change in found.latency
        ],
    }


def _row(entry: Difference) -> dict[str, object]:
    return {
        "layer": entry.layer,
        "tensor": entry.tensor,
        "field": entry.field,
        "before": entry.before,
        "after": entry.after,
        "effect_db": None if math.isinf(entry.effect) else entry.effect,
    }
