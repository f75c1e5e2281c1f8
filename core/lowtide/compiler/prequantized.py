"""Networks that bring their own codes: keep them, repair what the device has in another form, fill gaps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lowtide.calibrate import Range
from lowtide.compiler.calibration import calibrate_tensors, improve_weights
from lowtide.compiler.floats import read_encodings
from lowtide.errors import OptionError, UnsupportedByTargetError, UnsupportedModelError, short_name
from lowtide.ir import Graph, layers
from lowtide.options import FIELDS, CompileOptions
from lowtide.precision import PrecisionPlan, asked_widths, precision_classes
from lowtide.quantize.codes import quantized_activations
from lowtide.quantize.findings import Finding, Legal
from lowtide.quantize.legal import legalize
from lowtide.quantize.missing import Inferred, borrowed_ranges, infer_missing
from lowtide.quantize.operands import mac_operands
from lowtide.quantize.solve import SolveRequest, solve
from lowtide.target import ScaleRule, Target, place, scale_rule

if TYPE_CHECKING:
    from lowtide.compiler.stages import Compilation

TFLITE = 3
"""The scale type of networks with the codes of TFLite; the option prequantized_model is about ONNX alone."""

WAYS_OUT = (
    "--set recalibrate=convert keeps the ranges and makes codes that the device has; --set recalibrate=data "
    "calibrates anew; or choose a device with zero points and a scale per channel"
)

SHOWN = 3
"""How many places a refusal lists for each rule."""


def quantized_already(graph: Graph, options: CompileOptions) -> bool:
    """Whether the network has codes.

    Raises:
        UnsupportedModelError: when the options say that it must not, or for a graph that came from no
            frontend and holds them in pairs of nodes.
    """
    for node in graph:
        source = node.operand(0)
        maker = source.producer if source is not None and node.op == "DequantizeLinear" else None
        if maker is not None and maker.op == "QuantizeLinear" and maker.value(1).is_constant:
            raise UnsupportedModelError(
                "the graph is quantized by nodes; its types should say so",
                place=node.place,
                hint="run the pass fold-qdq on it first",
            )
    found = quantized_activations(graph)
    if found and options.prequantized_model is False and options.quantization_scale_type != TFLITE:
        raise UnsupportedModelError(
            f"the model is quantized already: {found[0].name} has {found[0].type.storage} codes",
            place="advanced_options:prequantized_model=0",
            hint="leave the option out to keep the codes, or use --set recalibrate=data to make new ones",
        )
    return bool(found)


def check_scale_type(c: Compilation, prescribed: int | None) -> None:
    """Refuse scales of TFLite where no TFLite file brings them: the vendor's tools read them there.

    Args:
        c: the compilation, which knows whether the network has codes.
        prescribed: the number that the format of the model prescribes.

    Raises:
        OptionError: saying what the network is instead.
    """
    option = FIELDS["quantization_scale_type"].key
    if c.options.quantization_scale_type != TFLITE or c.is_float or not c.target.vendor_layers:
        return
    if not c.prequantized:
        found = "the network has no codes"
    elif c.options.recalibrate == "data":
        found = "recalibrate=data makes others"
    elif isinstance(c.request.model, Path) and prescribed != TFLITE:
        found = f"{c.request.model.name} is no such file"
    else:
        return
    raise OptionError(
        f"scale type {TFLITE} keeps the codes of an integer TFLite file, and {found}",
        place=f"{option}={TFLITE}",
        hint=f"leave the option out; the default of {c.target.name} is {c.target.default_scale_type}",
    )


def choose_rule(c: Compilation, prescribed: int | None) -> tuple[int, ScaleRule]:
    """The scale rule that suits the codes, unless the user chose one.

    Args:
        c: the compilation, whose rule is that of the options or of the device.
        prescribed: the number that the format of the model prescribes.

    Raises:
        UnsupportedByTargetError: when the device refuses what the format prescribes.
    """
    if c.options.quantization_scale_type is not None:
        return c.scale_type, c.rule
    if prescribed is not None and c.options.recalibrate == "no":
        if prescribed not in c.target.scale_rules:
            why = c.target.refused_scale_types.get(prescribed, f"{c.target.name} has no such scale type")
            raise UnsupportedByTargetError(
                f"the model has codes for scale type {prescribed}: {why}",
                place=f"{c.request.model} on {c.target.name}",
                hint=WAYS_OUT,
            )
        return prescribed, scale_rule(c.target, prescribed)
    if c.rule.activation == "symmetric" and _all_powers(c.graph):
        for number, rule in sorted(c.target.scale_rules.items()):
            if rule.activation_scale == "power-of-two":
                return number, rule
    return c.scale_type, c.rule


def _all_powers(graph: Graph) -> bool:
    quants = [value.type.quant for value in quantized_activations(graph)]
    scales = [scale for quant in quants if quant is not None for scale in quant.scale]
    return all(math.frexp(scale)[0] == 0.5 for scale in scales)


def note_kept_widths(c: Compilation) -> None:
    """Tell of options about widths that were set for a network that has its own."""
    for option in asked_widths(c.resolved).values():
        c.diagnostics.info(
            "LT867",
            option.key,
            "without effect: the network has codes, which keep their widths",
            "--set recalibrate=data finds widths for its dequantized weights",
        )


def keep_codes(c: Compilation) -> None:
    """All stages between placing and measuring for a network that has codes.

    Raises:
        UnsupportedByTargetError: listing what the device cannot take.
        DataError: when scales are missing that only frames can give.
    """
    c.plan = plan_of_codes(c.graph, c)
    if c.target.keeps_codes:
        c.solved = solve_request(c)
        c.ranges = _ranges(c.graph, ())
        return
    with c.clock.stage("check"):
        legal, inferred = examine(c)
        report(c, legal.findings)
        for name, other in inferred.from_others.items():
            c.diagnostics.info(
                "LT862", name, f"it has no scale in the model and takes that of {short_name(other)}"
            )
        if legal.refused:
            raise refusal(legal.refused, c.target, c.rule)
    c.plan = plan_of_codes(c.graph, c, legal.bits)
    c.ranges = {**legal.ranges, **_missing_ranges(c, legal, inferred)}
    with c.clock.stage("solve"):
        c.solved = solve_request(c)
        solve(c.graph, c.solved)
    if legal.converted and c.source is not None:
        improve_weights(c)
    c.ranges = _ranges(c.graph, c.ranges.items())
    c.placement = place(c.graph, c.target, c.options, c.diagnostics)


def examine(c: Compilation) -> tuple[Legal, Inferred]:
    """Fill in the scales that follow from others, and hold all against the rules of the device.

    What is inferred comes first, so that it is held against the rules too.
    """
    c.plan = plan_of_codes(c.graph, c)
    inferred = infer_missing(c.graph, solve_request(c))
    c.plan = plan_of_codes(c.graph, c)
    return legalize(c.graph, solve_request(c), convert=c.options.recalibrate == "convert"), inferred


def solve_request(c: Compilation) -> SolveRequest:
    """What the solver needs, from what the stages before have found."""
    return SolveRequest(
        target=c.target,
        rule=c.rule,
        placement=c.placement,
        plan=c.plan,
        ranges=c.ranges,
        channel_wise=bool(c.options.channel_wise_quantization),
        clip_bias=c.options.bias_clipping,
        diagnostics=c.diagnostics,
    )


def _missing_ranges(c: Compilation, legal: Legal, inferred: Inferred) -> dict[str, Range]:
    """Ranges that the model does not tell: known otherwise, or measured on frames."""
    missing = [name for name in inferred.open if c.graph.values[name].type.quant is None]
    if missing:
        c.encodings = read_encodings(c)
    said = {name: c.encodings.ranges[name] for name in missing if name in c.encodings.ranges}
    borrowed = () if c.source is None else borrowed_ranges(c.graph, legal.ranges)
    measured = calibrate_tensors(c, [name for name in (*missing, *borrowed) if name not in said])
    origins = {
        **dict.fromkeys(inferred.ranges, "the operator that makes it"),
        **dict.fromkeys(measured, "calibration"),
        **dict.fromkeys(said, c.encodings.origin),
    }
    for name, origin in origins.items():
        own = (
            "its scale in the model is that of its input"
            if name in borrowed
            else "it has no scale in the model"
        )
        c.diagnostics.info("LT862", name, f"{own}; its range comes from {origin}")
    return {**inferred.ranges, **measured, **said}


def report(c: Compilation, findings: Iterable[Finding]) -> None:
    """Tell what was found and changed, one line for each kind."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.code, finding.action), []).append(finding)
    for (code, action), group in groups.items():
        first = group[0]
        others = f"; and {len(group) - 1} more, as {short_name(group[1].tensor)}" if len(group) > 1 else ""
        place = f"{short_name(first.place)}, {short_name(first.tensor)}"
        if action in {"repaired", "kept"}:
            c.diagnostics.info(code, place, f"{first.message}{others}")
        elif action == "converted":
            text = f"{first.message}; it gets new codes for the same range{others}"
            c.diagnostics.warning(code, place, text)


