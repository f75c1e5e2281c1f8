"""``lowtide check``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import click

from lowtide.cli.compile import required
from lowtide.cli.context import registry_of, stdout
from lowtide.cli.preflight import render_preflight
from lowtide.cli.shared import data_options, given_options, option_options, progress_bars
from lowtide.compiler.check import Preflight, check
from lowtide.compiler.request import CompileRequest
from lowtide.report.json import json_text
from lowtide.report.terminal import spaced

REFUSED = 2
"""The exit status when a compile would refuse the model."""


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
        stdout().print(spaced(list(render_preflight(found))))
    return REFUSED if found.stops else 0


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
        "borders": [attrs.asdict(border) for border in found.borders],
        "heads": [{"layer": head.layer, "kind": head.kind} for head in found.heads],
        "lists": [attrs.asdict(entry) for entry in found.lists],
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
        "left_open": found.left_open,
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
        "refused": found.stops,
    }
