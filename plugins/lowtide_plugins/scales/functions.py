"""What becomes of the elements of a tensor before they are summed: the element-wise function that reads it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lowtide.ir import Array, Graph, Node, TensorType, Value
from lowtide.runtime import Session, to_model

Function = Callable[[Array], Array]
"""Elements, float64 ``[n]``, to what the functions of them are, float64 ``[results, n]``."""

PER_ELEMENT = frozenset(
    {
        "Abs",
        "Add",
        "Clip",
        "Div",
        "Elu",
        "Erf",
        "Exp",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Max",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "Relu",
        "Sigmoid",
        "Softplus",
        "Sub",
        "Tanh",
    }
)
"""Operators that compute every element of the result from the elements at the same place."""


def read_as(graph: Graph, value: Value) -> Function | None:
    """The functions of one element through which everything sees a tensor, as x * sigmoid(x).

    The nodes that depend on this tensor and on constants of one element alone are taken together; the
    functions are what others read of them. ``None`` where somebody reads the tensor itself.
    """
    inside: dict[Value, None] = {value: None}
    nodes: list[Node] = []
    for node in graph:
        if _depends_on(node, inside):
            nodes.append(node)
            inside[node.output] = None
    made = set(nodes)
    if not nodes or graph.is_output(value) or any(use.node not in made for use in value.uses):
        return None
    results = [
        node.output
        for node in nodes
        if graph.is_output(node.output) or any(use.node not in made for use in node.output.uses)
    ]
    session = _session(value, nodes, results)

    def compute(elements: Array) -> Array:
        found = session.run({value.name: elements.astype(np.float32).reshape(1, -1)}).values()
        return np.stack([array.reshape(-1) for array in found]).astype(np.float64)

    return compute


def _depends_on(node: Node, inside: dict[Value, None]) -> bool:
    if node.op not in PER_ELEMENT or len(node.outputs) != 1:
        return False
    reads = [operand for operand in node.inputs if operand is not None]
    others = [operand for operand in reads if operand not in inside]
    return len(others) < len(reads) and all(
        operand.constant is not None and operand.constant.size == 1 for operand in others
    )


def _session(value: Value, nodes: list[Node], results: list[Value]) -> Session:
    part = Graph("elements")
    twins = {value: part.add_input(value.name, TensorType("float32", (1, None)))}
    for node in nodes:
        for operand in node.inputs:
            if operand is not None and operand.constant is not None and operand not in twins:
                twins[operand] = part.add_constant(
                    operand.name, operand.constant, operand.type.with_quant(None)
                )
        inputs = [None if operand is None else twins[operand] for operand in node.inputs]
        outputs = [(made.name, TensorType(made.type.dtype, None)) for made in node.outputs]
        twin = part.add_node(node.op, inputs, outputs, node.attributes)
        twins.update(zip(node.outputs, twin.outputs, strict=True))
    part.set_outputs([twins[made] for made in results])
    return Session(to_model(part, quantized=False))
