"""Which tensors of a float network must be scaled together, channel by channel, to change nothing."""

from __future__ import annotations

import math

import attrs
import numpy as np

from lowtide.ir import Array, Graph, Node, Value, layers
from lowtide.precision import DisjointSets
from lowtide.quantize.operands import mac_operands
from lowtide_plugins.passes.facts import bounds
from lowtide_plugins.passes.rewrite import array_of, ints_of, write_constant

HOMOGENEOUS = frozenset(
    {
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Identity",
        "LeakyRelu",
        "MaxPool",
        "PRelu",
        "Relu",
        "Resize",
    }
)
"""Operators with f(s x) = s f(x) for every channel by itself and every s > 0."""

GATING = frozenset({"HardSigmoid", "Sigmoid"})
"""What is multiplied with the tensor that it comes from, in SiLU and HardSwish."""

RESHAPING = frozenset({"Flatten", "Reshape", "Squeeze"})


@attrs.define(eq=False)
class ChannelGroup:
    """Tensors with a common factor for each channel.

    Attributes:
        values: the tensors.
        outputs: those of them that leave a layer, as far as layers are known.
        producers: products whose outputs are among them.
        consumers: products that read one of them.
        clips: Clip nodes from 0 to a limit between them, with the limit.
        gates: multiplications by a constant that undo the factors for a Sigmoid behind.
    """

    channels: int
    values: list[Value] = attrs.field(factory=list[Value])
    outputs: list[Value] = attrs.field(factory=list[Value])
    producers: list[Node] = attrs.field(factory=list[Node])
    consumers: list[Node] = attrs.field(factory=list[Node])
    clips: list[tuple[Node, float]] = attrs.field(factory=list[tuple[Node, float]])
    gates: list[Node] = attrs.field(factory=list[Node])


def channel_groups(graph: Graph) -> tuple[ChannelGroup, ...]:
    """The groups whose factors are free, in the order of the graph.

    A group is free when nothing but products with constant weights and operators that keep factors make and
    read it, and the network neither takes nor returns a part of it.
    """
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    sets: DisjointSets[str] = DisjointSets()
    for value in values:
        sets.add(value.name)
    fixed = {value.name for value in (*graph.inputs, *graph.outputs)}
    for node in graph:
        fixed.update(_tie(node, sets))
    leaving = {value for layer in layers(graph) for value in layer.outputs}
    groups: dict[str, ChannelGroup] = {}
    bound = {sets.find(name) for name in fixed}
    for value in values:
        root = sets.find(value.name)
        channels = channels_of(value)
        if root in bound or channels is None:
            continue
        group = groups.setdefault(root, ChannelGroup(channels))
        group.values.append(value)
        if value in leaving:
            group.outputs.append(value)
        maker = value.producer
        if maker is not None and is_product(maker):
            group.producers.append(maker)
        elif maker is not None and maker.op == "Clip":
            limits = bounds(maker)
            assert limits is not None  # noqa: S101 - a Clip without known limits would be fixed
            if limits[1] < math.inf:
                group.clips.append((maker, limits[1]))
        for use in value.uses:
            if is_gate(use.node):
                group.gates.append(use.node)
            elif is_product(use.node):
                group.consumers.append(use.node)
    return tuple(group for group in groups.values() if group.producers and group.consumers)


def channels_of(value: Value) -> int | None:
    """The size of axis 1 of a float tensor, ``None`` where there is none."""
    shape = value.type.shape
    if shape is None or len(shape) < 2 or not value.type.dtype.is_float or value.type.quant is not None:
        return None
    return shape[1]


