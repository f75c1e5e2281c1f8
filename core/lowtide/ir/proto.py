"""Pieces of a graph as ONNX messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.defs import OpSchema

from lowtide.ir.constant import Constant
from lowtide.ir.node import AttributeValue, Node
from lowtide.ir.schema import schema
from lowtide.ir.types import TensorType

_FLOATS = {OpSchema.AttrType.FLOAT, OpSchema.AttrType.FLOATS}
_EMPTY = {
    OpSchema.AttrType.FLOATS: onnx.AttributeProto.FLOATS,
    OpSchema.AttrType.STRINGS: onnx.AttributeProto.STRINGS,
}


def node_proto(node: Node, inputs: Sequence[str]) -> onnx.NodeProto:
    """A node that reads the named tensors, with its own outputs and attributes."""
    proto = helper.make_node(node.op, list(inputs), [value.name for value in node.outputs], node.name)
    found = schema(node.op)
    for name, entry in sorted(node.attributes.items()):
        spec = found.attributes.get(name) if found else None
        proto.attribute.append(attribute_proto(name, entry, spec.type if spec else None))
    return proto


def attribute_proto(
    name: str, value: AttributeValue, kind: OpSchema.AttrType | None = None
) -> onnx.AttributeProto:
    """An attribute.

    Args:
        name: its name.
        value: its value.
        kind: what the operator's schema asks for; without it an empty list is one of integers.
    """
    if isinstance(value, Constant):
        return helper.make_attribute(name, numpy_helper.from_array(np.asarray(value.array())))
    if isinstance(value, tuple):
        if not value:
            empty = onnx.AttributeProto.INTS if kind is None else _EMPTY.get(kind, onnx.AttributeProto.INTS)
            return helper.make_attribute(name, [], attr_type=empty)
        return helper.make_attribute(name, [float(entry) for entry in value] if kind in _FLOATS else value)
    # A whole number is a legal value of a float attribute here, but ONNX files tell the two apart.
    return helper.make_attribute(name, float(value) if kind in _FLOATS else value)


def dims(type: TensorType) -> list[int | str | None] | None:  # noqa: A002 - the word of the domain
    """Dimensions for a value info; unknown ones stay unknown."""
    return None if type.shape is None else list(type.shape)
