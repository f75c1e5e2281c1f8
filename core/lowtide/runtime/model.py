"""Graph to ONNX model, float or with QuantizeLinear and DequantizeLinear unfolded from the types."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx
from onnx import helper

from lowtide.errors import GraphError, nearest
from lowtide.ir import OPSET, Array, Constant, DType, Graph, Node, QuantParams, Value
from lowtide.ir.proto import dims, node_proto

IR_VERSION = 10
"""The ONNX file version that goes with opset 21."""


def to_model(graph: Graph, *, quantized: bool, outputs: Sequence[str] | None = None) -> onnx.ModelProto:
    """Build a model that ONNX Runtime runs.

    Args:
        graph: what to build.
        quantized: unfold the quantization of types into Q/DQ pairs; otherwise ignore that of activations and
            hand in the real numbers that quantized constants stand for.
        outputs: names of the values to return instead of the graph's outputs. A quantized value is returned
            under its own name as the real numbers after its Q/DQ pair. The name of a quantized graph input
            belongs to what is fed, so its real numbers are returned as ``<name>_dequantized``.

    Raises:
        GraphError: when an output does not exist, or a quantized value has no Q/DQ pair in ONNX: there is
            no QuantizeLinear to int32, so only constants have such codes, and scales are float32.
    """
    builder = _Builder(graph, quantized=quantized)
    return builder.model(graph.outputs if outputs is None else [_find(graph, name) for name in outputs])


def dequantize(codes: Array, quant: QuantParams) -> Array:
    """Codes to float32, as DequantizeLinear does: the difference is exact, the product is rounded.

    Source: ONNX operator DequantizeLinear, opset 21.
    """
    scale = per_axis(np.array(quant.scale, np.float32), quant, codes.ndim)
    if codes.dtype.itemsize <= 2:  # float32 holds them, and their difference
        short: Array = codes.astype(np.float32)
        short -= per_axis(np.array(quant.zero_point, np.float32), quant, codes.ndim)
        short *= scale
        return short
    zero = per_axis(np.array(quant.zero_point, np.int64), quant, codes.ndim)
    product: Array = (codes.astype(np.int64) - zero).astype(np.float32) * scale
    return product


def per_axis(values: Array, quant: QuantParams, rank: int) -> Array:
    """Bring parameters into a shape that broadcasts along the axis of `quant`."""
    if quant.axis is None:
        return values.reshape(())
    return values.reshape([-1 if axis == quant.axis else 1 for axis in range(rank)])


def _find(graph: Graph, name: str) -> Value:
    if name not in graph.values:
        raise GraphError("there is no such value to return", place=name, hint=nearest(name, graph.values))
    return graph.values[name]


class _Builder:
    def __init__(self, graph: Graph, *, quantized: bool) -> None:
        self.graph = graph
        self.quantized = quantized
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[tuple[str, Array]] = []
        self.names = {*graph.values, *(node.name for node in graph)}
        self.raw: dict[Value, str] = {}
        self.readers: dict[Value, str] = {}

    def model(self, wanted: Sequence[Value]) -> onnx.ModelProto:
        for value in wanted:
            # What is returned keeps the name of the value, so the tensor before its Q/DQ pair gets another.
            if self.has_pair(value) and value.producer is not None and value not in self.raw:
                self.raw[value] = self.fresh(f"{value.name}_raw")
        for value in self.graph.inputs:
            self.unfold(value)
        for value in self.graph.constants:
            self.constant(value)
        for node in self.graph:
            self.nodes.append(self.node(node))
            for value in node.outputs:
                self.unfold(value)
        proto = helper.make_graph(
            self.nodes,
            self.graph.name or "graph",
            [value_info(value.name, value) for value in self.graph.inputs],
            [value_info(self.readers.get(value, value.name), value) for value in wanted],
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(proto, opset_imports=opsets, ir_version=IR_VERSION, producer_name="lowtide")
        add_initializers(model, self.initializers)
        return model

    def fresh(self, base: str) -> str:
        name, number = base, 0
        while name in self.names:
            number += 1
            name = f"{base}_{number}"
        self.names.add(name)
        return name

    def initializer(self, base: str, array: Array) -> str:
        name = self.fresh(base)
        self.initializers.append((name, array))
        return name

    def scale_and_zero(self, base: str, quant: QuantParams) -> list[str]:
        shape = () if quant.axis is None else (-1,)
        scale = np.array(quant.scale, np.float32).reshape(shape)
        zero = np.array(quant.zero_point, quant.dtype.numpy).reshape(shape)
        return [self.initializer(f"{base}_scale", scale), self.initializer(f"{base}_zero_point", zero)]

    def has_pair(self, value: Value) -> bool:
        """Whether an activation is followed by a Q/DQ pair."""
        return self.quantized and value.type.quant is not None and not value.is_constant

    def constant(self, value: Value) -> None:
        assert value.constant is not None  # noqa: S101 - the caller lists constants
        quant = value.type.quant
        if quant is None:
            self.initializers.append((value.name, _plain(value.constant)))
            return
        _check_float32(value)
        if not self.quantized:
            real = dequantize(value.constant.array(), quant)
            self.initializers.append((value.name, real))
            return
        codes = self.initializer(f"{value.name}_quantized", _plain(value.constant))
        parameters = self.scale_and_zero(value.name, quant)
        self.convert("DequantizeLinear", value, [codes, *parameters], value.name, quant)

    def convert(self, op: str, value: Value, inputs: list[str], result: str, quant: QuantParams) -> None:
        made = helper.make_node(op, inputs, [result], self.fresh(f"{value.name}_{op}"))
        if quant.axis is not None:
            made.attribute.append(helper.make_attribute("axis", quant.axis))
        self.nodes.append(made)

    def unfold(self, value: Value) -> None:
        """Put a Q/DQ pair behind a quantized activation and let its readers read that."""
        quant = value.type.quant
        if quant is None or not self.has_pair(value):
            return
        _check_float32(value)
        if quant.dtype is DType.INT32:
            raise GraphError("only constants are quantized to int32", place=value.name)
        codes = self.fresh(f"{value.name}_quantized")
        real = value.name if value in self.raw else self.fresh(f"{value.name}_dequantized")
        parameters = self.scale_and_zero(value.name, quant)
        before = self.raw.get(value, value.name)
        self.convert("QuantizeLinear", value, [before, *parameters], codes, quant)
        self.convert("DequantizeLinear", value, [codes, *parameters], real, quant)
        self.readers[value] = real

    def node(self, node: Node) -> onnx.NodeProto:
        inputs = ["" if value is None else self.readers.get(value, value.name) for value in node.inputs]
        proto = node_proto(node, inputs)
        for position, value in enumerate(node.outputs):
            proto.output[position] = self.raw.get(value, value.name)
        return proto


def add_initializers(model: onnx.ModelProto, arrays: Iterable[tuple[str, Array]]) -> None:
    """Add constants to a finished model: the functions that put models together copy what they are given."""
    for name, array in arrays:
        tensor = model.graph.initializer.add()
        tensor.name = name
        tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor.dims.extend(array.shape)
        tensor.raw_data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def value_info(name: str, value: Value) -> onnx.ValueInfoProto:
    """An input or output under the given name, with the type of the value."""
    return helper.make_tensor_value_info(name, value.type.dtype.onnx, dims(value.type))


def _check_float32(value: Value) -> None:
    if value.type.dtype is not DType.FLOAT32:
        raise GraphError(
            f"a quantized value stands for float32, this for {value.type.dtype}", place=value.name
        )


def _plain(constant: Constant) -> Array:
    # A memory map is handed in as the array that it is.
    return np.asarray(constant.array())
