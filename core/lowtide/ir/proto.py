"""Pieces of a graph as ONNX messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from lowtide.ir.constant import Constant
from lowtide.ir.graph import AttributeValue, Node
from lowtide.ir.types import TensorType


def node_proto(node: Node, inputs: Sequence[str]) -> onnx.NodeProto:
    """A node that reads the named tensors, with its own outputs and attributes."""
    proto = helper.make_node(node.op, list(inputs), [value.name for value in node.outputs], node.name)
    proto.attribute.extend(attribute_proto(name, entry) for name, entry in sorted(node.attributes.items()))
    return proto


def attribute_proto(name: str, value: AttributeValue) -> onnx.AttributeProto:
    """An attribute; an empty list is one of integers, since ONNX has no operator with an empty list of anything else."""
    if isinstance(value, Constant):
        return helper.make_attribute(name, numpy_helper.from_array(np.asarray(value.array())))
    if value == ():
        return helper.make_attribute(name, [], attr_type=onnx.AttributeProto.INTS)
    return helper.make_attribute(name, list(value) if isinstance(value, tuple) else value)


def dims(type: TensorType) -> list[int | str | None] | None:  # noqa: A002 - the word of the domain
    """Dimensions for a value info; unknown ones stay unknown."""
    return None if type.shape is None else list(type.shape)
