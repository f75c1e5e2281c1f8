"""Widths that an estimate can be made for: one for all, or those that a graph has."""

from __future__ import annotations

from lowtide.ir import Graph, layers
from lowtide.precision import PrecisionPlan, quantized_values
from lowtide.target import Placement, Target

ACCUMULATOR_BITS = 32
"""The width of biases, which says nothing about the operands."""


def uniform_plan(graph: Graph, target: Target, placement: Placement, bits: int) -> PrecisionPlan:
    """The same width for every tensor with codes and for all parameters."""
    return PrecisionPlan(
        activations={value.name: bits for value in quantized_values(graph, target, placement)},
        weights={layer.name: bits for layer in layers(graph) if placement.on_accelerator(layer.name)},
    )


def plan_of_codes(graph: Graph, target: Target, placement: Placement, bits: int = 8) -> PrecisionPlan:
    """The widths of the codes that a graph has; `bits` for those that it leaves open."""
    plan = uniform_plan(graph, target, placement, bits)
    activations = {
        name: value.type.quant.bits if (value := graph.values[name]).type.quant else bits
        for name, bits in plan.activations.items()
    }
    weights = dict(plan.weights)
    for layer in layers(graph):
        operands = [value for node in layer.nodes for value in node.inputs if value and value.is_constant]
        found = [value.type.quant.bits for value in operands if value.type.quant]
        found = [width for width in found if width < ACCUMULATOR_BITS]
        if found and layer.name in weights:
            weights[layer.name] = max(found)
    return PrecisionPlan(activations, weights)
