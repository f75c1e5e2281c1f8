"""``lowtide compile``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import attrs
import click

from lowtide.calibrate import StatisticsCache
from lowtide.cli import INTERRUPTED
from lowtide.cli.context import registry_of, stderr, stdout
from lowtide.cli.gates import GATE_MISSED, check_possible, gates_of, judge, metric_names, require_option
from lowtide.cli.shared import (
    cache_options,
    data_options,
    given_options,
    option_options,
    print_diagnostics,
    progress_bars,
    resumable,
)
from lowtide.compiler.api import compile_request
from lowtide.compiler.output import check_free
from lowtide.compiler.progress import Progress
from lowtide.compiler.request import CompileRequest
from lowtide.compiler.result import CompileResult
from lowtide.compiler.run import input_specs, session_of
from lowtide.compiler.stages import Compilation
from lowtide.data import open_data
from lowtide.diagnostics import Diagnostics
from lowtide.ir import Graph, print_graph
from lowtide.measure import Metric, evaluate, require_label
from lowtide.measure.gates import FIGURES, Gate
from lowtide.options import OptionLayer
from lowtide.passes import Pass
from lowtide.plugin import MetricSpec
from lowtide.report.json import report_json
from lowtide.report.render import goal_text, render_report

F = TypeVar("F")


@click.command("compile")
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option("--target", metavar="NAME", help="The device; see `lowtide targets`.")
@data_options
@option_options
@click.option(
    "--calibrator", metavar="NAME", help="How ranges come from statistics; see `lowtide calibrators`."
)
@click.option("--strategy", metavar="NAME", help="Who assigns widths; see `lowtide strategies`.")
@click.option("--pipeline", metavar="TEXT", help="Passes on the quantized weights, instead of the device's.")
@click.option(
    "--budget-ms", type=float, metavar="X", help="16 bits where they help most, within X ms a frame."
)
@click.option(
    "--goal",
    metavar="METRIC>=X",
    help="16 bits where needed to reach this, as sqnr>=30, at as little latency as possible.",
)
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("out"), show_default=True, metavar="DIR"
)
@click.option("--force", is_flag=True, help="Replace the output of an earlier compile.")
@cache_options
@click.option("--print-after", is_flag=True, help="Print the graph after every pass to standard error.")
@require_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON document.")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    model: Path | None,
    target: str | None,
    data: str | None,
    frames: int | None,
    labels: str | None,
    options_file: Path | None,
    assignments: tuple[str, ...],
    calibrator: str | None,
    strategy: str | None,
    pipeline: str | None,
    budget_ms: float | None,
    goal: str | None,
    output: Path,
    force: bool,
    cache: StatisticsCache | None,
    print_after: bool,
    requirements: tuple[str, ...],
    as_json: bool,
) -> int:
    """Quantize MODEL for a device and write the output folder.

    A model-zoo configuration as --options may name the model (session.model_path) and the device
    (session.target_device); MODEL and --target are stronger.
    """
    given = given_options(options_file, assignments)
    model = model or required(given.model(), "no model is given", "MODEL", "model_path")
    named = given.named_target(registry_of(ctx)) if target is None else target
    target = required(named, "no device is given", "--target NAME", "target_device")
    gates = gates_of(requirements, registry_of(ctx))
    check_possible(gates, target, registry_of(ctx), has_data=data is not None)
    check_free(output, force=force)
    flags = {
        "calibrator": calibrator,
        "strategy": strategy,
        "weights": pipeline,
        "budget_ms": budget_ms,
        "goal": goal,
    }
    set_by_flag = {key: value for key, value in flags.items() if value is not None}
    request = CompileRequest(
        model=model,
        target=target,
        data=data,
        frames=frames,
        labels=labels,
        options=[*given.layers, *_layer(set_by_flag)],
        preprocess=given.preprocess,
        cache=cache,
        registry=registry_of(ctx),
        after_pass=_print_after if print_after else None,
    )
    kept = "finished statistics are kept, the same command goes on from there" if cache else ""
    with progress_bars() as progress, resumable(kept):
        request = attrs.evolve(request, progress=progress)
        metrics = _metrics(gates, request)
        result = compile_request(request)
        result.save(output, force=force)
        figures = _figures(result, gates, metrics, request)
    show(result, as_json=as_json)
    stderr().print(f"written to {output}", style="green", markup=False, highlight=False)
    return _status(result, judge(gates, figures))


def _status(result: CompileResult, judged: int) -> int:
    """The exit status, with a line on standard error for whatever is not as it was asked for."""
    report, status, lines = result.report, judged, list[str]()
    if report.goal is not None and not report.goal.reached:
        lines.append(f"goal {goal_text(report.goal, report.latency_ms)}")
        status = GATE_MISSED
    if result.interrupted:
        lines.append("interrupted: the widths are the best that were measured until then")
        status = INTERRUPTED
    for line in lines:
        stderr().print(line, style="red", markup=False, highlight=False, soft_wrap=True)
    return status


def _metrics(gates: Sequence[Gate], request: CompileRequest) -> list[type[Metric]]:
    """The metrics that gates name.

    Raises:
        DataError: when one needs labels that the frames do not have.
    """
    names = metric_names(gates, request.registry, beside=FIGURES)
    metrics: list[type[Metric]] = [request.registry.load(MetricSpec, name) for name in names]
    if any(metric.needs_labels for metric in metrics):
        request.progress.stage("labels")
        c = Compilation.begin(attrs.evolve(request, progress=Progress(), after_pass=None))
        c.import_model()
        c.prepare()
        c.open_frames()
        for frame in c.source.frames() if c.source is not None else ():
            for metric in metrics:
                require_label(metric, frame)
    return metrics


def _figures(
    result: CompileResult, gates: Sequence[Gate], metrics: Sequence[type[Metric]], request: CompileRequest
) -> dict[str, float | None]:
    """What the gates look at: figures of the report, and metrics on the frames of the compile."""
    report = attrs.asdict(result.report)
    figures = {gate.name: FIGURES[gate.name](report) for gate in gates if gate.name in FIGURES}
    if metrics:
        preprocess, labels = request.preprocess, request.labels
        source = open_data(request.data, input_specs(result.reference), preprocess=preprocess, labels=labels)
        count = request.frames or result.options.options.calibration_frames
        source = source if count is None else source.select(count)
        # The report has what is known when frames are opened.
        source = attrs.evolve(source, diagnostics=Diagnostics())
        request.progress.stage("evaluate")
        fixed = session_of(result.graph, "exact", result.device)
        advance = request.progress.advance
        found = evaluate(result.reference, fixed, source, metrics, registry=result.registry, progress=advance)
        click.get_current_context().call_on_close(lambda: print_diagnostics(source.diagnostics))
        figures |= {name: pair[1] for name, pair in found.figures.items()}
    return figures


def required(found: F | None, missing: str, flag: str, key: str) -> F:
    """What the command line or the configuration says."""
    if found is None:
        where = f"as session.{key} of a model-zoo configuration with --options"
        raise click.UsageError(f"{missing}: name it as {flag}, or {where}")
    return found


def _print_after(item: Pass, graph: Graph) -> None:
    click.echo(f"// after {item}\n{print_graph(graph)}", err=True)


def _layer(named: Mapping[str, object]) -> Sequence[OptionLayer]:
    return [OptionLayer("command line", dict(named))] if named else []


def show(result: CompileResult, *, as_json: bool) -> None:
    """Print the report in one of its forms."""
    if as_json:
        click.echo(report_json(result.report), nl=False)
    else:
        stdout().print(render_report(result.report))
