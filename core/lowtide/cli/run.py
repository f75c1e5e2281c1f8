"""``lowtide run``."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from lowtide.cli.context import registry_of
from lowtide.cli.shared import data_options, frames_for, given_options, option_options, progress_bars
from lowtide.compiler.output import load_output
from lowtide.compiler.run import MODES, Device, Mode, run_frames
from lowtide.errors import OutputError
from lowtide.frontend import ImportRequest, load_model
from lowtide.ir import Array, Graph
from lowtide.options import CompileOptions, resolve_options
from lowtide.plugin import Registry


@click.command("run")
@click.argument("source", metavar="DIR|MODEL", type=click.Path(path_type=Path))
@data_options
@option_options
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="qdq",
    show_default=True,
    help="float; qdq: as ONNX Runtime emulates the codes; exact: as the device computes.",
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
    if not output.parent.is_dir():
        raise OutputError("the folder does not exist", place=str(output.parent), hint="make it first")
    given = given_options(options_file, assignments)
    graph, device = _graph(source, mode, registry_of(ctx), resolve_options(given.layers).options)
    selected = frames_for(graph, data, frames, labels, given.preprocess)
    collected: dict[str, list[Array]] = {value.name: [] for value in graph.outputs}
    with progress_bars() as progress:
        progress.stage(f"run {mode}")
        for done, (_, results) in enumerate(run_frames(graph, selected, mode, device), 1):
            for name, array in results.items():
                collected[name].append(array)
            progress.advance(done, selected.count)
    stacked = {name: _stack(name, arrays) for name, arrays in collected.items()}
    try:
        with output.open("wb") as file:
            np.savez(file, allow_pickle=False, **stacked)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", place=str(output)) from error


def _graph(
    source: Path, mode: Mode, registry: Registry, options: CompileOptions
) -> tuple[Graph, Device | None]:
    if not source.is_dir():
        request = ImportRequest(input_shapes=dict(options.input_shapes))
        return load_model(source, registry, request, frontend=options.frontend), None
    saved = load_output(source)
    return (saved.reference if mode == "float" else saved.graph), saved.device


def _stack(name: str, arrays: list[Array]) -> Array:
    shapes = dict.fromkeys(array.shape for array in arrays)
    if len(shapes) > 1:
        found = " and ".join(str(list(shape)) for shape in shapes)
        raise OutputError(
            f"frames give arrays of different shapes, {found}", place=name, hint="run one frame at a time"
        )
    return np.stack(arrays)
