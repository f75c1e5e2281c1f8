"""``lowtide diff``."""

from __future__ import annotations

import math
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from lowtide.cli.context import stdout
from lowtide.errors import OutputError, short_name
from lowtide.report.json import json_text
from lowtide.report.terminal import new_table
from lowtide_plugins.tidl_proto.compare import Difference, differences
from lowtide_plugins.tidl_proto.records import NetParams
from lowtide_plugins.tidl_proto.text import read


@click.command("diff")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(first: Path, second: Path, *, as_json: bool) -> None:
    """Show what differs between two quantization protos, or those of two output folders.

    The largest effect comes first: a scale that is twice as coarse costs 6 dB.
    """
    found = differences(_nets(first), _nets(second))
    if as_json:
        click.echo(json_text({"differences": [_as_json(entry) for entry in found]}), nl=False)
    elif found:
        stdout().print(_table(found, f"{first} and {second}: {len(found)} differences"))
    else:
        stdout().print(Text("no difference", style="green"))


def _nets(path: Path) -> list[NetParams]:
    if not path.is_dir():
        return [read(path)]
    files = sorted(path.glob("quant_params*.prototxt"))
    if not files:
        raise OutputError(
            "holds no quantization proto", place=str(path), hint="compile for one of the vendor's devices"
        )
    return [read(file) for file in files]


def _table(found: tuple[Difference, ...], title: str) -> Table:
    table = new_table(title, "layer", "tensor", "field", "before", "after", right=("effect dB",))
    for entry in found:
        effect = "-" if math.isinf(entry.effect) else f"{entry.effect:.1f}"
        row = (short_name(entry.layer), entry.tensor, entry.field, entry.before, entry.after, effect)
        table.add_row(*map(Text, row))
    return table


def _as_json(entry: Difference) -> dict[str, object]:
    effect = None if math.isinf(entry.effect) else entry.effect
    return {
        "layer": entry.layer,
        "tensor": entry.tensor,
        "field": entry.field,
        "before": entry.before,
        "after": entry.after,
        "effect_db": effect,
    }
