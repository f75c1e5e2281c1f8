"""A finished compilation as a report."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from lowtide.compiler.latency import estimate_codes
from lowtide.compiler.spread import histogram_report, weight_spread
from lowtide.compiler.stages import Compilation
from lowtide.compiler.trials import decibels
from lowtide.compiler.widths import width_reasons
from lowtide.errors import PluginError
from lowtide.ir import Layer, Value, layers, print_type
from lowtide.latency import LayerCost
from lowtide.measure import CodeDifference, LayerError
from lowtide.options import written
from lowtide.passes import PassRun
from lowtide.plugin import CalibratorSpec, ReportSectionSpec, plugin_code
from lowtide.quantize.operands import mac_operands
from lowtide.report.model import (
    AgreementReport,
    CalibrationReport,
    DeviceReport,
    FrontPoint,
    HistogramReport,
    InputReport,
    LayerReport,
    ModelReport,
    OptionReport,
    OutputReport,
    PassReport,
    Report,
    StepReport,
)
from lowtide.report.section import Section
from lowtide.version import VERSION


def build_report(compilation: Compilation, digests: dict[str, str]) -> Report:
    """Gather what the stages left."""
    measurement = compilation.measurement
    errors = {error.layer: error for error in measurement.layers} if measurement else {}
    found = layers(compilation.graph)
    makers = {value: layer.name for layer in found for value in layer.outputs}
    reasons = width_reasons(compilation)
    latency = estimate_codes(compilation)
    costs = {cost.layer: cost for cost in latency.layers} if latency else {}
    return Report(
        lowtide_version=VERSION,
        model=_model(compilation, digests),
        device=_device(compilation),
        options=tuple(_options(compilation)),
        ranges_from="the codes of the model" if compilation.prequantized else compilation.encodings.origin,
        calibration=_calibration(compilation),
        measured_frames=measurement.frames if measurement else 0,
        latency_ms=latency.total_ms if latency else None,
        inputs=tuple(
            _input(compilation, value, reasons.get(value.name, "")) for value in compilation.graph.inputs
        ),
        layers=tuple(
            _layer(
                compilation,
                layer,
                errors.get(layer.name),
                costs.get(layer.name),
                makers=makers,
                reasons=reasons,
            )
            for layer in found
        ),
        outputs=tuple(_outputs(compilation)),
        agreement=_agreement(compilation),
        passes=tuple(_pass(stage, run) for stage, run in compilation.runs),
        diagnostics=tuple(compilation.diagnostics),
        times=tuple(compilation.clock.times),
        peak_memory_mb=peak_memory_mb(),
        sections=dict(_sections(compilation)),
        findings=compilation.findings,
        steps=tuple(_steps(compilation)),
        goal=compilation.goal,
        front=tuple(_front(compilation)),
        search_passes=compilation.search_passes,
    )


def _front(compilation: Compilation) -> Iterator[FrontPoint]:
    for point in compilation.plan.front:
        yield FrontPoint(
            latency_ms=point.latency_ms,
            error_db=decibels(point.error),
            label=point.label,
            chosen=point.chosen,
            number=point.number,
            measured=point.measured,
        )


def _steps(compilation: Compilation) -> Iterator[StepReport]:
    for trial in compilation.trials:
        yield StepReport(
            step=trial.step,
            sqnr_before_db=decibels(trial.before),
            sqnr_after_db=decibels(trial.after),
            kept=trial.kept,
            seconds=trial.seconds,
        )


def _outputs(compilation: Compilation) -> Iterator[OutputReport]:
    """Figures of the measurement, which is of exact execution where there are codes."""
    if compilation.measurement is None:
        return
    found = compilation.agreement
    for name, sums in compilation.measurement.outputs.items():
        emulated = found.emulated.get(name) if found is not None else None
        yield OutputReport(
            name=name,
            sqnr_db=sums.sqnr_db,
            cosine=sums.cosine,
            max_error=sums.largest,
            qdq_sqnr_db=emulated.sqnr_db if emulated is not None else None,
        )


def _agreement(compilation: Compilation) -> AgreementReport | None:
    found = compilation.agreement
    if found is None:
        return None
    layers, codes = _total(found.layers.values()), _total(found.codes.values())
    return AgreementReport(
        arithmetic=compilation.device.profile.name,
        layers=len(found.layers),
        layer_share=layers.share,
        layer_largest=layers.largest,
        outputs=len(found.codes),
        output_share=codes.share if found.codes else None,
        output_largest=codes.largest if found.codes else None,
    )


def _total(found: Iterable[CodeDifference]) -> CodeDifference:
    total = CodeDifference()
    for entry in found:
        total.compared += entry.compared
        total.differing += entry.differing
        total.largest = max(total.largest, entry.largest)
    return total


def _sections(compilation: Compilation) -> Iterator[tuple[str, str]]:
    registry = compilation.request.registry
    for spec in registry.all(ReportSectionSpec):
        kind: type[Section] = registry.load(ReportSectionSpec, spec.name)
        title, text = section_of(kind, compilation, registry.describe(spec))
        if text:
            yield title or spec.summary, text


def section_of(kind: type[Section], compilation: Compilation, place: str) -> tuple[str, str]:
    """The title and the text of a section, see `Section`.

    Raises:
        PluginError: naming it with `place`, when it fails or returns no text.
    """
    with plugin_code(place):
        section = kind()
        found = cast("object", section.text(compilation))
    if not isinstance(found, str):
        raise PluginError(f"text should return text, found {found!r}", place=place)
    return section.title, found


def peak_memory_mb() -> float | None:
    """The largest resident size of this process so far in MiB; ``None`` on systems that do not tell."""
    try:
        import resource  # noqa: PLC0415 - there is no such module on Windows
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _model(compilation: Compilation, digests: dict[str, str]) -> ModelReport:
    graph, model = compilation.reference, compilation.request.model
    return ModelReport(
        file=str(getattr(model, "name", "")),
        digest=digests.get("model", ""),
        nodes=len(compilation.imported),
        layers=len(layers(graph)),
        parameters=sum(v.constant.size for v in graph.constants if v.constant and v.type.dtype.is_float),
        inputs={value.name: print_type(value.type) for value in graph.inputs},
        outputs={value.name: print_type(value.type) for value in graph.outputs},
    )


def _device(compilation: Compilation) -> DeviceReport:
    target, placement = compilation.target, compilation.placement
    names = [layer.name for layer in layers(compilation.graph)]
    on_device = sum(placement.on_accelerator(name) for name in names)
    subgraphs = {assignment.subgraph for assignment in placement.assignments} - {None}
    return DeviceReport(
        name=target.name,
        title=target.title,
        scale_type=compilation.scale_type,
        scale_rule=compilation.rule.name,
        accelerator_layers=on_device,
        host_layers=len(names) - on_device,
        subgraphs=len(subgraphs),
    )


def _options(compilation: Compilation) -> Iterator[OptionReport]:
    for option in compilation.resolved.effective:
        yield OptionReport(
            name=option.key,
            value=written(option.value),
            origin=option.origin,
            overrode=tuple(f"{written(value)} ({origin})" for origin, value in option.overridden),
            note=option.note,
        )


def _calibration(compilation: Compilation) -> CalibrationReport | None:
    source, collected = compilation.source, compilation.collected
    if source is None or collected is None:
        return None
    registry = compilation.request.registry
    provider = registry.provider(registry.get(CalibratorSpec, compilation.calibrator.partition("{")[0]))
    return CalibrationReport(
        data=source.describe(),
        frames=collected.frames,
        array_frames=collected.array_frames,
        synthetic=source.synthetic,
        calibrator=f"{compilation.calibrator} of {provider}",
    )


def _input(compilation: Compilation, value: Value, reason: str) -> InputReport:
    quant, found = value.type.quant, compilation.ranges.get(value.name)
    return InputReport(
        name=value.name,
        bits=quant.bits if quant else None,
        width_reason=reason,
        dtype=quant.dtype.value if quant else "",
        scale=quant.scale[0] if quant else None,
        zero_point=quant.zero_point[0] if quant else None,
        range=(found.min, found.max) if found else None,
        clip=quant.range if quant else None,
        histogram=_histogram(compilation, value.name),
    )


def _histogram(compilation: Compilation, tensor: str) -> HistogramReport | None:
    measurement = compilation.measurement
    return histogram_report(measurement.histograms.get(tensor)) if measurement else None


def _layer(
    compilation: Compilation,
    layer: Layer,
    error: LayerError | None,
    cost: LayerCost | None,
    *,
    makers: Mapping[Value, str],
    reasons: Mapping[str, str],
) -> LayerReport:
    assignment = compilation.placement.of(layer.name)
    quant = layer.output.type.quant
    weights = _weights(layer)
    weight_quant = weights.type.quant if weights else None
    found = compilation.ranges.get(layer.output.name)
    operator = compilation.target.operators.get(layer.op)
    isolated = error.isolated if error else None
    return LayerReport(
        name=layer.name,
        operator="+".join(node.op for node in layer.nodes),
        layer_type=operator.layer_type if operator else "",
        nodes=tuple(dict.fromkeys(name for node in layer.nodes for name in node.location.nodes)),
        inputs=tuple(dict.fromkeys(makers.get(value, value.name) for value in layer.inputs)),
        placement=assignment.device,
        reason=assignment.reason,
        subgraph=assignment.subgraph,
        bits=quant.bits if quant else None,
        weight_bits=weight_quant.bits if weight_quant else None,
        width_reason=reasons.get(layer.output.name, reasons.get(layer.name, "")),
        weight_scales=len(weight_quant.scale) if weight_quant else 0,
        dtype=quant.dtype.value if quant else "",
        scale=quant.scale[0] if quant else None,
        zero_point=quant.zero_point[0] if quant else None,
        range=(found.min, found.max) if found else None,
        clip=quant.range if quant else None,
        histogram=_histogram(compilation, layer.output.name),
        weights=weight_spread(layer),
        sqnr_isolated_db=isolated.sqnr_db if isolated else None,
        sqnr_cumulative_db=error.cumulative.sqnr_db if error else None,
        max_error=error.cumulative.largest if error else None,
        latency_ms=cost.ms if cost else None,
        bound=cost.bound if cost else "",
    )


def _weights(layer: Layer) -> Value | None:
    operands = mac_operands(layer.nodes[0])
    return operands.weights if operands else None


def _pass(stage: str, run: PassRun) -> PassReport:
    return PassReport(
        text=run.text,
        stage=stage,
        changed=run.outcome.changed,
        counters=dict(run.outcome.counters),
        refusals=tuple(f"{refusal.place}: {refusal.reason}" for refusal in run.outcome.refusals),
        seconds=run.seconds,
    )