def is_product(node: Node) -> bool:
    """Whether a node multiplies axis 1 of what it reads with float weights."""
    operands = mac_operands(node)
    if operands is None or operands.weights.type.quant is not None or array_of(operands.weights) is None:
        return False
    if len(node.inputs) > 2 and (operands.bias is None or array_of(operands.bias) is None):
        return False
    rank = operands.weights.type.rank
    match node.op:
        case "Conv":
            return True
        case "ConvTranspose":
            return node.int_attribute("group", 1) == 1
        case "Gemm":
            plain = (node.float_attribute("alpha", 1.0), node.float_attribute("beta", 1.0)) == (1.0, 1.0)
            return plain and not node.int_attribute("transA", 0)
        case _:
            return rank == 2 and operands.activation.type.rank == 2


def _tie(node: Node, sets: DisjointSets[str]) -> set[str]:
    """Join what a node ties, and name the tensors that it leaves no factor."""
    read = [value for value in node.inputs if value is not None and not value.is_constant]
    around = {value.name for value in (*read, *node.outputs)}
    if is_gate(node):
        return {node.output.name}
    if is_product(node):
        return set() if len(read) == 1 else around
    if node.op == "Mul" and len(read) == 2:
        return _tie_gated(node, read, sets, around)
    if not _keeps_factors(node, read):
        return around
    sets.union([*(value.name for value in read), node.output.name])
    return set()


def _tie_gated(node: Node, read: list[Value], sets: DisjointSets[str], around: set[str]) -> set[str]:
    """A product with what a Sigmoid gives carries the factors of the other operand on."""
    bounded = [value for value in read if value.producer is not None and value.producer.op in GATING]
    others = [value for value in read if value not in bounded]
    if len(bounded) != 1 or len(others) != 1 or channels_of(others[0]) != channels_of(node.output):
        return around
    sets.union([others[0].name, node.output.name])
    return {bounded[0].name}


def is_gate(node: Node) -> bool:
    """Whether a node multiplies every channel by a constant of its own, and a Sigmoid alone reads that."""
    if node.op != "Mul" or len(node.output.uses) != 1 or node.output.uses[0].node.op not in GATING:
        return False
    factors, channels = array_of(node.operand(1)), channels_of(node.output)
    if factors is None or channels is None or channels_of(node.value(0)) != channels:
        return False
    return factors.size == channels and factors.shape[1:2] == (channels,)


def _keeps_factors(node: Node, read: list[Value]) -> bool:
    counts = {channels_of(value) for value in (*read, node.output)}
    if len(counts) != 1 or None in counts or not read:
        return False
    if node.op in HOMOGENEOUS:
        return len(read) == 1 and len(node.outputs) == 1
    match node.op:
        case "Clip":
            limits = bounds(node)
            return limits is not None and limits[0] == 0.0
        case "Add" | "Sub" | "Sum" | "Max" | "Min":
            return len({value.type.shape for value in read}) == 1 and len(read) == len(node.inputs)
        case "Pad":
            return _pads_with_zeros(node)
        case "ReduceMean":
            axes = ints_of(node.operand(1))
            rank = read[0].type.rank
            return axes is not None and rank is not None and all(axis % rank > 1 for axis in axes)
        case op if op in RESHAPING:
            shape = read[0].type.shape or ()
            return all(size == 1 for size in shape[2:]) and node.output.type.rank == 2
        case _:
            return False


def _pads_with_zeros(node: Node) -> bool:
    pads, number = ints_of(node.operand(1)), array_of(node.operand(2))
    mode = node.attributes.get("mode", "constant")
    zero = node.operand(2) is None or (number is not None and not number.any())
    half = len(pads) // 2 if pads else 0
    untouched = pads is not None and half > 1 and not pads[1] and not pads[half + 1]
    return mode == "constant" and zero and untouched and node.operand(3) is None


