"""Layers: what a device executes as one step, that is a node or a fused group of nodes."""

from __future__ import annotations

import attrs

from lowtide.ir.graph import Graph
from lowtide.ir.node import Node, Value


@attrs.frozen
class Layer:
    """A node or a fused group.

    Attributes:
        name: the name of its last output tensor, which is also how the vendor's tools name it.
        nodes: in executable order.
        inputs: the values it reads that are neither constants nor made inside, without repetition.
        outputs: the values that are read outside or returned.
    """

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]

    @property
    def op(self) -> str:
        """The operator that does the work: the first of the group."""
        return self.nodes[0].op

    @property
    def output(self) -> Value:
        """The output that gives the layer its name."""
        return self.outputs[0]

    @property
    def place(self) -> str:
        """The layer in the words of the model file, for messages."""
        return self.nodes[0].place


def layers(graph: Graph) -> tuple[Layer, ...]:
    """The layers of a graph in executable order (that of their last nodes)."""
    groups: dict[str, list[Node]] = {}
    for node in graph:
        groups.setdefault(node.layer or f"\0{node.output.name}", []).append(node)
    order = {node: position for position, node in enumerate(graph)}
    ordered = sorted(groups.values(), key=lambda group: order[group[-1]])
    return tuple(_layer(graph, group) for group in ordered)


def _layer(graph: Graph, nodes: list[Node]) -> Layer:
    members = set(nodes)
    inputs: dict[Value, None] = {}
    outputs: list[Value] = []
    for node in nodes:
        for value in node.inputs:
            if value is not None and not value.is_constant and value.producer not in members:
                inputs[value] = None
        outputs += [value for value in node.outputs if _leaves(graph, value, members)]
    outputs = outputs or list(nodes[-1].outputs)
    named = nodes[-1].output if nodes[-1].output in outputs else outputs[-1]
    ordered = [named, *(value for value in outputs if value is not named)]
    return Layer(named.name, tuple(nodes), tuple(inputs), tuple(ordered))


def _leaves(graph: Graph, value: Value, members: set[Node]) -> bool:
    return graph.is_output(value) or any(use.node not in members for use in value.uses)
