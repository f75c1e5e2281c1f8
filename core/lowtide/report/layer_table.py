"""The table of layers, with as many columns as the terminal has room for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import attrs
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from lowtide.errors import short_name
from lowtide.report.model import LayerReport
from lowtide.report.terminal import db, figure, milliseconds, new_table

Cell = Callable[[LayerReport], RenderableType]


def _range(layer: LayerReport) -> str:
    return f"{layer.range[0]:.3g} to {layer.range[1]:.3g}" if layer.range else "-"


TEXTS: Mapping[str, tuple[int, Cell]] = {
    "layer": (0, lambda layer: Text(short_name(layer.name))),
    "op": (72, lambda layer: Text(layer.operator)),
    "codes": (0, lambda layer: Text(layer.dtype or "float")),
}
FIGURES: Mapping[str, tuple[int, Cell]] = {
    "weights": (100, lambda layer: f"{layer.weight_bits} bits" if layer.weight_bits else "-"),
    "scale": (140, lambda layer: figure(layer.scale, ".4g")),
    "range": (72, _range),
    "largest error": (120, lambda layer: figure(layer.max_error, ".3g")),
    "alone": (0, lambda layer: db(layer.sqnr_isolated_db)),
    "sum": (0, lambda layer: db(layer.sqnr_cumulative_db)),
}
LATENCY: Mapping[str, tuple[int, Cell]] = {
    "ms": (0, lambda layer: milliseconds(layer.latency_ms)),
    "bound": (100, lambda layer: Text(layer.bound)),
}
"""Columns: the width of a terminal from which they are shown, and what is in them."""


@attrs.frozen
class LayerTable:
    """Layers, one in a row; those of latency only where it is known."""

    title: str
    layers: Sequence[LayerReport]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        timed = any(layer.latency_ms is not None for layer in self.layers)
        right = {**FIGURES, **LATENCY} if timed else FIGURES
        texts = {name: cell for name, (width, cell) in TEXTS.items() if options.max_width >= width}
        figures = {name: cell for name, (width, cell) in right.items() if options.max_width >= width}
        table = new_table(self.title, *texts, right=tuple(figures))
        table.collapse_padding = True  # names are long and there are many columns
        for layer in self.layers:
            table.add_row(*(cell(layer) for cell in (*texts.values(), *figures.values())))
        yield table


def badness(layer: LayerReport) -> float:
    """What sorts the worst layer first: its own error, and layers without one last."""
    found = layer.sqnr_isolated_db
    return math.inf if found is None or math.isnan(found) else found
