"""``lowtide run``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
import numpy as np

from lowtide.cli.context import registry_of, stderr
from lowtide.cli.shared import (
    data_options,
    frames_for,
    given_options,
    option_options,
    preprocess_of,
    progress_bars,
)
from lowtide.compiler.output import MANIFEST, load_output
from lowtide.compiler.run import MODES, Device, Mode, run_frames
from lowtide.compiler.vectors import write_vectors
from lowtide.data import DataSource
from lowtide.errors import OutputError, counted
from lowtide.frontend import ImportRequest, load_model
from lowtide.ir import Array, Graph
from lowtide.options import resolve_options


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
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE.npz", help="Where outputs go.")
@click.option("--force", is_flag=True, help="Replace FILE.npz; never what is read.")
@click.option(
    "--dump-layers",
    "dump",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the codes of every layer; with --mode exact.",
)
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
    output: Path | None,
    force: bool,
    dump: Path | None,
) -> None:
    """Run frames through an output folder or a model; outputs are stacked along a leading frame axis.

    With --dump-layers the codes of every layer are written as golden vectors, for comparison with traces from
    a board by `lowtide compare VECTORS TRACES`.
    """
    if output is None and dump is None:
        raise click.UsageError("--output FILE.npz or --dump-layers DIR is needed")
    if dump is not None and mode != "exact":
        raise click.UsageError("--dump-layers needs --mode exact: other modes have no codes")
    if output is not None:
        read = (source, *(Path(name) for name in (data, labels, options_file) if name is not None))
        _check_free(output, read, force=force)
    given = given_options(options_file, assignments)
    preprocess, device = given.preprocess, None
    if source.is_dir():
        saved = load_output(source)
        graph, device = saved.reference if mode == "float" else saved.graph, saved.device
        preprocess = preprocess_of(saved, given)
    else:
        options = resolve_options(given.layers).options
        request = ImportRequest(input_shapes=dict(options.input_shapes))
        graph = load_model(source, registry_of(ctx), request, frontend=options.frontend)
    selected = frames_for(graph, data, frames, labels, preprocess)
    if dump is not None:
        _dump(graph, device, selected, dump)
    if output is not None:
        _stack_outputs(graph, device, selected, mode, output)


def _check_free(output: Path, read: Iterable[Path], *, force: bool) -> None:
    """Refuse a file that must not be overwritten, before the work begins.

    Raises:
        OutputError: when it exists without `force`, or is one that is read or that a compile wrote.
    """
    if not output.parent.is_dir():
        raise OutputError("the folder does not exist", place=str(output.parent), hint="make it first")
    if output.is_dir():
        raise OutputError("is a folder, expected the name of a file", place=str(output))
    place, final = str(output), output.resolve()
    for path in read:
        if final == path.resolve() or (path.is_dir() and final.is_relative_to(path.resolve())):
            raise OutputError(
                f"outputs would go into {path}, which is read", place=place, hint="choose another --output"
            )
    if (final.parent / MANIFEST).exists():
        raise OutputError("is in a folder that a compile wrote", place=place, hint="choose another --output")
    if output.exists() and not force:
        raise OutputError("exists already", place=place, hint="choose another --output or use --force")


def _dump(graph: Graph, device: Device | None, frames: DataSource, folder: Path) -> None:
    if device is None:
        raise click.UsageError("--dump-layers needs an output folder: compile the model first")
    with progress_bars() as progress:
        progress.stage("dump layers")
        count = write_vectors(graph, device, frames, folder, progress=progress.advance)
    stderr().print(
        f"{counted(count, 'layer')} written to {folder}", style="green", markup=False, highlight=False
    )


def _stack_outputs(
    graph: Graph, device: Device | None, selected: DataSource, mode: Mode, output: Path
) -> None:
    collected: dict[str, list[Array]] = {value.name: [] for value in graph.outputs}
    with progress_bars() as progress:
        progress.stage(f"run {mode}")
        for done, (_, results) in enumerate(run_frames(graph, selected, mode, device), 1):
            for name, array in results.items():
                collected[name].append(array)
            progress.advance(done, selected.count)
    stacked = {name: _stack(name, arrays) for name, arrays in collected.items()}
    unfinished = output.with_name(f".{output.name}.new")
    try:
        with unfinished.open("wb") as file:
            np.savez(file, allow_pickle=False, **stacked)
        unfinished.replace(output)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise OutputError(f"cannot be written: {error.strerror}", place=str(output)) from error
    stderr().print(f"written to {output}", style="green", markup=False, highlight=False)


def _stack(name: str, arrays: list[Array]) -> Array:
    shapes = dict.fromkeys(array.shape for array in arrays)
    if len(shapes) > 1:
        found = " and ".join(str(list(shape)) for shape in shapes)
        raise OutputError(
            f"frames give arrays of different shapes, {found}", place=name, hint="run one frame at a time"
        )
    return np.stack(arrays)
