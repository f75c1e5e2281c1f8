"""``lowtide run``."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from lowtide.cli.context import registry_of
from lowtide.cli.shared import data_options, frames_for, given_options, option_options, progress_bars
from lowtide.compiler.output import load_output
from lowtide.compiler.run import MODES, Mode, run_frames
from lowtide.errors import OutputError
from lowtide.frontend import ImportRequest, load_model
from lowtide.ir import Array, Graph
from lowtide.plugin import Registry


@click.command("run")
@click.argument("source", metavar="DIR|MODEL", type=click.Path(path_type=Path))
@data_options
@option_options
@click.option(
    "--mode", type=click.Choice(MODES), default="qdq", show_default=True, help="Float or quantized."
)
@click.option("--output", required=True, type=click.Path(path_type=Path), metavar="FILE.npz")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    source: Path,
    data: str | None,
    frames: int | None,
    labels: str | None,
    options_file: Path | None,
    assignments: tuple[str, ...],
    mode: Mode,
    output: Path,
) -> None:
    """Run frames through an output folder or a model; outputs are stacked along a leading frame axis."""
    graph = _graph(source, mode, registry_of(ctx))
    given = given_options(options_file, assignments)
    selected = frames_for(graph, data, frames, labels, given.preprocess)
    collected: dict[str, list[Array]] = {value.name: [] for value in graph.outputs}
    with progress_bars() as progress:
        progress.stage(f"run {mode}")
        for done, (_, results) in enumerate(run_frames(graph, selected, mode), 1):
            for name, array in results.items():
                collected[name].append(array)
            progress.advance(done, selected.count)
    try:
        with output.open("wb") as file:
            np.savez(
                file, allow_pickle=False, **{name: np.stack(arrays) for name, arrays in collected.items()}
            )
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", place=str(output)) from error


def _graph(source: Path, mode: Mode, registry: Registry) -> Graph:
    if not source.is_dir():
        return load_model(source, registry, ImportRequest())
    saved = load_output(source)
    return saved.reference if mode == "float" else saved.graph
