"""The vendor's rule of thumb: the first and the last products in 16 bits."""

from __future__ import annotations

from lowtide.ir import Layer, Value, layers
from lowtide.precision import WIDE, PrecisionPlan, PrecisionProblem, classes_of_tensors, widest_plan
from lowtide.quantize.operands import mac_operands


def rule_of_thumb(problem: PrecisionProblem, forced: PrecisionPlan) -> PrecisionPlan:
    """16 bits for the layers with weights that are nearest to the inputs and to the outputs.

    Args:
        problem: the network.
        forced: what has 16 bits in any case.

    Source: the vendor's advice for detection and depth regression, first and last convolution in 16 bits.
    """
    found = layers(problem.graph)
    widest, groups = widest_plan(problem), classes_of_tensors(problem)
    activations, weights = dict(forced.activations), dict(forced.weights)
    wanted = {layer.name for layer in (*_first(found), *_last(found))}
    raised: set[str] = set()
    for layer in found:
        if layer.name in wanted and widest.weights.get(layer.name) == WIDE:
            weights[layer.name] = WIDE
            raised |= {groups[value.name].name for value in layer.outputs if value.name in groups}
    for group in problem.classes:
        if group.name in raised and widest.activations[group.name] == WIDE:
            activations.update(dict.fromkeys(group.tensors, WIDE))
    for layer in found:
        if layer.name in weights and any(activations.get(value.name) == WIDE for value in layer.outputs):
            weights[layer.name] = WIDE
    return PrecisionPlan(activations, weights)


def _has_weights(layer: Layer) -> bool:
    return any(mac_operands(node) is not None for node in layer.nodes)


def _first(found: tuple[Layer, ...]) -> list[Layer]:
    """Layers with weights behind which there are none on some way from an input."""
    clear: set[Value] = set()
    made = {value for layer in found for value in layer.outputs}
    first: list[Layer] = []
    for layer in found:
        if any(value in clear or value not in made for value in layer.inputs):
            if _has_weights(layer):
                first.append(layer)
            else:
                clear.update(layer.outputs)
    return first


def _last(found: tuple[Layer, ...]) -> list[Layer]:
    """The same from the outputs."""
    read = {value for layer in found for value in layer.inputs}
    clear: set[Value] = set()
    last: list[Layer] = []
    for layer in reversed(found):
        if any(value in clear or value not in read for value in layer.outputs):
            if _has_weights(layer):
                last.append(layer)
            else:
                clear.update(layer.inputs)
    return last
