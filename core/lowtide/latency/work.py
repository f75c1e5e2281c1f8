"""What a layer has to do, whatever the widths: products, operations on elements, tensors and parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import attrs

from lowtide.ir import DType, Graph, Layer, Node, Value, layers
from lowtide.target import OperatorKind, Placement, Target

VIEWS = frozenset({"Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that name the same elements in another way and move none."""

COMPARISONS = frozenset({"ArgMax", "ArgMin", "TopK"})
"""Operators that give indices and compute no function."""

WINDOWS = frozenset({"AveragePool", "LpPool", "MaxPool"})

ACTIVATIONS = frozenset({"Clip", "Relu"})
"""Operators that cost nothing in the layer of another, where they are limits of its result."""


@attrs.frozen(kw_only=True)
class MatrixWork:
    """Products as matrices ``[rows, depth]`` by ``[depth, columns]``, `groups` of them.

    Attributes:
        rows: output channels of a group.
        depth: products that are summed for one element of the output.
        columns: positions of the output, batch included.
    """

    groups: int
    rows: int
    depth: int
    columns: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.groups * self.rows * self.depth * self.columns

    @property
    def depthwise(self) -> bool:
        """Whether every output channel sees one input channel of several, so that matrices are vectors."""
        return self.groups > 1 and self.rows == 1


@attrs.frozen(kw_only=True)
class TensorWork:
    """A tensor that a layer reads or writes.

    Attributes:
        elements: how many it has; dimensions that are known at run time only count as 1.
        bits: the width of one element where it has no codes.
        border: whether it has codes on one side only, because the host runs the layer on the other. Inputs
            and outputs of the network are none: a caller may pass codes.
    """

    name: str
    elements: int
    bits: int
    border: bool = False


@attrs.frozen(kw_only=True)
class LayerWork:
    """What one layer has to do.

    Attributes:
        name: that of the layer.
        op: the operator that gives the layer its type.
        kind: how the device treats that operator; ``None`` for an operator that it does not know.
        host: whether the layer runs on the host.
        matrices: its products; empty without any.
        vector_ops: operations on single elements: sums, comparisons, rounding to codes, moves.
        function_ops: elements that go through a function, as Sigmoid or Softmax.
        inputs: activations that it reads.
        outputs: what it writes.
        parameters: elements of its constants.
        parameter_bits: their width where they have no codes.
        static: whether all shapes are known.
    """

    name: str
    op: str
    kind: OperatorKind | None
    host: bool
    matrices: tuple[MatrixWork, ...]
    vector_ops: int
    function_ops: int
    inputs: tuple[TensorWork, ...]
    outputs: tuple[TensorWork, ...]
    parameters: int
    parameter_bits: int = 32
    static: bool

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return sum(matrix.macs for matrix in self.matrices)


def layer_works(graph: Graph, target: Target, placement: Placement) -> Mapping[str, LayerWork]:
    """What every layer of a prepared and placed graph has to do, by name, in executable order."""
    host = {entry.layer for entry in placement.assignments if entry.device == "host"}
    found = layers(graph)
    makers = {value: layer.name for layer in found for value in layer.outputs}
    readers: dict[Value, list[str]] = {}
    for layer in found:
        for value in layer.inputs:
            readers.setdefault(value, []).append(layer.name)

    def enters(value: Value) -> bool:
        return makers.get(value) in host

    def leaves(value: Value) -> bool:
        return any(name in host for name in readers.get(value, ()))

    return {layer.name: _work(layer, target, layer.name in host, enters, leaves) for layer in found}


def work_shares(graph: Graph, target: Target, placement: Placement) -> Mapping[str, float]:
    """The part that every layer has of the work of the network, by name, whatever it takes on the device."""
    works = layer_works(graph, target, placement)
    effort = {name: work.macs + work.vector_ops + work.function_ops for name, work in works.items()}
    total = max(sum(effort.values()), 1)
    return {name: one / total for name, one in effort.items()}


