"""The tables of ``lowtide check``."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lowtide.cli.doctor import render_examination
from lowtide.cli.estimate import total_text
from lowtide.compiler.check import Preflight
from lowtide.errors import counted, short_name
from lowtide.report.terminal import new_table
from lowtide.target import Assignment

BORDERS, NAMES = 8, 3
"""How many are named."""

KINDS = {"regression": "numbers", "scores": "scores"}
STYLES = {"refused": "red", "converted": "yellow", "repaired": "green", "kept": "dim"}


def render_preflight(found: Preflight) -> Iterator[RenderableType]:
    """Summary, what stands in the way, what helps, and the verdict."""
    yield _summary(found)
    if found.left_open:
        yield Text(found.left_open, style="yellow")
    yield from _parts(found)
    yield from _host(found)
    yield from _borders(found)
    yield from _lists(found)
    yield from _heads(found)
    yield from _findings(found)
    yield from _scales(found)
    if found.frames is not None:
        yield from render_examination(found.frames)
    for diagnostic in found.compilation.diagnostics:
        hint = f" ({diagnostic.hint})" if diagnostic.hint else ""
        yield Text(f"{diagnostic.code} {short_name(diagnostic.place)}: {diagnostic.message}{hint}")
    yield _verdict(found)


def _summary(found: Preflight) -> Table:
    c = found.compilation
    on_device = sum(c.placement.on_accelerator(layer.name) for layer in found.layers)
    table = new_table("", "what", "value")
    rows = (
        ("model", f"{counted(len(c.imported), 'node')}, {counted(len(found.layers), 'layer')} after fusion"),
        ("device", f"{c.target.title}, scale type {c.scale_type} ({c.rule.name})"),
        ("numbers", "its own codes" if c.prequantized else "float, to be quantized"),
        ("accelerator", f"{counted(on_device, 'layer')} in {counted(len(c.placement.subgraphs), 'part')}"),
        ("host", counted(len(found.layers) - on_device, "layer")),
    )
    for row in rows:
        table.add_row(*map(Text, row))
    if found.latency is not None:
        table.add_row("latency", Text(total_text(found.latency)))
    return table


def _parts(found: Preflight) -> Iterator[Table]:
    parts = found.compilation.placement.subgraphs
    if len(parts) > 1:
        table = new_table("parts of the accelerator", "part", "from", "to", right=("layers",))
        for number, part in enumerate(parts):
            ends = (short_name(part[0]), short_name(part[-1]))
            table.add_row(str(number), *map(Text, ends), str(len(part)))
        yield table


def _host(found: Preflight) -> Iterator[Table]:
    """Layers with the same reason share a row."""
    placement = found.compilation.placement
    off = [placement.of(layer.name) for layer in found.layers if not placement.on_accelerator(layer.name)]
    rows: dict[tuple[str, str], list[Assignment]] = {}
    for entry in off:
        rows.setdefault((entry.reason, entry.hint), []).append(entry)
    if rows:
        table = new_table("layers on the host", "layer", "operator", "reason", "remedy")
        for (reason, hint), entries in rows.items():
            operators = ", ".join(dict.fromkeys(entry.op for entry in entries))
            table.add_row(*map(Text, (_named([e.layer for e in entries]), operators, reason, hint)))
        yield table


def _borders(found: Preflight) -> Iterator[Table]:
    if found.borders:
        known = [border.elements for border in found.borders if border.elements is not None]
        title = f"tensors between accelerator and host: {len(found.borders)}, {_kib(sum(known))} a frame"
        table = new_table(title, "tensor", "to", "read by", right=("as float",))
        for border in found.borders[:BORDERS]:
            size = "-" if border.elements is None else _kib(border.elements)
            table.add_row(*map(Text, (short_name(border.tensor), border.to, short_name(border.reader))), size)
        if len(found.borders) > BORDERS:
            table.add_row(f"and {len(found.borders) - BORDERS} more", "", "", "")
        yield table


def _kib(elements: int) -> str:
    return f"{elements * 4 / 1024:.1f} KiB"


def _lists(found: Preflight) -> Iterator[Table]:
    if found.lists:
        table = new_table("16-bit lists", "list", "finding", "remedy")
        for entry in found.lists:
            style = "red" if entry.stops else "yellow"
            row = (entry.option.rpartition(":")[2], entry.message, entry.hint)
            table.add_row(*(Text(text, style=style) for text in row))
        yield table


def _heads(found: Preflight) -> Iterator[RenderableType]:
    if not found.heads:
        return
    table = new_table("detection head", "gives", "layers")
    for kind, words in KINDS.items():
        names = [head.layer for head in found.heads if head.kind == kind]
        if names:
            table.add_row(words, Text(", ".join(map(short_name, names))))
    yield table
    narrow = found.narrow_heads
    if narrow:
        given = found.compilation.options.output_feature_16bit_names_list
        listed = ",".join(dict.fromkeys((*given, *narrow)))
        text = "numbers in 8 bits lose the precision of boxes; if they do, --set "
        yield Text(f"{text}output_feature_16bit_names_list={listed}", style="yellow")


def _named(names: list[str]) -> str:
    shown = ", ".join(map(short_name, names[:NAMES]))
    return shown if len(names) <= NAMES else f"{shown} and {len(names) - NAMES} more"


def _findings(found: Preflight) -> Iterator[Table]:
    if found.findings:
        table = new_table("scales of the model", "code", "tensor", "finding", "compile")
        for entry in found.findings:
            style = STYLES.get(entry.action, "")
            table.add_row(
                Text(entry.code),
                Text(short_name(entry.tensor)),
                Text(entry.message),
                Text(entry.action, style=style),
            )
        yield table


def _scales(found: Preflight) -> Iterator[Table]:
    if not found.compilation.prequantized or not (found.inferred or found.needs_data):
        return
    table = new_table("scales that the model leaves out", "tensor", "comes from")
    for name, other in found.inferred.items():
        table.add_row(Text(short_name(name)), Text(short_name(other)))
    for name in found.needs_data:
        table.add_row(Text(short_name(name)), Text("calibration: --data is needed"))
    yield table


def _verdict(found: Preflight) -> Text:
    stopping = [entry for entry in found.lists if entry.stops]
    if stopping:
        return Text(f"a compile would stop at {stopping[0].option}: {stopping[0].message}", style="red")
    if found.frames is not None and found.frames.fatal:
        bad = next(entry for entry in found.frames.findings if entry.fatal)
        return Text(f"a compile would stop at {bad.place}, which {bad.cause}", style="red")
    if found.refused:
        text = (
            f"a compile would refuse this model: the device has not {len(found.refused)} of its scales. "
            "--set recalibrate=convert keeps the ranges and makes codes that the device has; "
            "--set recalibrate=data calibrates anew."
        )
        return Text(text, style="red")
    repaired = sum(entry.action == "repaired" for entry in found.findings)
    converted = sum(entry.action == "converted" for entry in found.findings)
    parts = [
        counted(number, what) for number, what in ((repaired, "repair"), (converted, "conversion")) if number
    ]
    data = "calibration data is needed" if found.needs_data else "no calibration data is needed"
    return Text(f"ready to compile: {', '.join([*parts, data])}", style="green")
