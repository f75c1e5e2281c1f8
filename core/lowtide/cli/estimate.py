"""``lowtide estimate``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lowtide.cli.compile import required
from lowtide.cli.context import registry_of, stdout
from lowtide.cli.shared import given_options, option_options
from lowtide.compiler.latency import Estimate, estimate_model, estimate_output
from lowtide.compiler.output import load_output
from lowtide.compiler.request import CompileRequest
from lowtide.errors import counted, short_name
from lowtide.latency import LatencyTable
from lowtide.report.json import json_text
from lowtide.report.terminal import milliseconds, new_table, spaced


@click.command("estimate")
@click.argument("source", metavar="MODEL|DIR", required=False, type=click.Path(path_type=Path))
@click.option("--target", metavar="NAME", help="The device; see `lowtide targets`.")
@click.option("--bits", type=click.Choice(["8", "16"]), help="One width for everything.")
@option_options
@click.option("--slowest", type=click.IntRange(min=1), metavar="N", help="Only the N slowest layers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    source: Path | None,
    target: str | None,
    bits: str | None,
    options_file: Path | None,
    assignments: tuple[str, ...],
    slowest: int | None,
    as_json: bool,
) -> None:
    """Estimate how long each layer of MODEL, or of the output folder DIR, takes on the device.

    Without --bits a folder or a quantized model has the widths of its codes, a float model those of the
    options, as far as these need no data: of a budget or a goal the figure that has to be kept is told.
    """
    registry = registry_of(ctx)
    if source is not None and source.is_dir():
        if bits is not None or options_file is not None or assignments:
            raise click.UsageError(
                "an output folder has its own widths and options: leave --bits, --options and --set out"
            )
        found = estimate_output(load_output(source), registry, target)
    else:
        given = given_options(options_file, assignments)
        model = source or required(given.model(), "no model is given", "MODEL", "model_path")
        named = given.named_target(registry) if target is None else target
        device = required(named, "no device is given", "--target NAME", "target_device")
        request = CompileRequest(model=model, target=device, options=given.layers, registry=registry)
        found = estimate_model(request, None if bits is None else int(bits))
    if as_json:
        click.echo(json_text(_as_json(found)), nl=False)
    else:
        stdout().print(spaced(list(_shown(found, slowest))))


def _shown(found: Estimate, slowest: int | None) -> Iterator[RenderableType]:
    yield _layers(found, slowest)
    yield _bounds(found.table)
    yield Text(total_text(found.table), style="bold")
    if found.left_open:
        yield Text(found.left_open, style="yellow")
    why: dict[str, float] = {}
    for cost in found.table.layers:
        if cost.extrapolated:
            why[cost.extrapolated] = why.get(cost.extrapolated, 0.0) + cost.ms
    if why:
        ordered = sorted(why.items(), key=lambda part: -part[1])
        parts = ", ".join(f"{reason} {milliseconds(ms)} ms" for reason, ms in ordered)
        yield Text(f"beyond what the model was fitted on: {parts}", style="yellow")


def total_text(table: LatencyTable) -> str:
    """The sum and how far off such sums are."""
    text = f"{milliseconds(table.total_ms)} ms a frame"
    if table.total_ms > 0:
        text += f", {1000 / table.total_ms:,.0f} frames a second"
    if table.stated_error is None:
        return f"{text}; the model was not held against measured times"
    return f"{text}; on other networks the model is {table.stated_error:.0%} off on average"


def _layers(found: Estimate, slowest: int | None) -> Table:
    costs = found.table.layers
    title = f"{found.target.title}, all {counted(len(costs), 'layer')}"
    if slowest is not None and slowest < len(costs):
        costs = tuple(sorted(costs, key=lambda cost: -cost.ms)[:slowest])
        title = f"{found.target.title}, the {slowest} slowest of {len(found.table.layers)} layers"
    table = new_table(title, "layer", "op", "bits", "bound by", right=("ms", "share", "MMAC", "kB"))
    total = found.table.total_ms or 1.0
    for cost in costs:
        table.add_row(
            Text(short_name(cost.layer)),
            Text(found.placement.of(cost.layer).op),
            _bits(found, cost.layer),
            cost.bound,
            milliseconds(cost.ms),
            f"{cost.ms / total:.1%}",
            f"{cost.macs / 1e6:,.1f}" if cost.macs else "",
            f"{cost.bytes / 1e3:,.0f}",
        )
    return table


def _bits(found: Estimate, layer: str) -> str:
    """Widths of the output and of the parameters, where they differ."""
    if not found.placement.on_accelerator(layer):
        return "float"
    output, weights = found.plan.activations.get(layer), found.plan.weights.get(layer)
    if output is None:
        return "float"
    return f"{output}" if weights in {None, output} else f"{output}/{weights}"


def _bounds(table: LatencyTable) -> Table:
    """What the network waits for, over all layers."""
    shown = new_table("", "bound by", right=("layers", "ms", "share"))
    total = table.total_ms or 1.0
    for bound in dict.fromkeys(cost.bound for cost in sorted(table.layers, key=lambda cost: -cost.ms)):
        several = [cost.ms for cost in table.layers if cost.bound == bound]
        shown.add_row(bound, str(len(several)), milliseconds(sum(several)), f"{sum(several) / total:.1%}")
    if table.call_ms:
        shown.add_row("start of the network", "", milliseconds(table.call_ms), f"{table.call_ms / total:.1%}")
    return shown


def _as_json(found: Estimate) -> dict[str, Any]:
    table = found.table
    return {
        "target": found.target.name,
        "total_ms": table.total_ms,
        "budget_ms": found.budget_ms,
        "left_open": found.left_open,
        "call_ms": table.call_ms,
        "stated_error": table.stated_error,
        "layers": [
            {
                "name": cost.layer,
                "operator": found.placement.of(cost.layer).op,
                "placement": found.placement.of(cost.layer).device,
                "bits": found.plan.activations.get(cost.layer),
                "weight_bits": found.plan.weights.get(cost.layer),
                "ms": cost.ms,
                "bound": cost.bound,
                "macs": cost.macs,
                "bytes": cost.bytes,
                "extrapolated": cost.extrapolated,
            }
            for cost in table.layers
        ],
    }