def _work(
    layer: Layer,
    target: Target,
    host: bool,
    enters: Callable[[Value], bool],
    leaves: Callable[[Value], bool],
) -> LayerWork:
    kinds: list[OperatorKind | None] = [_kind(node, target) for node in layer.nodes]
    operations = [
        _operations(node, kind, alone=number == 0)
        for number, (node, kind) in enumerate(zip(layer.nodes, kinds, strict=True))
    ]
    functions = [
        kind in {"table", "norm", "float"} and node.op not in COMPARISONS
        for node, kind in zip(layer.nodes, kinds, strict=True)
    ]
    values = (*layer.inputs, *layer.outputs)
    constants = {
        value: None
        for node in layer.nodes
        for value in node.inputs
        if value is not None and value.is_constant
    }
    return LayerWork(
        name=layer.name,
        op=layer.op,
        kind=kinds[0],
        host=host,
        matrices=tuple(found for node in layer.nodes if (found := matrix_work(node)) is not None),
        vector_ops=sum(ops for ops, slow in zip(operations, functions, strict=True) if not slow),
        function_ops=sum(ops for ops, slow in zip(operations, functions, strict=True) if slow),
        inputs=tuple(_tensor(value, border=not host and enters(value)) for value in layer.inputs),
        outputs=tuple(_tensor(value, border=not host and leaves(value)) for value in layer.outputs),
        parameters=sum(elements(value) for value in constants if value.type.dtype.is_float),
        static=all(value.type.is_static for value in values),
    )


def _kind(node: Node, target: Target) -> OperatorKind | None:
    rule = target.operators.get(node.op)
    return rule.kind if rule else None


def _tensor(value: Value, *, border: bool) -> TensorWork:
    coded = value.type.dtype is DType.FLOAT32
    return TensorWork(
        name=value.name, elements=elements(value), bits=value.type.dtype.bits, border=border and coded
    )


def elements(value: Value) -> int:
    """How many elements a value has; unknown dimensions count as 1."""
    return math.prod(dim or 1 for dim in value.type.shape or ())


def _dims(value: Value) -> tuple[int, ...]:
    return tuple(dim or 1 for dim in value.type.shape or ())


def matrix_work(node: Node) -> MatrixWork | None:
    """The products of a node; ``None`` for an operator without any."""
    match node.op:
        case "Conv" | "DeformConv":
            weights, out, group = _dims(node.value(1)), _dims(node.output), node.int_attribute("group", 1)
            columns = math.prod(out) // max(1, weights[0])
            depth = math.prod(weights[1:])
            return MatrixWork(groups=group, rows=weights[0] // group, depth=depth, columns=columns)
        case "ConvTranspose":
            weights, read, group = _dims(node.value(1)), _dims(node.value(0)), node.int_attribute("group", 1)
            columns = math.prod(read) // max(1, weights[0])
            rows = math.prod(weights[1:])
            return MatrixWork(groups=group, rows=rows, depth=weights[0] // group, columns=columns)
        case "Gemm":
            read, out = _dims(node.value(0)), _dims(node.output)
            depth = read[0] if node.int_attribute("transA", 0) else read[-1]
            return MatrixWork(groups=1, rows=out[-1], depth=depth, columns=math.prod(out[:-1]))
        case "MatMul":
            return _matmul(_dims(node.value(0)), _dims(node.value(1)), _dims(node.output))
        case _:
            return None


def _matmul(left: tuple[int, ...], right: tuple[int, ...], out: tuple[int, ...]) -> MatrixWork:
    depth = left[-1] if left else 1
    rows = right[-1] if len(right) > 1 else 1
    groups = math.prod(right[:-2])
    return MatrixWork(groups=groups, rows=rows, depth=depth, columns=math.prod(out) // max(1, rows * groups))


def _operations(node: Node, kind: OperatorKind | None, *, alone: bool) -> int:
    """Operations on single elements, besides products."""
    if node.op in VIEWS or (node.op in ACTIVATIONS and not alone):
        return 0
    made = max(map(elements, node.outputs))
    if node.op in WINDOWS:
        return made * math.prod(node.ints_attribute("kernel_shape", (1,)))
    read = [elements(value) for value in node.inputs if value is not None and not value.is_constant]
    if kind == "pool" or node.op.startswith(("Reduce", "ArgM", "Global")):
        return max([made, *read])
    if kind == "elementwise":
        return made * max(1, len(node.inputs) - 1)
    return made