def refusal(findings: tuple[Finding, ...], target: Target, rule: ScaleRule) -> UnsupportedByTargetError:
    """The error that lists what a device cannot take, and the ways out."""
    first = findings[0]
    error = UnsupportedByTargetError(
        f"{target.name} with scale rule {rule.name} cannot take {len(findings)} of the model's scales: "
        f"{short_name(first.tensor)}: {first.message}",
        place=short_name(first.place),
        hint=WAYS_OUT,
    )
    groups: dict[str, list[Finding]] = {}
    for finding in findings[1:]:
        groups.setdefault(finding.code, []).append(finding)
    for code, group in groups.items():
        for other in group[:SHOWN]:
            error.add_note(f"{code} {short_name(other.place)}, {short_name(other.tensor)}: {other.message}")
        if len(group) > SHOWN:
            error.add_note(f"{code} at {len(group) - SHOWN} more; `lowtide check` lists all")
    return error


def plan_of_codes(graph: Graph, c: Compilation, known: Mapping[str, int] | None = None) -> PrecisionPlan:
    """Widths as the codes have them; tensors without codes take that of their class.

    Args:
        graph: the network.
        c: the compilation, for its target, placement and options.
        known: widths that tensors had, which have no codes any more.
    """
    default = c.options.tensor_bits
    activations: dict[str, int] = {}
    for group in precision_classes(graph, c.target, c.placement):
        quants = {name: graph.values[name].type.quant for name in group.tensors}
        bits = {name: quant.bits for name, quant in quants.items() if quant is not None}
        bits |= {name: known[name] for name in group.tensors if known and name in known}
        widest = max(bits.values(), default=default)
        activations |= {name: bits.get(name, widest) for name in group.tensors}
    weights: dict[str, int] = {}
    for layer in layers(graph):
        if c.placement.on_accelerator(layer.name):
            operands = mac_operands(layer.nodes[0])
            quant = operands.weights.type.quant if operands is not None else None
            output = activations.get(layer.output.name, default)
            # The parameters of a layer have the width of its output at least.
            weights[layer.name] = max(default, output) if quant is None else quant.bits
    return PrecisionPlan(activations, weights)


def _ranges(graph: Graph, known: Iterable[tuple[str, Range]]) -> dict[str, Range]:
    found = {
        value.name: Range(*value.type.quant.range)
        for value in quantized_activations(graph)
        if value.type.quant is not None
    }
    return {**found, **dict(known)}
