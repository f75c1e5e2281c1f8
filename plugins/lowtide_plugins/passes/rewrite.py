"""The moves that several passes share: join two nodes, take one out, read and write constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import numpy as np

from lowtide.ir import Array, AttributeValue, Constant, DType, Graph, Node, TensorType, Value
from lowtide.passes import PassOutcome, Refusal


@attrs.define
class Tally:
    """What a pass did so far, and where it refused to; the same refusal is kept once."""

    counters: dict[str, int] = attrs.field(factory=dict[str, int])
    refusals: dict[Refusal, None] = attrs.field(factory=dict[Refusal, None])

    def count(self, what: str, times: int = 1) -> None:
        """Note that something was done."""
        if times:
            self.counters[what] = self.counters.get(what, 0) + times

    def refuse(self, node: Node, reason: str) -> None:
        """Note that nothing was done at a node."""
        self.refusals[Refusal(node.place, reason)] = None

    @property
    def total(self) -> int:
        """How often anything was done."""
        return sum(self.counters.values())

    def outcome(self) -> PassOutcome:
        """The result of the pass."""
        return PassOutcome(self.total > 0, dict(self.counters), tuple(self.refusals))


def is_alive(graph: Graph, node: Node) -> bool:
    """Whether the node is still in the graph, for walks over nodes that were listed before a change."""
    return graph.values.get(node.output.name) is node.output


def plain(value: Value | None) -> bool:
    """Whether the value exists and is stored as it is, not as codes."""
    return value is not None and value.type.quant is None


def array_of(value: Value | None) -> Array | None:
    """The data of a constant that is at hand and not quantized, ``None`` for any other value."""
    if value is None or value.constant is None or value.type.quant is not None:
        return None
    return value.constant.array() if value.constant.has_data else None


def ints_of(value: Value | None) -> tuple[int, ...] | None:
    """The elements of an integer constant, ``None`` for any other value."""
    data = array_of(value)
    if data is None or data.dtype.kind not in "iu":
        return None
    return tuple(int(entry) for entry in data.ravel())


def number_of(value: Value | None) -> float | None:
    """The number in a float constant of one element, ``None`` for any other value."""
    data = array_of(value)
    return float(data.ravel()[0]) if data is not None and data.size == 1 and data.dtype.kind == "f" else None


def sole_reader(graph: Graph, value: Value) -> Node | None:
    """The node that alone reads the value, once; ``None`` when there are more or the network returns it."""
    return value.uses[0].node if len(value.uses) == 1 and not graph.is_output(value) else None


def obstacle(graph: Graph, first: Node, second: Node) -> str | None:
    """Why two nodes, of which the second reads the first, cannot become one; ``None`` when they can."""
    between = first.output
    if graph.is_output(between):
        return f"the network returns {between.name}, which would have to stay inside it."
    if len(between.uses) != 1:
        return f"{between.name} is read {len(between.uses)} times; this would have to be its only reader."
    if between.type.quant is not None:
        return f"{between.name} is quantized and its rounding would be lost; it would have to be float."
    if first.layer != second.layer:
        return f"{first.place} belongs to another layer; the pass would have to run before fuse-layers."
    return None


def rename(graph: Graph, value: Value, name: str) -> None:
    """Rename a value and the layer that is named after it."""
    old = value.name
    graph.rename(value, name)
    for node in graph:
        if node.layer == old:
            node.layer = name


def absorb(graph: Graph, keep: Node, gone: Node) -> None:
    """Let `keep` give what `gone`, the only reader of its result, gave; the name of that result survives."""
    result, made, name = keep.output, gone.output.type, gone.output.name
    keep.location = keep.location.merged(gone.location)
    graph.replace_uses(gone.output, result)
    graph.remove(gone)
    rename(graph, result, name)
    graph.retype(result, made)


def absorb_before(graph: Graph, gone: Node, operand: int, keep: Node) -> None:
    """Let `keep`, the only reader of `gone` as its first operand, read what `gone` read as `operand`."""
    graph.set_input(keep, 0, gone.value(operand))
    keep.location = gone.location.merged(keep.location)
    graph.remove(gone)


def bypass(graph: Graph, node: Node, source: Value, tally: Tally) -> bool:
    """Take out a node whose first result equals `source`; a result of the network keeps its name.

    Returns:
        Whether it went. It stays, with a refusal, when no tensor can take over the name of its result.
    """
    result = node.output
    if node.layer or source.type.quant != result.type.quant:
        return False
    returned = graph.is_output(result)
    if returned and (source.producer is None or graph.is_output(source)):
        tally.refuse(
            node,
            f"the network returns {result.name}, and {source.name} is an input or returned too; it would "
            "have to be free to take that name.",
        )
        return False
    name, location = result.name, node.location
    graph.replace_uses(result, source)
    graph.remove(node)
    if source.producer is not None:
        source.producer.location = source.producer.location.merged(location)
    if returned:
        rename(graph, source, name)
    return True


def become(
    graph: Graph,
    node: Node,
    op: str,
    operands: Sequence[Value | None],
    attributes: Mapping[str, AttributeValue] | None = None,
) -> None:
    """Turn a node into another one with the same results."""
    node.op = op
    given = attributes or {}
    for name in {**node.attributes, **given}:
        graph.set_attribute(node, name, given.get(name))
    for position in reversed(range(max(len(node.inputs), len(operands)))):
        graph.set_input(node, position, operands[position] if position < len(operands) else None)


def collapse(graph: Graph, chain: Sequence[Node], last: Node) -> None:
    """Remove nodes whose work `last` does now, given in executable order and read by each other alone."""
    location = last.location
    for node in reversed(chain):
        location = node.location.merged(location)
        graph.remove(node)
    last.location = location


def write_constant(graph: Graph, node: Node, operand: int, data: Array, base: str) -> Value:
    """Let an operand be this constant: in place when nobody else reads the present one, else a new one."""
    present, constant = node.operand(operand), Constant.of(data)
    if present is not None and present.is_constant and sole_reader(graph, present) is node:
        graph.set_constant(present, constant)
        return present
    made = graph.add_constant(graph.fresh_name(present.name if present is not None else base), constant)
    graph.set_input(node, operand, made)
    return made


def add_shape(graph: Graph, base: str, dims: tuple[int, ...]) -> Value:
    """A constant that holds dimensions, as Reshape and its like read them."""
    return graph.add_constant(graph.fresh_name(base), Constant.of(np.array(dims, np.int64)))


def float_like(data: Array, dtype: DType) -> Array:
    """Round float64 results to the element type of the tensor that holds them; overflow gives infinity."""
    with np.errstate(over="ignore"):
        return np.asarray(data).astype(dtype.numpy)


def same_static_shape(first: TensorType, second: TensorType) -> bool:
    """Whether both shapes are fully known and equal."""
    return first.is_static and second.is_static and first.shape == second.shape
