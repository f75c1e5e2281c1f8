"""``lowtide compare``."""

from __future__ import annotations

from pathlib import Path

import click

from lowtide.cli.context import stdout
from lowtide.cli.shared import data_options, frames_for, given_options, option_options, progress_bars
from lowtide.compiler.output import load_output
from lowtide.measure import Measurement, measure_layers
from lowtide.report.json import json_text
from lowtide.report.terminal import render_measurement


@click.command("compare")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@data_options
@option_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    *,
    folder: Path,
    data: str | None,
    frames: int | None,
    labels: str | None,
    options_file: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show what every layer of an output folder lost, isolated and cumulative, worst first."""
    saved = load_output(folder)
    given = given_options(options_file, assignments)
    source = frames_for(saved.reference, data, frames, labels, given.preprocess)
    with progress_bars() as progress:
        progress.stage("compare")
        measurement = measure_layers(saved.reference, saved.graph, source, progress=progress.advance)
    if as_json:
        click.echo(json_text(_plain(measurement)), nl=False)
    else:
        stdout().print(render_measurement(measurement))


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
