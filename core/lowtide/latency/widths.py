"""Widths that an estimate can be made for: one for all, or those that a graph has."""

from __future__ import annotations

from lowtide.ir import Graph, layers
from lowtide.precision import PrecisionPlan, quantized_values
from lowtide.target import Placement, Target


def uniform_plan(graph: Graph, target: Target, placement: Placement, bits: int) -> PrecisionPlan:
    """The same width for every tensor with codes and for all parameters."""
    return PrecisionPlan(
        activations={value.name: bits for value in quantized_values(graph, target, placement)},
        weights={layer.name: bits for layer in layers(graph) if placement.on_accelerator(layer.name)},
    )


def plan_of_codes(graph: Graph) -> PrecisionPlan:
    """The widths of the codes that a quantized graph has."""
    weights: dict[str, int] = {}
    for layer in layers(graph):
        operands = [value for node in layer.nodes for value in node.inputs if value and value.is_constant]
        # A bias has the width of an accumulator, which says nothing about the operands.
        found = [
            value.type.quant.bits for value in operands if value.type.quant and value.type.quant.bits < 32
        ]
        around = [value.type.quant.bits for value in (*layer.inputs, *layer.outputs) if value.type.quant]
        if found or around:
            weights[layer.name] = max(found or around)
    return PrecisionPlan(
        activations={name: value.type.quant.bits for name, value in graph.values.items() if value.type.quant},
        weights=weights,
    )
