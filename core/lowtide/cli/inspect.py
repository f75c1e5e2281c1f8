"""``lowtide inspect``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from lowtide.cli.context import registry_of, stdout
from lowtide.cli.shared import given_options, option_options
from lowtide.compiler.output import load_output
from lowtide.errors import counted
from lowtide.frontend import ImportRequest, load_model
from lowtide.ir import Graph, Value, print_graph
from lowtide.options import resolve_options
from lowtide.report.terminal import new_table


@click.command("inspect")
@click.argument("source", metavar="MODEL|DIR", type=click.Path(path_type=Path))
@option_options
@click.option("--text", is_flag=True, help="Print the text form of the graph.")
@click.option("--match", default="", metavar="TEXT", help="Only tensors whose name contains this.")
@click.pass_context
def command(
    ctx: click.Context,
    source: Path,
    options_file: Path | None,
    assignments: tuple[str, ...],
    *,
    text: bool,
    match: str,
) -> None:
    """Show the tensors of a model or of an output folder: types, ranges, scales, constants."""
    if source.is_dir():
        if options_file is not None or assignments:
            raise click.UsageError("an output folder has its own options: leave --options and --set out")
        graph = load_output(source).graph
    else:
        options = resolve_options(given_options(options_file, assignments).layers).options
        request = ImportRequest(input_shapes=dict(options.input_shapes))
        graph = load_model(source, registry_of(ctx), request, frontend=options.frontend)
    if text:
        click.echo(print_graph(graph), nl=False)
    else:
        stdout().print(_table(graph, match))


def _table(graph: Graph, match: str) -> Table:
    columns = ("tensor", "made by", "type", "codes", "scale", "zero", "range")
    table = new_table(
        f"{graph.name}: {counted(len(graph), 'node')}, {counted(len(graph.values), 'tensor')}", *columns
    )
    for name, value in graph.values.items():
        if match in name:
            row = (name, _maker(graph, value), _type(value), *_quant(value))
            table.add_row(*(Text(entry) for entry in row))
    return table


def _maker(graph: Graph, value: Value) -> str:
    if value.producer is not None:
        return value.producer.op
    return "constant" if value.is_constant else "input" if value in graph.inputs else ""


def _type(value: Value) -> str:
    shape = value.type.shape
    dims = "*" if shape is None else ",".join("?" if dim is None else str(dim) for dim in shape)
    return f"{value.type.dtype.value}[{dims}]"


def _quant(value: Value) -> tuple[str, ...]:
    quant = value.type.quant
    if quant is None:
        return ("", "", "", "")
    low, high = quant.range
    scale = f"{quant.scale[0]:.4g}"
    if quant.axis is not None:
        scale = f"{min(quant.scale):.3g} to {max(quant.scale):.3g}, axis {quant.axis}"
    return (quant.dtype.value, scale, str(quant.zero_point[0]), f"{low:.4g} to {high:.4g}")
