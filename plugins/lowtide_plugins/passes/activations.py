"""Activations written out become the operators that they are."""

from __future__ import annotations

import math

import numpy as np

from lowtide.ir import Constant, Graph, Node, Value
from lowtide_plugins.passes.facts import bounds, clamped_operand
from lowtide_plugins.passes.rewrite import (
    Tally,
    array_of,
    become,
    collapse,
    number_of,
    obstacle,
    same_static_shape,
)

TOLERANCE = 1e-4
"""Relative difference up to which a constant is taken for 1/6 or 3: exporters round them in many ways."""


def merge_clamps(graph: Graph, node: Node, tally: Tally) -> None:
    """Relu, Clip, Max and Min with numbers, one after the other, become one Relu or Clip.

    A NaN, which clamps treat in different ways, may come out differently.
    """
    limits = _limits(node)
    if limits is None or node.layer:
        return
    source = node.value(clamped_operand(node))
    first = source.producer
    earlier = _limits(first) if first is not None and obstacle(graph, first, node) is None else None
    if first is not None and earlier is not None:
        low, high = (min(max(limit, limits[0]), limits[1]) for limit in earlier)
        _set_clamp(graph, node, first.value(clamped_operand(first)), low, high)
        collapse(graph, [first], node)
        tally.count("clamps")
    elif limits == (0, math.inf) and node.op != "Relu":
        become(graph, node, "Relu", [source])
        tally.count("clamps")


def _limits(node: Node) -> tuple[float, float] | None:
    limits = bounds(node)
    source = node.value(clamped_operand(node)) if limits else None
    if limits is None or source is None or limits[0] > limits[1] or not source.type.dtype.is_float:
        return None
    # A limit of higher rank than the tensor would give the result another rank.
    scalar = all(value is source or value is None or value.type.rank == 0 for value in node.inputs)
    return limits if scalar or same_static_shape(source.type, node.output.type) else None


def _set_clamp(graph: Graph, node: Node, source: Value, low: float, high: float) -> None:
    if (low, high) == (0, math.inf):
        become(graph, node, "Relu", [source])
        return
    limits = [_limit(graph, node, low, "min"), _limit(graph, node, high, "max")]
    become(graph, node, "Clip", [source, *limits])


def _limit(graph: Graph, node: Node, number: float, what: str) -> Value | None:
    if math.isinf(number):
        return None
    data = np.array(number, node.output.type.dtype.numpy)
    return graph.add_constant(graph.fresh_name(f"{node.output.name}_{what}"), Constant.of(data))


def name_hard_sigmoid(graph: Graph, node: Node, tally: Tally) -> None:
    """Mul(Clip(Add(x, 3), 0, 6), 1/6) becomes HardSigmoid(x) with alpha=1/6 and beta=1/2."""
    product = _times_sixth(node)
    ramp = _ramp(graph, product.producer) if product is not None else None
    if product is None or ramp is None or node.layer or obstacle(graph, ramp[1][-1], node) is not None:
        return
    source, chain = ramp
    become(graph, node, "HardSigmoid", [source], {"alpha": 1 / 6, "beta": 0.5})
    collapse(graph, chain, node)
    tally.count("hard-sigmoid")


def name_hard_swish(graph: Graph, node: Node, tally: Tally) -> None:
    """Mul(x, HardSigmoid(x)) and Mul(Mul(x, Clip(Add(x, 3), 0, 6)), 1/6) become HardSwish(x).

    Source: ONNX operator HardSwish, opset 14: x * HardSigmoid(x) with alpha=1/6 and beta=1/2.
    """
    found = None if node.layer else _gated(graph, node) or _gated_ramp(graph, node)
    if found is None:
        return
    source, chain = found
    become(graph, node, "HardSwish", [source])
    collapse(graph, chain, node)
    tally.count("hard-swish")


def _gated(graph: Graph, node: Node) -> tuple[Value, list[Node]] | None:
    for source, gate in _pairs(node):
        maker = gate.producer
        if maker is None or maker.op != "HardSigmoid" or maker.value(0) is not source:
            continue
        alpha, beta = maker.float_attribute("alpha", 0.2), maker.float_attribute("beta", 0.5)
        if _near(alpha, 1 / 6) and _near(beta, 0.5) and obstacle(graph, maker, node) is None:
            return source, [maker]
    return None


def _gated_ramp(graph: Graph, node: Node) -> tuple[Value, list[Node]] | None:
    product = _times_sixth(node)
    inner = product.producer if product is not None else None
    if inner is None or obstacle(graph, inner, node) is not None:
        return None
    for source, gate in _pairs(inner):
        ramp = _ramp(graph, gate.producer)
        if ramp is not None and ramp[0] is source and obstacle(graph, ramp[1][-1], inner) is None:
            return source, [*ramp[1], inner]
    return None


def _pairs(node: Node) -> list[tuple[Value, Value]]:
    """The operands of a Mul of two tensors, both ways round."""
    if node.op != "Mul" or any(array_of(value) is not None for value in node.inputs):
        return []
    first, second = node.value(0), node.value(1)
    return [(first, second), (second, first)]


def _times_sixth(node: Node) -> Value | None:
    """The tensor that a node takes a sixth of."""
    for operand in (0, 1):
        number, value = number_of(node.operand(1 - operand)), node.operand(operand)
        if value is None or number is None or not same_static_shape(value.type, node.output.type):
            continue
        if (node.op == "Mul" and _near(number, 1 / 6)) or (
            node.op == "Div" and operand == 0 and _near(number, 6)
        ):
            return value
    return None


def _ramp(graph: Graph, clamp: Node | None) -> tuple[Value, list[Node]] | None:
    """The x of Clip(Add(x, 3), 0, 6), with these two nodes."""
    limits = _limits(clamp) if clamp is not None else None
    shifted = clamp.value(clamped_operand(clamp)).producer if clamp is not None and limits else None
    if clamp is None or limits is None or shifted is None or shifted.op != "Add":
        return None
    if limits[0] != 0 or not _near(limits[1], 6) or obstacle(graph, shifted, clamp) is not None:
        return None
    for operand in (0, 1):
        number, value = number_of(shifted.operand(1 - operand)), shifted.value(operand)
        same = same_static_shape(value.type, shifted.output.type)
        if number is not None and _near(number, 3) and same and not value.is_constant:
            return value, [shifted, clamp]
    return None


def _near(number: float, wanted: float) -> bool:
    return math.isclose(number, wanted, rel_tol=TOLERANCE)
