"""Transpositions that cancel each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs
import numpy as np

from lowtide.ir import Constant, Graph, Node, TensorType, Value
from lowtide.passes import Pass, PassContext, PassOutcome
from lowtide_plugins.passes.rewrite import Tally, array_of, bypass, is_alive

Order = tuple[int, ...]

ELEMENTWISE = frozenset(
    {
        "Abs",
        "Add",
        "Cast",
        "Clip",
        "Div",
        "Elu",
        "Erf",
        "Exp",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Log",
        "Max",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "Pow",
        "PRelu",
        "Reciprocal",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Sqrt",
        "Sub",
        "Sum",
        "Tanh",
    }
)
"""Operators that do the same to every element, with operands that broadcast as numpy has it."""


@attrs.frozen(kw_only=True)
class MergeTransposes(Pass):
    """Composes Transposes that follow each other, and cancels those with elementwise operators between.

    Precondition: shapes are inferred. Effect: of two in a row the second does the work of both and goes if
    that is none; where every operand of a group of elementwise nodes comes out of the inverse of the
    Transpose behind the group, or is a constant, all of these Transposes go and the group works in the other
    order of axes. The number of nodes never grows. It refuses groups of which another node reads an
    intermediate tensor, and axes of per-channel scales.
    """

    name: ClassVar[str] = "merge-transposes"

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:  # noqa: ARG002 - the graph says it all
        """See `Pass.run`."""
        tally = Tally()
        for node in graph:
            if node.op == "Transpose" and is_alive(graph, node):
                _compose(graph, node, tally)
        for node in graph:
            if node.op == "Transpose" and is_alive(graph, node):
                _cancel(graph, node, tally)
        return tally.outcome()


def order_of(node: Node) -> Order | None:
    """Which axis of the operand each axis of the result is, ``None`` when the rank is unknown."""
    rank = node.value(0).type.rank
    default = () if rank is None else tuple(range(rank))[::-1]
    order = node.ints_attribute("perm", default)
    return order if rank is None or len(order) == rank else None


def _inverse(order: Order) -> Order:
    return tuple(order.index(axis) for axis in range(len(order)))


def _permuted(known: TensorType, order: Order) -> TensorType:
    if known.shape is None:
        return known
    return attrs.evolve(known, shape=tuple(known.shape[axis] for axis in order))


def _per_tensor(*values: Value) -> bool:
    return all(value.type.quant is None or value.type.quant.axis is None for value in values)


def _compose(graph: Graph, second: Node, tally: Tally) -> None:
    first = second.value(0).producer
    if first is None or first.op != "Transpose" or first.layer or second.layer:
        return
    inner, outer = order_of(first), order_of(second)
    source, between, result = first.value(0), first.output, second.output
    same = source.type.quant == between.type.quant == result.type.quant
    if not inner or not outer or not same or not _per_tensor(source):
        return
    order = tuple(inner[axis] for axis in outer)
    gone = order == tuple(range(len(order))) and bypass(graph, second, source, tally)
    if not gone:
        graph.set_attribute(second, "perm", order)
        graph.set_input(second, 0, source)
        second.location = first.location.merged(second.location)
    tally.count("cancelled" if gone else "composed")
    _drop(graph, first)


def _drop(graph: Graph, node: Node) -> None:
    if is_alive(graph, node) and not node.output.uses and not graph.is_output(node.output):
        graph.remove(node)


@attrs.define
class _Group:
    """Elementwise nodes before a Transpose, in the order in which they were found, and what they read."""

    nodes: list[Node] = attrs.field(factory=list[Node])
    transposes: list[Node] = attrs.field(factory=list[Node])
    reason: str = ""


def _cancel(graph: Graph, last: Node, tally: Tally) -> None:
    order = order_of(last)
    maker = last.value(0).producer
    if order is None or last.layer or maker is None or maker.op not in ELEMENTWISE:
        return
    group = _group(graph, last, maker, _inverse(order))
    if not group.transposes:
        return
    if group.reason:
        tally.refuse(last, group.reason)
        return
    result = last.value(0)
    if graph.is_output(last.output) and graph.is_output(result):
        return
    for node in group.nodes:
        _reorder(graph, node, order, group)
    if bypass(graph, last, result, tally):
        tally.count("cancelled", 1 + len(group.transposes))
    for node in group.transposes:
        _drop(graph, node)


def _group(graph: Graph, last: Node, start: Node, inverse: Order) -> _Group:
    """All elementwise nodes that the last Transpose depends on, back to Transposes by the inverse order."""
    group, waiting = _Group(), [start]
    while waiting:
        node = waiting.pop()
        if node in group.nodes:
            continue
        group.nodes.append(node)
        for value in node.inputs:
            if value is None or value.is_constant:
                group.reason = group.reason or _constant_objection(value, len(inverse))
            elif value.producer is not None and value.producer.op in ELEMENTWISE:
                waiting.append(value.producer)
            elif value.producer is not None and _is_inverse(value.producer, inverse):
                group.transposes += [value.producer] if value.producer not in group.transposes else []
            else:
                group.reason = f"{value.name} would have to come out of the inverse Transpose."
    group.reason = group.reason or _readers_objection(graph, last, group)
    return group


def _constant_objection(value: Value | None, rank: int) -> str:
    if value is None:
        return ""
    data = array_of(value)
    if data is None or data.ndim > rank:
        return f"{value.name} would have to be a constant that is not quantized."
    return ""


def _is_inverse(node: Node, inverse: Order) -> bool:
    same = node.value(0).type.quant == node.output.type.quant
    return node.op == "Transpose" and not node.layer and order_of(node) == inverse and same


def _readers_objection(graph: Graph, last: Node, group: _Group) -> str:
    members = {*group.nodes, last}
    for node in group.nodes:
        value = node.output
        if graph.is_output(value) or any(use.node not in members for use in value.uses):
            return (
                f"{value.name} is read elsewhere too; it would have to be read between the Transposes alone."
            )
        if not _per_tensor(value) or value.type.rank not in {None, len(order_of(last) or ())}:
            return f"{value.name} would have to have scales per tensor and the rank of the Transpose."
    return ""


def _reorder(graph: Graph, node: Node, order: Order, group: _Group) -> None:
    for operand, value in enumerate(node.inputs):
        if value is None:
            continue
        if value.is_constant:
            _reorder_constant(graph, node, operand, order)
        elif value.producer in group.transposes:
            graph.set_input(node, operand, value.producer.value(0))
    graph.retype(node.output, _permuted(node.output.type, order))


def _reorder_constant(graph: Graph, node: Node, operand: int, order: Sequence[int]) -> None:
    value = node.value(operand)
    data = array_of(value)
    if data is None or data.size == 1:
        return
    full = data.reshape((1,) * (len(order) - data.ndim) + data.shape)
    moved = Constant.of(np.ascontiguousarray(full.transpose(order)))
    graph.set_input(node, operand, graph.add_constant(graph.fresh_name(f"{value.name}_transposed"), moved))
