"""Checks that a graph is what every pass may rely on."""

from __future__ import annotations

from onnx.defs import OpSchema

from lowtide.errors import GraphError, counted, nearest
from lowtide.ir.constant import Constant
from lowtide.ir.dtypes import DType
from lowtide.ir.graph import Graph
from lowtide.ir.node import AttributeValue, Node, Use, Value
from lowtide.ir.schema import OPSET, known_ops, schema

_KINDS: dict[OpSchema.AttrType, type | tuple[type, ...]] = {
    OpSchema.AttrType.INT: int,
    OpSchema.AttrType.FLOAT: (float, int),
    OpSchema.AttrType.STRING: str,
    OpSchema.AttrType.TENSOR: Constant,
    OpSchema.AttrType.INTS: int,
    OpSchema.AttrType.FLOATS: (float, int),
    OpSchema.AttrType.STRINGS: str,
}
_LISTS = {OpSchema.AttrType.INTS, OpSchema.AttrType.FLOATS, OpSchema.AttrType.STRINGS}
_UNBOUNDED = 2**31 - 1
"""The number that schemas give for a variadic operand."""


def verify(graph: Graph) -> None:
    """Check structure, operator schemas and quantization parameters.

    Raises:
        GraphError: naming the first node or value that breaks a rule.
    """
    given = (*graph.inputs, *graph.constants)
    for value in given:
        _check_value(graph, value)
    seen: set[Value] = set(given)
    names: set[str] = set()
    for node in graph:
        _check_node(graph, node, seen)
        if node.name in names:
            raise GraphError(f"two nodes are named {node.name!r}", place=node.place)
        names.add(node.name)
        seen.update(node.outputs)
    for value in graph.outputs:
        if value not in seen:
            raise GraphError("the graph returns a value that it does not have", place=value.name)
    for value in graph.values.values():
        if value not in seen:
            raise GraphError("nothing makes this value", place=value.name)
        for use in value.uses:
            if use.node.operand(use.operand) is not value:
                raise GraphError("the list of uses is wrong", place=value.name)


def _check_value(graph: Graph, value: Value) -> None:
    if graph.values.get(value.name) is not value:
        raise GraphError("the value is filed under another name", place=value.name)
    quant = value.type.quant
    if quant is None:
        return
    if not value.type.dtype.is_float:
        raise GraphError(f"only float values are quantized, this is {value.type.dtype}", place=value.name)
    if quant.axis is None or value.type.shape is None:
        return
    if quant.axis >= len(value.type.shape):
        raise GraphError(
            f"axis {quant.axis} of the scales, but {len(value.type.shape)} dimensions", place=value.name
        )
    size = value.type.shape[quant.axis]
    if size is not None and size != len(quant.scale):
        raise GraphError(
            f"{counted(len(quant.scale), 'scale')} for {counted(size, 'channel')}", place=value.name
        )


def _check_node(graph: Graph, node: Node, seen: set[Value]) -> None:
    found = schema(node.op)
    if found is None:
        raise GraphError(
            f"ONNX has no operator {node.op} at opset {OPSET}",
            place=node.place,
            hint=nearest(node.op, known_ops()),
        )
    for operand, value in enumerate(node.inputs):
        if value is None:
            continue
        if value not in seen:
            raise GraphError(f"reads {value.name} before it is made", place=node.place)
        if Use(node, operand) not in value.uses:
            raise GraphError(f"{value.name} does not know that it is read", place=node.place)
    for value in node.outputs:
        if value.producer is not node or value.is_constant:
            raise GraphError(f"{value.name} does not know its maker", place=node.place)
        _check_value(graph, value)
    _check_counts(node, found)
    _check_attributes(node, found)


def _check_counts(node: Node, found: OpSchema) -> None:
    counted = (
        ("operands", len(node.inputs), found.min_input, found.max_input),
        ("results", len(node.outputs), found.min_output, found.max_output),
    )
    for what, count, least, most in counted:
        if not least <= count <= most:
            raise GraphError(f"{count} {what}, expected {_span(least, most)}", place=node.place)
    for value, formal in zip(node.inputs, found.inputs, strict=False):
        if value is None and formal.option == OpSchema.FormalParameterOption.Single:
            raise GraphError(f"operand {formal.name} is left out, but it is required", place=node.place)


def _span(least: int, most: int) -> str:
    if least == most:
        return f"{least}"
    return f"{least} to {most}" if most < _UNBOUNDED else f"at least {least}"


def _check_attributes(node: Node, found: OpSchema) -> None:
    for name, value in node.attributes.items():
        spec = found.attributes.get(name)
        if spec is None:
            raise GraphError(
                f"unknown attribute {name}", place=node.place, hint=nearest(name, found.attributes)
            )
        if not _fits(value, spec.type):
            raise GraphError(
                f"attribute {name} should be {_kind_name(spec.type)}, found {value!r}", place=node.place
            )
    for name, spec in found.attributes.items():
        if spec.required and name not in node.attributes:
            raise GraphError(f"attribute {name} is missing", place=node.place)


def _fits(value: AttributeValue, kind: OpSchema.AttrType) -> bool:
    expected = _KINDS.get(kind)
    if expected is None:
        return False
    if kind not in _LISTS:
        return isinstance(value, expected) and _storable(value)
    return isinstance(value, tuple) and all(
        isinstance(entry, expected) and _storable(entry) for entry in value
    )


def _storable(entry: AttributeValue) -> bool:
    return not isinstance(entry, int) or DType.INT64.min <= entry <= DType.INT64.max


def _kind_name(kind: OpSchema.AttrType) -> str:
    return str(kind).rpartition(".")[2]
