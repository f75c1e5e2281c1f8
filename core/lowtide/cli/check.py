"""``lowtide check``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import click
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lowtide.cli.compile import required
from lowtide.cli.context import registry_of, stdout
from lowtide.cli.doctor import render_examination
from lowtide.cli.estimate import total_text
from lowtide.cli.shared import data_options, given_options, option_options, progress_bars
from lowtide.compiler.check import Preflight, check
from lowtide.compiler.request import CompileRequest
from lowtide.errors import short_name
from lowtide.report.json import json_text
from lowtide.report.terminal import new_table, spaced

REFUSED = 2
"""The exit status when a compile would refuse the model."""

STYLES = {"refused": "red", "converted": "yellow", "repaired": "green", "kept": "dim"}


@click.command("check")
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option("--target", metavar="NAME", help="The device; see `lowtide targets`.")
@data_options
@option_options
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
    as_json: bool,
) -> int:
    """Say what a compile of MODEL would meet, without running it.

    Which layers run on the host and why, and for a quantized model which of its scales the device can take,
    what would be repaired, and what stops the compile. With --data, how many of the frames are needed, and
    which are unusable, unusual, the same, or prepared for another network. Exit status 2 when a compile would
    be refused.
    """
    given = given_options(options_file, assignments)
    model = model or required(given.model(), "no model is given", "MODEL", "model_path")
    named = given.named_target(registry_of(ctx)) if target is None else target
    target = required(named, "no device is given", "--target NAME", "target_device")
    with progress_bars() as progress:
        found = check(
            CompileRequest(
                model=model,
                target=target,
                data=data,
                frames=frames,
                labels=labels,
                options=given.layers,
                preprocess=given.preprocess,
                registry=registry_of(ctx),
                progress=progress,
            )
        )
    if as_json:
        click.echo(json_text(_as_json(found)), nl=False)
    else:
        stdout().print(spaced(list(_tables(found))))
    return REFUSED if found.refused or (found.frames is not None and found.frames.fatal) else 0


def _tables(found: Preflight) -> Iterator[RenderableType]:
    yield _summary(found)
    yield from _host(found)
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
        ("model", f"{len(c.imported)} nodes, {len(found.layers)} layers after fusion"),
        ("device", f"{c.target.title}, scale type {c.scale_type} ({c.rule.name})"),
        ("numbers", "its own codes" if c.prequantized else "float, to be quantized"),
        ("accelerator", f"{on_device} layers in {len(c.placement.subgraphs)} parts"),
        ("host", f"{len(found.layers) - on_device} layers"),
    )
    for row in rows:
        table.add_row(*map(Text, row))
    if found.latency is not None:
        table.add_row("latency", Text(total_text(found.latency)))
    return table


def _host(found: Preflight) -> Iterator[Table]:
    placement = found.compilation.placement
    off = [placement.of(layer.name) for layer in found.layers if not placement.on_accelerator(layer.name)]
    if off:
        table = new_table("layers on the host", "layer", "operator", "reason", "remedy")
        for entry in off:
            table.add_row(*map(Text, (short_name(entry.layer), entry.op, entry.reason, entry.hint)))
        yield table


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
    if found.refused:
        text = (
            f"a compile would refuse this model: the device has not {len(found.refused)} of its scales. "
            "--set recalibrate=convert keeps the ranges and makes codes that the device has; "
            "--set recalibrate=data calibrates anew."
        )
        return Text(text, style="red")
    repaired = sum(entry.action == "repaired" for entry in found.findings)
    converted = sum(entry.action == "converted" for entry in found.findings)
    parts = [f"{repaired} repairs"] * bool(repaired) + [f"{converted} conversions"] * bool(converted)
    data = "calibration data is needed" if found.needs_data else "no calibration data is needed"
    return Text(f"ready to compile: {', '.join([*parts, data])}", style="green")


def _as_json(found: Preflight) -> dict[str, Any]:
    c = found.compilation
    frames = found.frames
    return {
        "target": c.target.name,
        "scale_type": c.scale_type,
        "prequantized": c.prequantized,
        "layers": [
            {
                "name": entry.layer,
                "operator": entry.op,
                "device": entry.device,
                "reason": entry.reason,
                "hint": entry.hint,
                "subgraph": entry.subgraph,
            }
            for entry in c.placement.assignments
        ],
        "findings": [
            {
                "code": entry.code,
                "place": entry.place,
                "tensor": entry.tensor,
                "message": entry.message,
                "action": entry.action,
            }
            for entry in found.findings
        ],
        "latency_ms": None if found.latency is None else found.latency.total_ms,
        "inferred": found.inferred,
        "needs_data": list(found.needs_data),
        "diagnostics": [
            {
                "severity": str(d.severity),
                "code": d.code,
                "place": d.place,
                "message": d.message,
                "hint": d.hint,
            }
            for d in c.diagnostics
        ],
        "frames": None if frames is None else attrs.asdict(frames),
        "refused": bool(found.refused),
    }
