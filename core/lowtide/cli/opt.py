"""``lowtide opt``."""

from __future__ import annotations

from pathlib import Path

import click

from lowtide.cli.context import registry_of, stderr
from lowtide.errors import ModelError
from lowtide.ir import Graph, parse_graph, print_graph
from lowtide.passes import Pass, PassContext, parse_pipeline, run_pipeline


@click.command("opt")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--passes", required=True, metavar="TEXT", help='A pipeline, as "fold-constants,fold-batch-norm".'
)
@click.option("--print-after", is_flag=True, help="Print the graph after every pass, not only at the end.")
@click.pass_context
def command(ctx: click.Context, file: Path, passes: str, *, print_after: bool) -> None:
    """Run passes on the text form of a graph and print the result."""
    try:
        text = file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(
            "is no text; expected the text form of a graph, such as graph.ir of an output folder",
            place=str(file),
            hint="a compile writes it beside model.onnx",
        ) from error
    except OSError as error:
        raise ModelError(f"cannot be read: {error}", place=str(file)) from error
    graph = parse_graph(text)
    registry = registry_of(ctx)
    context = PassContext()

    def announce(item: Pass, changed: Graph) -> None:
        if print_after:
            click.echo(f"// after {item}\n{print_graph(changed)}")

    pipeline = parse_pipeline(passes, registry)
    for run in run_pipeline(graph, pipeline, context, registry=registry, after_each=announce):
        counters = ", ".join(f"{name} {count}" for name, count in run.outcome.counters.items())
        stderr().print(f"{run.text}: {counters or 'nothing'}", markup=False, highlight=False)
        for refusal in run.outcome.refusals:
            stderr().print(f"  {refusal.place}: {refusal.reason}", markup=False, highlight=False)
    if not print_after:
        click.echo(print_graph(graph), nl=False)
