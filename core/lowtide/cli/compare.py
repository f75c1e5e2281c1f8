"""``lowtide compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import RenderableType
from rich.text import Text

from lowtide.cli.context import stdout
from lowtide.cli.shared import (
    data_options,
    frames_for,
    given_options,
    option_options,
    preprocess_of,
    progress_bars,
)
from lowtide.compiler.output import load_output
from lowtide.compiler.run import MODES, Mode
from lowtide.compiler.vectors import LayerDifference, compare_vectors
from lowtide.errors import counted, short_name
from lowtide.measure import Measurement, measure_exact_layers, measure_layers
from lowtide.report.json import json_text
from lowtide.report.terminal import new_table, render_measurement, spaced

GATE_MISSED = 1


@click.command("compare")
@click.argument("folder", metavar="DIR|VECTORS", type=click.Path(path_type=Path))
@click.argument("traces", required=False, type=click.Path(path_type=Path))
@data_options
@option_options
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="exact",
    show_default=True,
    help="exact: as the device computes; qdq: as ONNX Runtime emulates the codes; float: the network before.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    *,
    folder: Path,
    traces: Path | None,
    data: str | None,
    frames: int | None,
    labels: str | None,
    options_file: Path | None,
    assignments: tuple[str, ...],
    mode: Mode,
    as_json: bool,
) -> int:
    """Show what every layer of an output folder lost, isolated and cumulative, worst first.

    With TRACES, hold them against the golden vectors that `lowtide run --dump-layers` wrote to VECTORS and
    find the first layer that differs; exit status 1 when one does.
    """
    if traces is not None:
        return _compare_traces(folder, traces, as_json=as_json)
    saved = load_output(folder)
    given = given_options(options_file, assignments)
    source = frames_for(saved.reference, data, frames, labels, preprocess_of(saved, given))
    with progress_bars() as progress:
        progress.stage("compare")
        if mode == "exact":
            profile, host = saved.device.profile, sorted(saved.device.on_host)
            measurement = measure_exact_layers(
                saved.conditioned,
                saved.graph,
                profile,
                host,
                source,
                judge=saved.reference,
                progress=progress.advance,
            )
        else:
            other = saved.conditioned if mode == "float" else saved.graph
            measurement = measure_layers(
                saved.conditioned, other, source, judge=saved.reference, progress=progress.advance
            )
    if as_json:
        click.echo(json_text(_plain(measurement)), nl=False)
    else:
        stdout().print(render_measurement(measurement))
    return 0


def _compare_traces(vectors: Path, traces: Path, *, as_json: bool) -> int:
    found = compare_vectors(vectors, traces)
    first = next((entry.layer for entry in found if entry.codes is not None and entry.codes.differing), None)
    if as_json:
        rows = [
            {
                "layer": entry.layer,
                "differing": None if entry.codes is None else entry.codes.share,
                "largest": None if entry.codes is None else entry.codes.largest,
            }
            for entry in found
        ]
        click.echo(json_text({"first": first, "layers": rows}), nl=False)
    else:
        stdout().print(render_traces(found, first))
    return GATE_MISSED if first is not None else 0


def render_traces(found: Sequence[LayerDifference], first: str | None) -> RenderableType:
    """Layers that differ or are not there, and which is the first."""
    table = new_table("traces against golden vectors", "layer", right=("differing", "largest"))
    for entry in found:
        if entry.codes is None:
            table.add_row(Text(short_name(entry.layer), style="dim"), "not there", "")
        elif entry.codes.differing:
            table.add_row(Text(short_name(entry.layer)), f"{entry.codes.share:.2%}", str(entry.codes.largest))
    compared = sum(entry.codes is not None for entry in found)
    if first is None:
        verdict = Text(f"all are equal: {counted(compared, 'layer')} compared", style="green")
    else:
        verdict = Text(f"{short_name(first)} is the first layer that differs", style="red")
    return spaced([table, verdict] if table.row_count else [verdict])


def _plain(measurement: Measurement) -> dict[str, object]:
    return {
        "frames": measurement.frames,
        "layers": [
            {
                "name": error.layer,
                "sqnr_isolated_db": error.isolated.sqnr_db if error.isolated else None,
                "sqnr_cumulative_db": error.cumulative.sqnr_db,
                "max_error": error.cumulative.largest,
            }
            for error in measurement.layers
        ],
        "outputs": {name: sums.sqnr_db for name, sums in measurement.outputs.items()},
    }
