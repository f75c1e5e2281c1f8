"""``lowtide evaluate``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from lowtide.cli.context import registry_of, stdout
from lowtide.cli.gates import gates_of, judge, metric_names, require_option
from lowtide.cli.shared import (
    data_options,
    frames_for,
    given_options,
    option_options,
    preprocess_of,
    progress_bars,
)
from lowtide.compiler.output import SavedOutput, load_output
from lowtide.compiler.run import MODES, Mode, session_of
from lowtide.errors import OptionError, counted
from lowtide.measure import Evaluation, Metric, evaluate
from lowtide.measure.gates import FIGURES, PLACE, Gate
from lowtide.plugin import MetricSpec
from lowtide.report.json import json_text
from lowtide.report.terminal import new_table


@click.command("evaluate")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@data_options
@option_options
@click.option(
    "--metric",
    "names",
    multiple=True,
    metavar="NAME",
    help="See `lowtide metrics`; repeatable.",
)
@require_option
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="exact",
    show_default=True,
    help="exact: as the device computes; qdq: as ONNX Runtime emulates the codes; float: the network before.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    folder: Path,
    data: str | None,
    frames: int | None,
    labels: str | None,
    options_file: Path | None,
    assignments: tuple[str, ...],
    names: tuple[str, ...],
    requirements: tuple[str, ...],
    mode: Mode,
    as_json: bool,
) -> int:
    """Measure task metrics of an output folder, the float network beside the quantized one.

    --require judges the quantized network: by a metric, which is measured then, or by a figure of the report.
    """
    registry = registry_of(ctx)
    gates = gates_of(requirements, registry)
    names = tuple(dict.fromkeys((*names, *metric_names(gates, registry, beside={}))))
    if not names:
        raise click.UsageError("--metric is needed, or --require with a metric; see `lowtide metrics`")
    saved = load_output(folder)
    figures = _reported(saved, [gate for gate in gates if gate.name not in names])
    given = given_options(options_file, assignments)
    source = frames_for(saved.reference, data, frames, labels, preprocess_of(saved, given))
    metrics: list[type[Metric]] = [registry.load(MetricSpec, name) for name in names]
    with progress_bars() as progress:
        progress.stage("evaluate")
        fixed = session_of(saved.reference if mode == "float" else saved.graph, mode, saved.device)
        found = evaluate(
            saved.reference, fixed, source, metrics, registry=registry, progress=progress.advance
        )
    if as_json:
        sides = ("float",) if mode == "float" else ("float", "fixed")
        shown = {name: dict(zip(sides, pair, strict=False)) for name, pair in found.figures.items()}
        click.echo(json_text({"frames": found.frames, "metrics": shown}), nl=False)
    else:
        stdout().print(render_evaluation(found, fixed=mode != "float"))
    return judge(gates, figures | {name: pair[1] for name, pair in found.figures.items()})


def _reported(saved: SavedOutput, gates: Sequence[Gate]) -> dict[str, float | None]:
    """Figures that stand in the report of the folder.

    Raises:
        OptionError: when one was not measured then.
    """
    figures = {gate.name: FIGURES[gate.name](saved.report) for gate in gates}
    for gate in gates:
        if figures[gate.name] is None:
            raise OptionError(
                f"the report of {saved.folder} has no {gate.name}",
                place=f"{PLACE} {gate}",
                hint="leave the gate out, or compile again with what it needs",
            )
    return figures


def render_evaluation(found: Evaluation, *, fixed: bool = True) -> Table:
    """A table of metrics, float beside fixed, or float alone."""
    columns = ("float", "fixed", "difference") if fixed else ("float",)
    title = f"metrics, {counted(found.frames, 'frame')}"
    table = new_table(title, "metric", right=columns)
    table.min_width = len(title)
    for name, (before, after) in found.figures.items():
        change = f"{after - before:+.4f}" if math.isfinite(before) else "-"
        table.add_row(Text(name), *(f"{before:.4f}", f"{after:.4f}", change)[: len(columns)])
    return table
