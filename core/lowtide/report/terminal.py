"""What the terminal shows everywhere: tables, figures in dB, notes; and the error of every layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lowtide.errors import counted, short_name
from lowtide.measure import Measurement

OUTPUT_FIGURES = ("SQNR dB", "cosine", "largest error")

GOOD_DB, POOR_DB = 30.0, 15.0
"""Above the first an error seldom matters, below the second it mostly does; for colour only."""

MOST_DIGITS = 7
"""Latencies that differ in later ones look the same."""


def render_measurement(measurement: Measurement) -> RenderableType:
    """The error of every layer, worst isolated first, and of the outputs."""
    title = f"error by layer in dB, {counted(measurement.frames, 'frame')}, worst first"
    table = new_table(title, "layer", right=("isolated", "cumulative", "largest error"))
    rows = sorted(
        measurement.layers,
        key=lambda error: error.isolated.sqnr_db if error.isolated else error.cumulative.sqnr_db,
    )
    for error in rows:
        isolated = error.isolated.sqnr_db if error.isolated else None
        table.add_row(
            Text(short_name(error.layer)),
            db(isolated),
            db(error.cumulative.sqnr_db),
            f"{error.cumulative.largest:.4g}",
        )
    outputs = new_table("outputs", "output", right=OUTPUT_FIGURES)
    for name, sums in measurement.outputs.items():
        outputs.add_row(
            Text(short_name(name)), db(sums.sqnr_db), figure(sums.cosine, ".6f"), f"{sums.largest:.4g}"
        )
    return spaced([table, outputs])


def spaced(parts: Sequence[RenderableType]) -> Group:
    """One part under the other, with an empty line between."""
    return Group(*[entry for part in parts for entry in (part, Text())][:-1])


def new_table(title: str, *columns: str, right: Sequence[str] = ()) -> Table:
    """A table whose long entries are folded, never cut.

    Args:
        title: the line above, as it is: no markup.
        columns: headings of the columns with text.
        right: headings of the columns with figures, which follow.
    """
    table = Table(
        title=Text(title) if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    for column in right:
        table.add_column(column, justify="right", overflow="fold")
    return table


def figure(value: float | None, form: str) -> str:
    """A figure in a table, a dash for one that is not known."""
    if value is None or math.isnan(value):
        return "-"
    return "no limit" if math.isinf(value) else format(value, form)


def milliseconds(value: float | None, digits: int = 3) -> str:
    """A latency with so many digits, without powers of ten."""
    if value is None or not 0 < value < 1000:
        return "-" if value is None else f"{value:,.0f}"
    return f"{value:#.{digits}g}".rstrip(".") if value >= 1e-4 else "<0.0001"


def apart(values: Sequence[float]) -> list[str]:
    """Latencies with as many digits, 3 to `MOST_DIGITS`, as tell different ones apart."""
    for digits in range(3, MOST_DIGITS):
        shown = [milliseconds(value, digits) for value in values]
        if len(set(shown)) == len(set(values)):
            return shown
    return [milliseconds(value, MOST_DIGITS) for value in values]


def db(value: float | None) -> Text:
    """A figure in dB, coloured by how good it is."""
    if value is None or math.isnan(value):
        return Text("-", style="dim")
    if math.isinf(value):
        return Text("exact" if value > 0 else "lost", style="green" if value > 0 else "red")
    style = "green" if value >= GOOD_DB else "yellow" if value >= POOR_DB else "red"
    return Text(f"{value:.1f}", style=style)
