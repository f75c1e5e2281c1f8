"""From a float network to codes: what is known, what frames tell, widths, parameters, weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from lowtide.compiler.calibration import calibrate_tensors, improve_weights
from lowtide.encodings import EncodingRequest, Encodings, EncodingSource, check_encodings, merge
from lowtide.errors import OptionError, PluginError, QuantizationError
from lowtide.ir import layers
from lowtide.passes import parse_configured
from lowtide.plugin import EncodingsSpec, StrategySpec
from lowtide.precision import (
    PrecisionPlan,
    PrecisionProblem,
    PrecisionStrategy,
    check_plan,
    precision_classes,
    quantized_values,
)
from lowtide.quantize.legal import legalize
from lowtide.quantize.solve import SolveRequest, solve
from lowtide.quantize.weights import requantize_bias

if TYPE_CHECKING:
    from lowtide.compiler.stages import Compilation


def quantize_float(c: Compilation) -> None:
    """All stages between placing and measuring.

    Raises:
        DataError: when frames are needed and none are given.
        QuantizationError: when what is known beforehand does not fit the network or the device.
    """
    c.encodings = read_encodings(c)
    c.plan = _widths(c)
    values = [value.name for value in quantized_values(c.graph, c.target, c.placement)]
    missing = [name for name in values if name not in c.encodings.ranges]
    known = {name: c.encodings.ranges[name] for name in values if name in c.encodings.ranges}
    c.ranges = {**known, **calibrate_tensors(c, missing)}
    with c.clock.stage("solve"):
        c.solved = solve_request(c)
        solve(c.graph, c.solved)
    complete = c.encodings.explicit and not missing
    if c.source is not None and not complete:
        improve_weights(c)
    _set_biases(c)
    _check_weight_scales(c)


def solve_request(c: Compilation) -> SolveRequest:
    """What the solver needs, from what the stages before have found."""
    return SolveRequest(
        target=c.target,
        rule=c.rule,
        placement=c.placement,
        plan=c.plan,
        ranges=c.ranges,
        weight_scales=c.encodings.weight_scales,
        channel_wise=bool(c.options.channel_wise_quantization),
        clip_bias=c.options.bias_clipping,
        diagnostics=c.diagnostics,
    )


def read_encodings(c: Compilation) -> Encodings:
    """Ask every source what it knows of the placed network.

    Raises:
        PluginError: naming a source that returns something else.
        QuantizationError: when what a source says does not fit the network, or contradicts another.
        OptionError: when the user says that the model brings its scales and nobody finds any.
    """
    request = EncodingRequest(
        graph=c.graph,
        target=c.target,
        rule=c.rule,
        placement=c.placement,
        options=c.options,
        diagnostics=c.diagnostics,
    )
    registry = c.request.registry
    found: list[Encodings] = []
    for spec in registry.all(EncodingsSpec):
        source: EncodingSource = registry.load(EncodingsSpec, spec.name)()
        said = source.read(request)
        if said is None:
            continue
        if not isinstance(said, Encodings):  # pyright: ignore[reportUnnecessaryIsInstance]  # third parties write it
            place = f"the encodings {spec.name} of {registry.provider(spec)}"
            raise PluginError(f"should return Encodings or None, found {said!r}", place=place)
        check_encodings(said, c.graph)
        found.append(said)
    wanted = c.options.prequantized_model and c.options.recalibrate == "no" and not c.prequantized
    if wanted and not found:
        raise OptionError(
            "the model has neither QuantizeLinear and DequantizeLinear nor limits that give its ranges",
            place="advanced_options:prequantized_model",
            hint="leave the option out: a float model is quantized with calibration data",
        )
    return merge(found)


def _widths(c: Compilation) -> PrecisionPlan:
    """Ask the strategy for widths, let what is known win, and check the answer."""
    registry, options = c.request.registry, c.options
    problem = PrecisionProblem(
        graph=c.graph,
        target=c.target,
        placement=c.placement,
        options=options,
        classes=precision_classes(c.graph, c.target, c.placement),
    )
    strategy: PrecisionStrategy = parse_configured(options.chosen_strategy, registry, StrategySpec)
    plan = strategy.plan(problem)
    provider = registry.provider(registry.get(StrategySpec, strategy.name))
    check_plan(plan, problem, f"the strategy {options.chosen_strategy} of {provider}")
    if not (c.encodings.activation_bits or c.encodings.weight_bits):
        return plan
    known = attrs.evolve(
        plan,
        activations={**plan.activations, **_among(c.encodings.activation_bits, plan.activations)},
        weights={**plan.weights, **_among(c.encodings.weight_bits, plan.weights)},
    )
    check_plan(known, problem, c.encodings.origin)
    return known


def _among(bits: Mapping[str, int], names: Mapping[str, int]) -> dict[str, int]:
    return {name: width for name, width in bits.items() if name in names}


def _set_biases(c: Compilation) -> None:
    if not c.encodings.biases:
        return
    assert c.solved is not None  # noqa: S101 - the caller solves before
    for layer in layers(c.graph):
        bias = c.encodings.biases.get(layer.name)
        if bias is not None and c.placement.on_accelerator(layer.name):
            requantize_bias(c.graph, layer.nodes[0], bias, c.solved)


def _check_weight_scales(c: Compilation) -> None:
    """Hold weight scales that somebody else chose against the rules of the device."""
    if not c.encodings.weight_scales:
        return
    assert c.solved is not None  # noqa: S101 - the caller solves before
    refused = legalize(c.graph, c.solved, convert=False).refused
    if refused:
        raise QuantizationError(
            f"{c.encodings.origin}: {refused[0].message} (scale rule {c.rule.name})",
            place=f"{refused[0].place}, {refused[0].tensor}",
            hint="leave out its weight scales: those of the device are found without them",
        )
