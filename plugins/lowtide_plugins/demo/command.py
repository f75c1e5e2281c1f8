"""``lowtide demo``."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from lowtide.cli.compile import show
from lowtide.cli.context import registry_of, stderr, stdout
from lowtide.cli.evaluate import render_evaluation
from lowtide.cli.shared import progress_bars
from lowtide.compiler.api import compile as compile_model
from lowtide.compiler.output import check_free
from lowtide.compiler.run import input_specs, session_of
from lowtide.data import open_data
from lowtide.measure import Metric, evaluate
from lowtide.plugin import MetricSpec


@click.command("demo")
@click.option("--target", default="am68a", show_default=True, metavar="NAME", help="The device.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("demo-out"), show_default=True, metavar="DIR"
)
@click.option("--force", is_flag=True, help="Replace the output of an earlier demo.")
@click.pass_context
def command(ctx: click.Context, target: str, output: Path, *, force: bool) -> None:
    """Compile a network that reads handwritten digits, and evaluate it on samples that it has never seen."""
    check_free(output, force=force)
    registry = registry_of(ctx)
    folder = resources.files("lowtide_plugins.demo")
    with (
        resources.as_file(folder / "digits.onnx") as model,
        resources.as_file(folder / "digits_calib.npz") as calibration,
        resources.as_file(folder / "digits_test.npz") as test,
        progress_bars() as progress,
    ):
        result = compile_model(
            model, target=target, data=str(calibration), registry=registry, progress=progress
        )
        result.save(output, force=force)
        progress.stage("evaluate")
        frames = open_data(str(test), input_specs(result.reference))
        metrics: list[type[Metric]] = [
            registry.load(MetricSpec, name) for name in ("top1", "agreement", "sqnr")
        ]
        exact = session_of(result.graph, "exact", result.device)
        found = evaluate(
            result.reference, exact, frames, metrics, registry=registry, progress=progress.advance
        )
    show(result, as_json=False)
    stdout().print(render_evaluation(found))
    look = f"look at {output / 'report.html'} in a browser, or around with `lowtide inspect {output}`"
    stderr().print(f"written to {output}; {look}", markup=False, highlight=False)
