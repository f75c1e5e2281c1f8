"""The report in the terminal: worst layers first, what to do about it at the end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lowtide.diagnostics import Diagnostic, Severity
from lowtide.errors import short_name
from lowtide.measure import Measurement
from lowtide.report.model import AgreementReport, LayerReport, OptionReport, PassReport, Report

WORST = 12
"""Layers that the terminal shows; report.json has all."""

OUTPUT_FIGURES = ("SQNR dB", "cosine", "largest error")

GOOD_DB, POOR_DB = 30.0, 15.0
"""Above the first an error seldom matters, below the second it mostly does; for colour only."""


def render_report(report: Report, *, every_layer: bool = False) -> RenderableType:
    """The whole report.

    Args:
        report: what to show.
        every_layer: all layers in executable order instead of the worst ones.
    """
    sections = report.sections.items()
    parts: list[RenderableType] = [_summary(report), _outputs(report)]
    parts.append(_layers(report, every_layer=every_layer))
    host = [layer for layer in report.layers if layer.placement == "host"]
    if host:
        parts.append(_host(host))
    parts += [_passes(report.passes), _options(report.options), _times(report)]
    parts += [Panel(Text(text), title=Text(title), title_align="left") for title, text in sections]
    if report.diagnostics:
        parts.append(_diagnostics(report.diagnostics))
    return spaced(parts)


def render_measurement(measurement: Measurement) -> RenderableType:
    """The error of every layer, worst isolated first, and of the outputs."""
    title = f"error by layer in dB, {measurement.frames} frames, worst first"
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
            Text(short_name(name)), db(sums.sqnr_db), _figure(sums.cosine, ".6f"), f"{sums.largest:.4g}"
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


def _figure(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def db(value: float | None) -> Text:
    """A figure in dB, coloured by how good it is."""
    if value is None or math.isnan(value):
        return Text("-", style="dim")
    if math.isinf(value):
        return Text("exact" if value > 0 else "lost", style="green" if value > 0 else "red")
    style = "green" if value >= GOOD_DB else "yellow" if value >= POOR_DB else "red"
    return Text(f"{value:.1f}", style=style)


def _summary(report: Report) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    model, device, calibration = report.model, report.device, report.calibration
    size = f"{model.nodes} nodes, {model.layers} layers, {model.parameters:,} parameters"
    grid.add_row("model", Text(f"{model.file or 'graph'}: {size}"))
    rule = f"scale type {device.scale_type}, {device.scale_rule}"
    grid.add_row("device", Text(f"{device.name} ({device.title}), {rule}"))
    parts = "part" if device.subgraphs == 1 else "parts"
    placed = f"{device.accelerator_layers} layers on the accelerator in {device.subgraphs} {parts}"
    grid.add_row("placement", Text(f"{placed}, {device.host_layers} on the host"))
    if report.ranges_from:
        grid.add_row("ranges", Text(report.ranges_from))
    if calibration is not None:
        seen = f"{calibration.frames} frames" + (", random" if calibration.synthetic else "")
        cached = ", from the cache" if calibration.cached else ""
        grid.add_row("calibration", Text(f"{calibration.calibrator}; {calibration.data}: {seen}{cached}"))
    return Panel(grid, title="lowtide", title_align="left", subtitle=report.lowtide_version)


def _outputs(report: Report) -> RenderableType:
    if not report.outputs:
        return Text("nothing was measured: no data was given", style="yellow")
    title = f"outputs against the float network, {report.measured_frames} frames"
    extra = ("emulated dB",) if report.agreement else ()
    table = new_table(title, "output", right=(*OUTPUT_FIGURES, *extra))
    for output in report.outputs:
        row: list[Text | str] = [db(output.sqnr_db), _figure(output.cosine, ".6f"), f"{output.max_error:.4g}"]
        emulated = [db(output.qdq_sqnr_db)] if extra else []
        table.add_row(Text(short_name(output.name)), *row, *emulated)
    return Group(table, Text(), _agreement(report.agreement)) if report.agreement else table


def _agreement(found: AgreementReport) -> Text:
    """One sentence on exact execution beside the emulation."""
    layers = (
        f"{found.layers} layers on the same codes differ in {found.layer_share:.2%} by {found.layer_largest}"
    )
    ends = f"from end to end {found.output_share:.2%} by at most {found.output_largest}"
    style = "dim" if found.layer_largest <= 1 else "yellow"
    return Text(f"exact ({found.arithmetic}) beside the Q/DQ emulation: {layers}, {ends}", style=style)


def _layers(report: Report, *, every_layer: bool) -> RenderableType:
    layers = [layer for layer in report.layers if layer.placement != "host"]
    if not layers:
        return Text("no layer runs on the accelerator", style="yellow")
    title = f"layers on the accelerator, all {len(layers)}; error in dB, alone and in sum"
    if not every_layer and len(layers) > WORST:
        layers = (sorted(layers, key=_badness) if report.measured_frames else layers)[:WORST]
        which = (
            f"the {WORST} with the largest error of their own"
            if report.measured_frames
            else f"the first {WORST}"
        )
        title = f"layers, {which}; error in dB, alone and in sum"
    table = new_table(title, "layer", "op", "codes", right=("weights", "range", "alone", "sum"))
    for layer in layers:
        table.add_row(*_layer_row(layer))
    return table


def _badness(layer: LayerReport) -> float:
    found = layer.sqnr_isolated_db
    return math.inf if found is None or math.isnan(found) else found


def _layer_row(layer: LayerReport) -> Iterator[RenderableType]:
    yield Text(short_name(layer.name))
    yield Text(layer.operator)
    yield Text(layer.dtype or "float")
    yield Text(f"{layer.weight_bits} bits" if layer.weight_bits else "-")
    yield Text(f"{layer.range[0]:.3g} to {layer.range[1]:.3g}" if layer.range else "-")
    yield db(layer.sqnr_isolated_db)
    yield db(layer.sqnr_cumulative_db)


def _host(layers: Sequence[LayerReport]) -> RenderableType:
    table = new_table("on the host, in float", "layer", "operator", "reason")
    for layer in layers[:WORST]:
        table.add_row(Text(short_name(layer.name)), Text(layer.operator), Text(layer.reason))
    if len(layers) > WORST:
        table.add_row(f"and {len(layers) - WORST} more", "", "report.json has all")
    return table


def _passes(passes: Iterable[PassReport]) -> RenderableType:
    table = new_table("passes that changed or refused something", "pass", "did", "refused")
    for item in passes:
        did = ", ".join(f"{name} {count}" for name, count in item.counters.items() if count)
        if did or item.refusals:
            more = f" (and {len(item.refusals) - 1} more)" if len(item.refusals) > 1 else ""
            refused = item.refusals[0] + more if item.refusals else ""
            table.add_row(Text(item.text), Text(did), Text(refused))
    return table if table.row_count else Text("no pass changed anything", style="dim")


def _options(options: Iterable[OptionReport]) -> RenderableType:
    table = new_table("options that were set or that have a note", "option", "value", "from", "note")
    for option in options:
        if option.origin == "default" and not option.note:
            continue
        overrode = f"; overrides {', '.join(option.overrode)}" if option.overrode else ""
        table.add_row(
            Text(option.name), Text(option.value), Text(option.origin + overrode), Text(option.note)
        )
    return table if table.row_count else Text("all options have their defaults", style="dim")


def _times(report: Report) -> RenderableType:
    stages = ", ".join(f"{stage.stage} {stage.wall:.1f}" for stage in report.times if stage.wall >= 0.05)
    total = sum(stage.wall for stage in report.times)
    cpu = sum(stage.cpu for stage in report.times)
    memory = f", at most {report.peak_memory_mb:.0f} MiB of memory" if report.peak_memory_mb else ""
    shares = f" ({stages})" if stages else ""
    return Text(f"{total:.1f} s{shares}, {cpu:.1f} s of CPU{memory}", style="dim")


def _diagnostics(diagnostics: Sequence[Diagnostic]) -> RenderableType:
    table = new_table("notes and remedies", "code", "where", "what", "remedy")
    ordered = sorted(diagnostics, key=lambda found: found.severity != Severity.WARNING)
    for found in ordered:
        style = "yellow" if found.severity == Severity.WARNING else ""
        row = (found.code, short_name(found.place), found.message, found.hint)
        table.add_row(*(Text(entry, style=style) for entry in row))
    return table
