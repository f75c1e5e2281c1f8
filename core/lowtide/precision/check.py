"""Whether a device can have the widths of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np

from lowtide.errors import QuantizationError, nearest
from lowtide.ir import Layer, layers
from lowtide.precision.api import PrecisionPlan, PrecisionProblem
from lowtide.precision.classes import PrecisionClass
from lowtide.quantize.operands import data_operands, mac_operands
from lowtide.target import Constraint, check_node

WIDE = 16
"""The width that mixed precision raises to."""


def refusal(problem: PrecisionProblem, layer: Layer) -> Constraint | None:
    """Why a layer cannot have 16-bit tensors or parameters, ``None`` if it can."""
    for node in layer.nodes:
        failed = check_node(problem.target, node, WIDE, layer_size=len(layer.nodes))
        if failed:
            return failed[0]
    return None


def refused_layers(problem: PrecisionProblem) -> Mapping[str, Constraint]:
    """The layers on the accelerator that cannot have 16 bits, and why."""
    on_device = [layer for layer in layers(problem.graph) if problem.placement.on_accelerator(layer.name)]
    return {layer.name: found for layer in on_device if (found := refusal(problem, layer)) is not None}


def widest_plan(problem: PrecisionProblem) -> PrecisionPlan:
    """16 bits wherever the device has them."""
    refused = refused_layers(problem)
    plan = problem.uniform(WIDE)
    activations, weights = dict(plan.activations), dict(plan.weights)
    groups = classes_of_tensors(problem)
    for layer in layers(problem.graph):
        if layer.name in refused:
            weights[layer.name] = problem.options.tensor_bits
            for value in (*layer.inputs, *layer.outputs):
                if value.name in groups:
                    tensors = groups[value.name].tensors
                    activations.update(dict.fromkeys(tensors, problem.options.tensor_bits))
    return PrecisionPlan(activations, weights)


def has_parameters(layer: Layer) -> bool:
    """Whether a layer computes with constants, which have a width of their own."""
    return any(
        mac_operands(node) is not None or any(node.value(at).is_constant for at in data_operands(node))
        for node in layer.nodes
    )


def classes_of_tensors(problem: PrecisionProblem) -> Mapping[str, PrecisionClass]:
    """The class of every tensor that has one."""
    return {tensor: group for group in problem.classes for tensor in group.tensors}


def check_plan(plan: PrecisionPlan, problem: PrecisionProblem, provider: str) -> None:
    """Check that every class and every layer has one width, and one that the target has.

    Raises:
        QuantizationError: naming who made the plan, the class or layer, and the rule it breaks.
    """
    allowed = problem.target.bits
    _check_names(plan, problem, provider)
    for group in problem.classes:
        widths = {plan.activations.get(tensor) for tensor in group.tensors}
        if len(widths) > 1:
            ties = ", ".join(group.ties[:3])
            raise QuantizationError(
                f"{provider} gives one class the widths {sorted(map(str, widths))}; {ties} tie its tensors",
                place=group.name,
                hint="a class has one width",
            )
        if not widths <= set(allowed):
            raise QuantizationError(
                f"{provider} gives {widths.pop()} bits, the device has {allowed}", place=group.name
            )
    for layer in layers(problem.graph):
        if problem.placement.on_accelerator(layer.name) and plan.weights.get(layer.name) not in allowed:
            raise QuantizationError(
                f"{provider} gives parameters {plan.weights.get(layer.name)} bits, the device has {allowed}",
                place=layer.name,
            )


def _check_names(plan: PrecisionPlan, problem: PrecisionProblem, provider: str) -> None:
    """Check that a plan has a width for everything, and for nothing else, and that widths are numbers."""
    uniform = problem.uniform(problem.options.tensor_bits)
    kinds = {
        "activations": (plan.activations, uniform.activations),
        "weights": (plan.weights, uniform.weights),
    }
    for kind, (widths, wanted) in kinds.items():
        missing = next((name for name in wanted if name not in widths), None)
        if missing is not None:
            raise QuantizationError(
                f"{provider} gives no width in {kind}",
                place=missing,
                hint="start from problem.uniform(8) and change what should be wider",
            )
        unknown = next((name for name in widths if name not in wanted), None)
        if unknown is not None:
            raise QuantizationError(
                f"{provider} gives a width in {kind} to what has none",
                place=unknown,
                hint=nearest(unknown, wanted),
            )
        for name, bits in widths.items():
            if not isinstance(cast("object", bits), (int, np.integer)):
                raise QuantizationError(f"{provider} gives {bits!r} bits, expected an int", place=name)


def check_choice(plan: PrecisionPlan, problem: PrecisionProblem, provider: str) -> None:
    """Check what a strategy chose: as `check_plan`, the rules between layers and widths, and the budget.

    Raises:
        QuantizationError: naming who made the plan, the class or layer, and the rule it breaks.
    """
    check_plan(plan, problem, provider)
    groups = classes_of_tensors(problem)
    for layer in layers(problem.graph):
        if not problem.placement.on_accelerator(layer.name):
            continue
        written = max((plan.activations.get(value.name, 0) for value in layer.outputs), default=0)
        if written > plan.weights[layer.name] and has_parameters(layer):
            raise QuantizationError(
                f"{provider} gives the output of {layer.name} {written} bits and its parameters "
                f"{plan.weights[layer.name]}",
                place=groups[layer.output.name].name,
                hint="a layer with a 16-bit output has 16-bit parameters",
            )
        around = [value.name for value in (*layer.inputs, *layer.outputs) if value.name in groups]
        wide = [name for name in around if plan.activations[name] == WIDE]
        if wide or plan.weights[layer.name] == WIDE:
            found = refusal(problem, layer)
            if found is not None:
                raise QuantizationError(
                    f"{provider} gives {layer.name} 16 bits: {found.reason}",
                    place=groups[wide[0]].name if wide else layer.name,
                    hint=found.hint or "leave it at 8 bits",
                )
    if problem.budget is not None and problem.costs is not None:
        _check_budget(plan, problem, provider)


def _check_budget(plan: PrecisionPlan, problem: PrecisionProblem, provider: str) -> None:
    assert problem.costs is not None  # noqa: S101 - the caller checks
    assert problem.budget is not None  # noqa: S101 - the caller checks
    ms = problem.costs.ms(plan)
    if problem.budget.holds(ms):
        return

    def saved(group: PrecisionClass) -> float:
        lower = {**plan.activations, **dict.fromkeys(group.tensors, problem.options.tensor_bits)}
        assert problem.costs is not None  # noqa: S101 - as above
        return ms - problem.costs.ms(PrecisionPlan(lower, plan.weights))

    wide = [group for group in problem.classes if plan.activations[group.name] == WIDE]
    dearest = max(wide, key=saved).name if wide else ""
    raise QuantizationError(
        f"{provider} gives a plan of {ms:.4g} ms, the budget is {problem.budget.text}"
        + (f"; 16 bits cost most in the class {dearest}" if dearest else ""),
        place=dearest or next((name for name, bits in plan.weights.items() if bits == WIDE), ""),
        hint="a plan must cost no more than the budget: raise the budget, or give fewer layers 16 bits",
    )
