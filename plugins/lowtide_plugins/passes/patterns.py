"""Functions that exporters write out, node by node. Every match gives the nodes in executable order."""

from __future__ import annotations

import math
from collections.abc import Iterator

from lowtide.ir import Graph, Node, Value
from lowtide_plugins.passes.rewrite import array_of, ints_of, number_of

TOLERANCE = 1e-4
"""Relative difference up to which a constant is taken for the one of the pattern."""


def silu(graph: Graph, last: Node) -> list[Node] | None:
    """Mul(x, Sigmoid(x))."""
    if last.op != "Mul":
        return None
    for source, gate in _both(last):
        maker = gate.producer
        if maker is not None and maker.op == "Sigmoid" and maker.value(0) is source:
            return _closed(graph, [maker, last])
    return None


def gelu(graph: Graph, last: Node) -> list[Node] | None:
    """X * (1 + erf(x / sqrt 2)) / 2, with the half at the end, at the sum, or at x.

    Source: Hendrycks and Gimpel, Gaussian Error Linear Units, arXiv:1606.08415, section 2.
    """
    if last.op not in {"Mul", "Div"}:
        return None
    for whole, extra in _halved(last):
        product = whole.producer
        if product is not None and product.op == "Mul":
            found = _gelu_product(graph, product, [*extra, last], halved=True)
            if found is not None:
                return found
    return _gelu_product(graph, last, [], halved=False) if last.op == "Mul" else None


def _gelu_product(graph: Graph, product: Node, behind: list[Node], *, halved: bool) -> list[Node] | None:
    for left, right in _both(product):
        if halved:
            found = _erf_sum(right, left)
            if found is not None:
                return _closed(graph, [*found, product, *behind])
            continue
        for half, source in ((left, inner) for inner in _half_sources(left)):
            found = _erf_sum(right, source)
            if found is not None and half.producer is not None:
                return _closed(graph, _ordered(graph, [*found, half.producer, product]))
        for inner in _half_sources(right):
            found = _erf_sum(inner, left)
            if found is not None and right.producer is not None:
                return _closed(graph, [*found, right.producer, product])
    return None


def _half_sources(value: Value) -> list[Value]:
    return [] if value.producer is None else [whole for whole, _ in _halved(value.producer)]


def _halved(node: Node) -> Iterator[tuple[Value, list[Node]]]:
    """What a node takes half of."""
    for value, number in _with_number(node):
        if (node.op == "Mul" and _near(number, 0.5)) or (node.op == "Div" and _near(number, 2.0)):
            yield value, []


def _erf_sum(value: Value, source: Value) -> list[Node] | None:
    """1 + erf(source / sqrt 2), as the three nodes that make it."""
    added = value.producer
    if added is None or added.op != "Add":
        return None
    for inner, number in _with_number(added):
        erf = inner.producer
        scaled = erf.value(0).producer if erf is not None and erf.op == "Erf" else None
        if erf is None or scaled is None or not _near(number, 1.0):
            continue
        for origin, factor in _with_number(scaled):
            wanted = math.sqrt(2) if scaled.op == "Div" else math.sqrt(0.5)
            if scaled.op in {"Mul", "Div"} and origin is source and _near(factor, wanted):
                return [scaled, erf, added]
    return None


def layer_norm(graph: Graph, last: Node) -> list[Node] | None:
    """(x - mean) / sqrt(variance + epsilon), times a constant and plus a constant where these follow at once.

    Source: Ba, Kiros and Hinton, Layer Normalization, arXiv:1607.06450, equation 4.
    """
    core = _normalized(last) if last.op == "Div" else None
    if core is None:
        return None
    nodes = _closed(graph, core)
    for op in ("Mul", "Add"):
        follower = _constant_follower(graph, nodes[-1], op) if nodes else None
        if nodes is None or follower is None:
            break
        nodes = [*nodes, follower]
    return nodes


def _constant_follower(graph: Graph, node: Node, op: str) -> Node | None:
    value = node.output
    if len(value.uses) != 1 or graph.is_output(value) or value.type.quant is not None:
        return None
    reader, operand = value.uses[0]
    constant = array_of(reader.operand(1 - operand)) if reader.op == op else None
    return reader if constant is not None and constant.ndim <= 1 else None


def _normalized(last: Node) -> list[Node] | None:
    centred, root = last.value(0).producer, last.value(1).producer
    if centred is None or centred.op != "Sub" or root is None or root.op != "Sqrt":
        return None
    mean, added = centred.value(1).producer, root.value(0).producer
    if mean is None or not _is_last_mean(mean) or mean.value(0) is not centred.value(0) or added is None:
        return None
    for variance, _ in _with_number(added) if added.op == "Add" else ():
        averaged = variance.producer
        if averaged is None or not _is_last_mean(averaged):
            continue
        squared = averaged.value(0).producer
        if squared is not None and _is_square(squared, centred.output):
            return [mean, centred, squared, averaged, added, root, last]
    return None


def _is_last_mean(node: Node) -> bool:
    rank = node.value(0).type.rank
    axes = ints_of(node.operand(1)) if node.op == "ReduceMean" else None
    return axes in {(-1,), (None if rank is None else rank - 1,)} and bool(node.int_attribute("keepdims", 1))


def _is_square(node: Node, value: Value) -> bool:
    if node.op == "Pow":
        return node.value(0) is value and number_of(node.operand(1)) == 2
    return node.op == "Mul" and node.value(0) is value and node.value(1) is value


def _both(node: Node) -> list[tuple[Value, Value]]:
    first, second = node.value(0), node.value(1)
    return [(first, second), (second, first)]


def _with_number(node: Node) -> Iterator[tuple[Value, float]]:
    """The operand that is no number, with the number; a quotient has the number below."""
    for operand in (0, 1) if node.op in {"Add", "Mul"} else (0,):
        value, number = node.operand(operand), number_of(node.operand(1 - operand))
        if value is not None and number is not None and len(node.inputs) == 2:
            yield value, number


def _near(number: float, wanted: float) -> bool:
    return math.isclose(number, wanted, rel_tol=TOLERANCE)


def _ordered(graph: Graph, nodes: list[Node]) -> list[Node]:
    return [node for node in graph if node in nodes]


def _closed(graph: Graph, nodes: list[Node]) -> list[Node] | None:
    """The nodes, if all that they make but the last result stays among them as float numbers."""
    for node in nodes[:-1]:
        value = node.output
        outside = any(use.node not in nodes for use in value.uses)
        if outside or graph.is_output(value) or value.type.quant is not None:
            return None
    return nodes
