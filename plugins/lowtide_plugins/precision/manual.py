"""Widths by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import ClassVar

import attrs

from lowtide.errors import OptionError, nearest
from lowtide.ir import Layer, layers
from lowtide.precision import (
    WIDE,
    PrecisionClass,
    PrecisionPlan,
    PrecisionProblem,
    PrecisionStrategy,
    refused_layers,
    widest_plan,
)
from lowtide.target import layer_names

OUTPUTS = "advanced_options:output_feature_16bit_names_list"
PARAMETERS = "advanced_options:params_16bit_names_list"


@attrs.frozen(kw_only=True)
class Manual(PrecisionStrategy):
    """Gives the layers of two lists 16 bits and all others those of ``tensor_bits``.

    A name is that of a layer, or of any node or tensor of the original model that became part of one. The
    output of a layer takes its class along: all tensors that have to share a width. A layer with a 16-bit
    output has 16-bit parameters.

    Source: the vendor's published rules for mixed precision.
    """

    name: ClassVar[str] = "manual"

    def plan(self, problem: PrecisionProblem) -> PrecisionPlan:
        """See `PrecisionStrategy.plan`."""
        found = {layer.name: layer for layer in layers(problem.graph)}
        options, bits = problem.options, problem.options.tensor_bits
        outputs = _named(options.output_feature_16bit_names_list, OUTPUTS, problem)
        parameters = _named(options.params_16bit_names_list, PARAMETERS, problem)
        raised, reasons = _classes(outputs, found, problem)
        activations = {
            tensor: WIDE if group.name in raised else bits
            for group in problem.classes
            for tensor in group.tensors
        }
        weights: dict[str, int] = {}
        for layer in found.values():
            if problem.placement.on_accelerator(layer.name):
                wide = any(activations.get(value.name) == WIDE for value in layer.outputs)
                weights[layer.name] = WIDE if wide or layer.name in parameters else bits
                if layer.name in parameters and not wide:
                    reasons[layer.name] = f"16-bit parameters because {parameters[layer.name]} is listed"
        plan = PrecisionPlan(activations, weights, reasons)
        _check_device(plan, found.values(), {**parameters, **outputs}, problem)
        return plan


def _named(given: Sequence[str], option: str, problem: PrecisionProblem) -> dict[str, str]:
    """The layers, or inputs of the network, of a list, each with the name that was given.

    Raises:
        OptionError: for a name that is given twice, unknown, ambiguous, or of a layer on the host.
    """
    if not given:
        return {}
    names = dict(layer_names(layers(problem.graph)))
    if option == OUTPUTS:
        names |= {value.name: frozenset({value.name}) for value in problem.graph.inputs}
    counted = Counter(_separated(given, names))
    twice = [name for name, count in counted.items() if count > 1]
    if twice:
        raise OptionError(
            f"{twice[0]!r} is given {counted[twice[0]]} times",
            place=option,
            hint="is one of them meant to be another layer?",
        )
    found: dict[str, str] = {}
    sources = {value.name for value in problem.graph.inputs}
    for name in counted:
        hits = sorted(names.get(name, ()))
        if not hits:
            raise OptionError(
                f"the network has no layer, node or tensor {name!r}", place=option, hint=nearest(name, names)
            )
        if len(hits) > 1:
            raise OptionError(
                f"{name!r} is part of {len(hits)} layers",
                place=option,
                hint=f"name one: {', '.join(hits[:3])}",
            )
        if hits[0] not in sources:
            assignment = problem.placement.of(hits[0])
            if assignment.device == "host":
                raise OptionError(
                    f"{name!r} runs on the host, in float: {assignment.reason}",
                    place=option,
                    hint="leave it out",
                )
        if hits[0] in found:
            raise OptionError(
                f"{found[hits[0]]!r} and {name!r} are parts of one layer, {hits[0]}",
                place=option,
                hint="is one of them meant to be another layer?",
            )
        found[hits[0]] = name
    return found


def _separated(given: Iterable[str], names: Collection[str]) -> list[str]:
    """Names at semicolons, where that makes known names of an unknown one: names of TFLite hold some, too."""
    made: list[str] = []
    for name in given:
        parts = [part.strip() for part in name.split(";") if part.strip()]
        made += parts if name not in names and all(part in names for part in parts) else [name]
    return made


def _classes(
    outputs: Mapping[str, str], found: Mapping[str, Layer], problem: PrecisionProblem
) -> tuple[frozenset[str], dict[str, str]]:
    """The names of the classes that get 16 bits, and why."""
    of_tensor: dict[str, PrecisionClass] = {
        tensor: group for group in problem.classes for tensor in group.tensors
    }
    reasons: dict[str, str] = {}
    for name, given in outputs.items():
        tensors = [value.name for value in found[name].outputs] if name in found else [name]
        groups = [of_tensor[tensor] for tensor in tensors if tensor in of_tensor]
        if not groups:
            raise OptionError(
                f"{given!r} gives float numbers on {problem.target.name}: a wider output has no effect",
                place=OUTPUTS,
                hint="leave it out, or name the layer before it",
            )
        for group in groups:
            ties = f", which {', '.join(group.ties[:3])} ties" if len(group.tensors) > 1 else ""
            reasons[group.name] = f"16 bit because {given} is listed{ties}"
    return frozenset(reasons), reasons


def _check_device(
    plan: PrecisionPlan, found: Iterable[Layer], named: Mapping[str, str], problem: PrecisionProblem
) -> None:
    """Refuse 16 bits where the device has them for other operators only."""
    if not named:
        return
    refused = refused_layers(problem)
    for layer in found:
        if layer.name not in refused:
            continue
        around = [value.name for value in (*layer.inputs, *layer.outputs)]
        if plan.weights[layer.name] != WIDE and WIDE not in {plan.activations.get(name) for name in around}:
            continue
        widest = widest_plan(problem).activations
        legal = [one.name for one in layers(problem.graph) if widest.get(one.name) == WIDE]
        raise OptionError(
            f"{layer.name} would have 16 bits on {problem.target.name}: {refused[layer.name].reason}",
            place=OUTPUTS,
            hint=f"{refused[layer.name].hint or 'list other layers'}; {nearest(layer.name, legal)}",
        )