class Product:
    """The weights of a product while factors go into them.

    Attributes:
        node: the product.
        weights: float64, in the layout of the node.
        bias: float64 ``[C_out]``, if there is one.
        given: what the output has been multiplied by so far, ``[C_out]``.
        taken: what the input has, ``[C_in]``.
    """

    def __init__(self, node: Node) -> None:
        operands = mac_operands(node)
        assert operands is not None  # noqa: S101 - `is_product` said so
        assert operands.axis is not None  # noqa: S101 - products with groups that hide it are none
        weights = array_of(operands.weights)
        assert weights is not None  # noqa: S101 - `is_product` said so
        self.node = node
        self.depthwise = operands.depthwise
        self.row_axis = operands.axis
        self.weights: Array = weights.astype(np.float64)
        bias = array_of(node.operand(2))
        count = weights.shape[self.row_axis]
        self.bias = None if bias is None else np.broadcast_to(bias.reshape(-1), (count,)).astype(np.float64)
        self.given = np.ones(count)
        self.taken = np.ones(len(self.columns()))

    def rows(self) -> Array:
        """One row of weights for every output channel, ``[C_out, K]``."""
        moved = np.moveaxis(self.weights, self.row_axis, 0)
        return moved.reshape(len(moved), -1)

    def columns(self, gains: Array | None = None) -> Array:
        """The largest weight that every input channel meets, or the sum of squares by gains, ``[C_in]``."""
        by_input = self._by_input(self.weights)
        if gains is None:
            return np.asarray(np.abs(by_input).max(axis=(1, 3), initial=0.0)).reshape(-1)
        by_group = gains.reshape(by_input.shape[0], by_input.shape[1])
        return np.asarray(np.einsum("goct,go->gc", by_input**2, by_group)).reshape(-1)

    def shares(self) -> Array:
        """The largest weight of an input channel by that of its row, the most over all rows, ``[C_in]``."""
        sizes = np.abs(self._by_input(self.weights)).max(axis=3, initial=0.0)
        rows = sizes.max(axis=2, keepdims=True, initial=0.0)
        found = np.divide(sizes, rows, out=np.zeros_like(sizes), where=rows > 0)
        return np.asarray(found.max(axis=1, initial=0.0)).reshape(-1)

    def taps(self) -> int:
        """How many positions of an input channel meet one output."""
        return int(self._by_input(self.weights).shape[3])

    def by_group(self, outputs: Array) -> Array:
        """The sum over the outputs that see an input channel, for each of these, ``[C_in]``."""
        groups, _, inputs, _ = self._by_input(self.weights).shape
        return np.repeat(outputs.reshape(groups, -1).sum(axis=1), inputs)

    def scale_rows(self, factors: Array) -> None:
        """Let the output be multiplied by factors, ``[C_out]``."""
        shape = [-1 if axis == self.row_axis else 1 for axis in range(self.weights.ndim)]
        self.given = self.given * factors
        self.weights = self.weights * factors.reshape(shape)
        if self.bias is not None:
            self.bias = self.bias * factors

    def scale_columns(self, factors: Array) -> None:
        """Take in that the input is multiplied by factors, ``[C_in]``."""
        self.taken = self.taken * factors
        by_input = self._by_input(self.weights)
        made = by_input / factors.reshape(by_input.shape[0], 1, by_input.shape[2], 1)
        if self.row_axis == 1:
            made = np.swapaxes(made, 1, 2)
        self.weights = made.reshape(self.weights.shape)

    def write(self, graph: Graph) -> None:
        """Store weights and bias in the graph."""
        write_constant(graph, self.node, 1, self.weights.astype(np.float32), f"{self.node.name}_weights")
        if self.bias is not None:
            write_constant(graph, self.node, 2, self.bias.astype(np.float32), f"{self.node.name}_bias")

    def _by_input(self, weights: Array) -> Array:
        """Weights as ``[groups, outputs, inputs, taps]``."""
        if self.row_axis == 1:
            return np.swapaxes(weights.reshape(1, weights.shape[0], weights.shape[1], -1), 1, 2)
        group = self.node.int_attribute("group", 1) if self.node.op == "Conv" else 1
        return weights.reshape(group, weights.shape[0] // group, weights.shape[1], -1)
