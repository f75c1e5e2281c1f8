"""The graph in memory, its text form and its rules."""

from __future__ import annotations

from lowtide.ir.constant import Array, Constant
from lowtide.ir.dtypes import DType
from lowtide.ir.graph import Graph
from lowtide.ir.layers import Layer, layers
from lowtide.ir.node import AttributeValue, Location, Node, Use, Value
from lowtide.ir.parser import parse_graph
from lowtide.ir.printer import print_graph, print_type
from lowtide.ir.schema import OPSET
from lowtide.ir.types import QUANTIZED_DTYPES, QuantParams, Shape, TensorType
from lowtide.ir.verify import verify

__all__ = [
    "OPSET",
    "QUANTIZED_DTYPES",
    "Array",
    "AttributeValue",
    "Constant",
    "DType",
    "Graph",
    "Layer",
    "Location",
    "Node",
    "QuantParams",
    "Shape",
    "TensorType",
    "Use",
    "Value",
    "layers",
    "parse_graph",
    "print_graph",
    "print_type",
    "verify",
]
