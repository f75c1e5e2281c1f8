"""The report in the terminal: worst layers first, what to do about it at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lowtide.errors import counted, short_name
from lowtide.report.layer_table import LayerTable, badness
from lowtide.report.model import (
    AgreementReport,
    FrontPoint,
    GoalReport,
    InputReport,
    LayerReport,
    OptionReport,
    PassReport,
    Report,
    StepReport,
)
from lowtide.report.remedies import diagnostics_block, findings_block
from lowtide.report.terminal import OUTPUT_FIGURES, apart, db, figure, milliseconds, new_table, spaced

WORST = 12
"""Layers that the terminal shows; report.json has all."""


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
    if report.front:
        parts.append(_front(report.front))
    places: list[InputReport | LayerReport] = [*report.inputs, *report.layers]
    wide = [entry for entry in places if entry.width_reason]
    if wide:
        parts.append(_widths(wide))
    if report.search_passes is not None:
        runs = f"the search for widths takes {report.search_passes:.1f} runs of the network for each frame"
        parts.append(Text(runs, style="dim"))
    if report.steps:
        parts.append(_steps(report.steps))
    parts += [_passes(report.passes), _options(report.options), _times(report)]
    parts += [Panel(Text(text), title=Text(title), title_align="left") for title, text in sections]
    if report.findings:
        parts.append(findings_block(report.findings))
    if report.diagnostics:
        parts.append(diagnostics_block(report.diagnostics))
    return spaced(parts)


def _summary(report: Report) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    model, device, calibration = report.model, report.device, report.calibration
    parts = (model.nodes, "node"), (model.layers, "layer"), (model.parameters, "parameter")
    size = ", ".join(counted(number, what) for number, what in parts)
    grid.add_row("model", Text(f"{model.file or 'graph'}: {size}"))
    rule = f"scale type {device.scale_type}, {device.scale_rule}"
    grid.add_row("device", Text(f"{device.name} ({device.title}), {rule}"))
    fast = counted(device.accelerator_layers, "layer")
    placed = f"{fast} on the accelerator in {counted(device.subgraphs, 'part')}"
    grid.add_row("placement", Text(f"{placed}, {device.host_layers} on the host"))
    if report.latency_ms is not None:
        rate = f", {1000 / report.latency_ms:,.0f} frames a second" if report.latency_ms > 0 else ""
        grid.add_row("latency", Text(f"{milliseconds(report.latency_ms)} ms estimated{rate}"))
    if report.goal is not None:
        style = "green" if report.goal.reached else "red"
        grid.add_row("goal", Text(goal_text(report.goal, report.latency_ms), style))
    if report.ranges_from:
        grid.add_row("ranges", Text(report.ranges_from))
    if calibration is not None:
        seen = counted(calibration.frames, "frame") + (", random" if calibration.synthetic else "")
        grid.add_row("calibration", Text(f"{calibration.calibrator}; {calibration.data}: {seen}"))
    return Panel(grid, title="lowtide", title_align="left", subtitle=report.lowtide_version)


def goal_text(goal: GoalReport, latency_ms: float | None) -> str:
    """How a network stands to a goal, in one line."""
    found = f"{goal.figure:.6g} {goal.unit}".rstrip()
    frames = counted(goal.frames, "frame")
    verdict = "reached" if goal.reached else "missed"
    return f"{goal.condition}: {verdict}, {found} on {frames} in {milliseconds(latency_ms)} ms"


def _outputs(report: Report) -> RenderableType:
    if not report.measured_frames:
        return Text("nothing was measured: no data was given", style="yellow")
    if not report.outputs:
        none = Text("no output has numbers to compare: the layers that they come from have", style="dim")
        return Group(none, Text(), _agreement(report.agreement, 0)) if report.agreement else none
    title = f"outputs against the float network, {counted(report.measured_frames, 'frame')}"
    extra = ("emulated dB",) if report.agreement else ()
    table = new_table(title, "output", right=(*OUTPUT_FIGURES, *extra))
    for output in report.outputs:
        row: list[Text | str] = [db(output.sqnr_db), figure(output.cosine, ".6f"), f"{output.max_error:.4g}"]
        emulated = [db(output.qdq_sqnr_db)] if extra else []
        table.add_row(Text(short_name(output.name)), *row, *emulated)
    return (
        Group(table, Text(), _agreement(report.agreement, len(report.outputs))) if report.agreement else table
    )


def _agreement(found: AgreementReport, outputs: int) -> Text:
    """One sentence on exact execution beside the emulation, for so many outputs that have numbers."""
    whole = ""
    if found.output_share is not None:
        whole = f", from end to end {found.output_share:.2%} by at most {found.output_largest}"
    if found.outputs < outputs:
        which = f"{outputs - found.outputs} of {outputs} outputs" if found.outputs else "outputs"
        whole = f"{whole}; {which} are float and not compared in codes"
    layers = (
        f"{counted(found.layers, 'layer')} on the same codes differ in {found.layer_share:.2%} "
        f"by {found.layer_largest}"
    )
    style = "dim" if found.layer_largest <= 1 else "yellow"
    return Text(f"exact ({found.arithmetic}) beside the Q/DQ emulation: {layers}{whole}", style=style)


def _layers(report: Report, *, every_layer: bool) -> RenderableType:
    layers = [layer for layer in report.layers if layer.placement != "host"]
    if not layers:
        return Text("no layer runs on the accelerator", style="yellow")
    shown, which = layers, f"all {len(layers)}"
    if not every_layer:
        measured = report.measured_frames > 0
        shown = (sorted(layers, key=badness) if measured else layers)[:WORST]
        which = f"{which}, worst first" if measured else which
        if len(shown) < len(layers):
            which = f"the {WORST} {'worst' if measured else 'first'} of {len(layers)}"
    title = f"layers on the accelerator, {which}; dB alone and in sum"
    return LayerTable(title, shown)


def _host(layers: Sequence[LayerReport]) -> RenderableType:
    table = new_table("on the host, in float", "layer", "operator", "reason")
    for layer in layers[:WORST]:
        table.add_row(Text(short_name(layer.name)), Text(layer.operator), Text(layer.reason))
    if len(layers) > WORST:
        table.add_row(f"and {len(layers) - WORST} more", "", "report.json has all")
    return table


def _front(front: Sequence[FrontPoint]) -> RenderableType:
    """The assignments from the fastest to the most exact; of many, some evenly spread and the chosen one.

    What emulation alone says has a tilde.
    """
    table = new_table("widths that were weighed", "point", "", "in 16 bits", right=("ms", "SQNR dB"))
    ordered = sorted(front, key=lambda point: (point.latency_ms, point.error_db))
    step = max(1, (len(ordered) - 1) / (WORST - 1))
    spread = {round(index * step) for index in range(WORST)}
    times = apart([point.latency_ms for point in ordered])
    for index, point in enumerate(ordered):
        if point.chosen or index in spread:
            mark = Text("chosen", style="bold") if point.chosen else Text()
            number = "" if point.number is None else str(point.number)
            figures = times[index], f"{'' if point.measured else '~'}{db(point.error_db)}"
            table.add_row(number, mark, Text(point.label), *figures)
    if table.row_count < len(ordered):
        table.add_row("", "", f"and {len(ordered) - table.row_count} more in report.json", "", "")
    return table


def _widths(wide: Sequence[InputReport | LayerReport]) -> RenderableType:
    """Network inputs and layers, in executable order; the output of an input is the input itself."""
    table = new_table("in 16 bits", "layer or input", "why", right=("output", "weights"))
    for entry in wide[:WORST]:
        weights = entry.weight_bits if isinstance(entry, LayerReport) else None
        figures = (str(bits) if bits else "-" for bits in (entry.bits, weights))
        table.add_row(Text(short_name(entry.name)), Text(entry.width_reason), *figures)
    if len(wide) > WORST:
        table.add_row(f"and {len(wide) - WORST} more", "report.json has all", "", "")
    return table


def _steps(steps: Sequence[StepReport]) -> RenderableType:
    table = new_table("steps for accuracy", "step", "", right=("before dB", "after dB", "gain", "s"))
    for step in steps:
        kept = Text("kept", style="green") if step.kept else Text("dropped", style="dim")
        gain = step.sqnr_after_db - step.sqnr_before_db
        table.add_row(
            Text(step.step),
            kept,
            db(step.sqnr_before_db),
            db(step.sqnr_after_db),
            figure(gain, "+.1f"),
            f"{step.seconds:.1f}",
        )
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
    stages = ", ".join(
        f"{stage.stage} {stage.wall:.1f}{' from the cache' * stage.cached}"
        for stage in report.times
        if stage.wall >= 0.05 or stage.cached
    )
    total = sum(stage.wall for stage in report.times)
    cpu = sum(stage.cpu for stage in report.times)
    memory = f", at most {report.peak_memory_mb:.0f} MiB of memory" if report.peak_memory_mb else ""
    shares = f" ({stages})" if stages else ""
    return Text(f"{total:.1f} s{shares}, {cpu:.1f} s of CPU{memory}", style="dim")
