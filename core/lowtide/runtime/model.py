"""Graph to ONNX model, float or with QuantizeLinear and DequantizeLinear unfolded from the types."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from lowtide.ir import OPSET, Array, Constant, Graph, Node, QuantParams, Value
from lowtide.ir.proto import dims, node_proto

IR_VERSION = 10
"""The ONNX file version that goes with opset 21."""


def to_model(graph: Graph, *, quantized: bool, outputs: Sequence[str] | None = None) -> onnx.ModelProto:
    """Build a model that ONNX Runtime runs.

    Args:
        graph: what to build.
        quantized: unfold the quantization of types into Q/DQ pairs; otherwise ignore that of activations and hand in the
            real numbers that quantized constants stand for.
        outputs: names of the values to return instead of the graph's outputs; a quantized value is returned as the real
            numbers after its Q/DQ pair.

    Codes of int32 have no QuantizeLinear in ONNX, so only constants may have them.
    """
    return _Builder(graph, quantized=quantized).model(outputs)


def dequantize(codes: Array, quant: QuantParams) -> Array:
    """Codes to float32, as DequantizeLinear does: the difference of integers is exact, one rounding in the product.

    Source: ONNX operator DequantizeLinear, opset 21.
    """
    scale, zero = (
        per_axis(np.array(quant.scale, np.float32), quant, codes.ndim),
        np.array(quant.zero_point, np.int64),
    )
    shifted = codes.astype(np.int64) - per_axis(zero, quant, codes.ndim)
    return shifted.astype(np.float32) * scale


def per_axis(values: Array, quant: QuantParams, rank: int) -> Array:
    """Bring parameters into a shape that broadcasts along the axis of `quant`."""
    if quant.axis is None:
        return values.reshape(())
    return values.reshape([-1 if axis == quant.axis else 1 for axis in range(rank)])


class _Builder:
    def __init__(self, graph: Graph, *, quantized: bool) -> None:
        self.graph = graph
        self.quantized = quantized
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.names = set(graph.values)
        self.readers: dict[Value, str] = {}

    def model(self, outputs: Sequence[str] | None) -> onnx.ModelProto:
        for value in self.graph.inputs:
            self.unfold(value)
        for value in self.graph.constants:
            self.constant(value)
        for node in self.graph:
            self.nodes.append(self.node(node))
            for value in node.outputs:
                self.unfold(value)
        wanted = self.graph.outputs if outputs is None else [self.graph.values[name] for name in outputs]
        results = [self.result(value) for value in wanted]
        proto = helper.make_graph(
            self.nodes,
            self.graph.name,
            [
                helper.make_tensor_value_info(v.name, v.type.dtype.onnx, dims(v.type))
                for v in self.graph.inputs
            ],
            results,
            self.initializers,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(proto, opset_imports=opsets, ir_version=IR_VERSION, producer_name="lowtide")

    def fresh(self, base: str) -> str:
        name, number = base, 0
        while name in self.names:
            number += 1
            name = f"{base}_{number}"
        self.names.add(name)
        return name

    def initializer(self, base: str, array: Array) -> str:
        name = self.fresh(base)
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def scale_and_zero(self, base: str, quant: QuantParams) -> list[str]:
        shape = () if quant.axis is None else (-1,)
        scale = self.initializer(f"{base}_scale", np.array(quant.scale, np.float32).reshape(shape))
        zero = self.initializer(
            f"{base}_zero_point", np.array(quant.zero_point, quant.dtype.numpy).reshape(shape)
        )
        return [scale, zero]

    def constant(self, value: Value) -> None:
        assert value.constant is not None  # noqa: S101 - the caller lists constants
        quant = value.type.quant
        if quant is None:
            self.initializers.append(numpy_helper.from_array(_plain(value.constant), value.name))
        elif not self.quantized:
            self.initializers.append(
                numpy_helper.from_array(dequantize(value.constant.array(), quant), value.name)
            )
        else:
            codes = self.initializer(f"{value.name}_quantized", _plain(value.constant))
            self.dequantize(value.name, codes, value.name, quant)

    def dequantize(self, base: str, codes: str, result: str, quant: QuantParams) -> None:
        axis = {} if quant.axis is None else {"axis": quant.axis}
        inputs = [codes, *self.scale_and_zero(base, quant)]
        self.nodes.append(
            helper.make_node(
                "DequantizeLinear", inputs, [result], self.fresh(f"{base}_DequantizeLinear"), **axis
            )
        )

    def unfold(self, value: Value) -> None:
        """Put a Q/DQ pair behind a quantized activation and let its readers read that."""
        quant = value.type.quant
        if quant is None or not self.quantized:
            return
        codes, real = self.fresh(f"{value.name}_quantized"), self.fresh(f"{value.name}_dequantized")
        axis = {} if quant.axis is None else {"axis": quant.axis}
        parameters = self.scale_and_zero(value.name, quant)
        for op, source, result in (("QuantizeLinear", value.name, codes), ("DequantizeLinear", codes, real)):
            name = self.fresh(f"{value.name}_{op}")
            self.nodes.append(helper.make_node(op, [source, *parameters], [result], name, **axis))
        self.readers[value] = real

    def node(self, node: Node) -> onnx.NodeProto:
        inputs = ["" if value is None else self.readers.get(value, value.name) for value in node.inputs]
        return node_proto(node, inputs)

    def result(self, value: Value) -> onnx.ValueInfoProto:
        name = self.readers.get(value, value.name)
        if name != value.name:
            name = self.swap(value, name)
        return helper.make_tensor_value_info(name, value.type.dtype.onnx, dims(value.type))

    def swap(self, value: Value, real: str) -> str:
        """Let the returned tensor keep the name of the value: the tensor before its Q/DQ pair gets another one."""
        if value.producer is None:
            # An input cannot be renamed; its dequantized twin is returned under a name of its own.
            return real
        raw = self.fresh(f"{value.name}_raw")
        for proto in self.nodes:
            _rename(proto.output, value.name, raw)
            _rename(proto.input, value.name, raw)
        for proto in self.nodes:
            _rename(proto.output, real, value.name)
            _rename(proto.input, real, value.name)
        self.readers[value] = value.name
        return value.name


def _rename(names: Iterable[str], old: str, new: str) -> None:
    for position, name in enumerate(list(names)):
        if name == old:
            names[position] = new  # type: ignore[index]  # pyright: ignore[reportIndexIssue]  # a repeated proto field


def _plain(constant: Constant) -> Array:
    return np.asarray(constant.array())
