"""Widths by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import ClassVar

import attrs

from lowtide.errors import OptionError, nearest
from lowtide.ir import Layer, layers
from lowtide.precision import PrecisionClass, PrecisionPlan, PrecisionProblem, PrecisionStrategy
from lowtide.target import check_node, layer_names

OUTPUTS = "advanced_options:output_feature_16bit_names_list"
PARAMETERS = "advanced_options:params_16bit_names_list"
WIDE = 16


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
        names = layer_names(found.values())
        options, bits = problem.options, problem.options.tensor_bits
        outputs = _named(options.output_feature_16bit_names_list, names, OUTPUTS, problem)
        parameters = _named(options.params_16bit_names_list, names, PARAMETERS, problem)
        raised, reasons = _classes(outputs, found, problem)
        activations = {
            tensor: WIDE if group.name in raised else bits
            for group in problem.classes
            for tensor in group.tensors
        }
        weights: dict[str, int] = {}
        for layer in found.values():
            if problem.placement.on_accelerator(layer.name):
                wide = layer.name in parameters or activations.get(layer.output.name) == WIDE
                weights[layer.name] = WIDE if wide else bits
        _check_device(found.values(), activations, problem)
        return PrecisionPlan(activations, weights, reasons)


def _named(
    given: Iterable[str], names: Mapping[str, frozenset[str]], option: str, problem: PrecisionProblem
) -> dict[str, str]:
    """The layers of a list, each with the name that was given.

    Raises:
        OptionError: for a name that is given twice, unknown, ambiguous, or of a layer on the host.
    """
    counted = Counter(given)
    twice = [name for name, count in counted.items() if count > 1]
    if twice:
        raise OptionError(
            f"{twice[0]!r} is given {counted[twice[0]]} times",
            place=option,
            hint="is one of them meant to be another layer?",
        )
    found: dict[str, str] = {}
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
        assignment = problem.placement.of(hits[0])
        if assignment.device == "host":
            raise OptionError(
                f"{name!r} runs on the host, in float: {assignment.reason}", place=option, hint="leave it out"
            )
        found[hits[0]] = name
    return found


def _classes(
    outputs: Mapping[str, str], found: Mapping[str, Layer], problem: PrecisionProblem
) -> tuple[frozenset[str], dict[str, str]]:
    """The names of the classes that get 16 bits, and why."""
    of_tensor: dict[str, PrecisionClass] = {
        tensor: group for group in problem.classes for tensor in group.tensors
    }
    reasons: dict[str, str] = {}
    for name, given in outputs.items():
        layer = found[name]
        groups = [of_tensor[value.name] for value in layer.outputs if value.name in of_tensor]
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


def _check_device(found: Iterable[Layer], activations: Mapping[str, int], problem: PrecisionProblem) -> None:
    """Refuse 16 bits where the device has them for other operators only."""
    for layer in found:
        if not problem.placement.on_accelerator(layer.name):
            continue
        around = [activations.get(value.name) for value in (*layer.inputs, *layer.outputs)]
        if WIDE not in around:
            continue
        for node in layer.nodes:
            failed = check_node(problem.target, node, WIDE, layer_size=len(layer.nodes))
            if failed:
                raise OptionError(
                    f"{layer.name} would have 16 bits on {problem.target.name}: {failed[0].reason}",
                    place=OUTPUTS,
                    hint=failed[0].hint or "list other layers",
                )
