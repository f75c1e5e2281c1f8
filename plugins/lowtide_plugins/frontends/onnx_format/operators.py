"""Quantized operators as DequantizeLinear, the float operator, QuantizeLinear.

That is how they are defined: integers in, integers out, real numbers in between. The default domain has
QLinearConv and QLinearMatMul, ONNX Runtime's own domain the others.

Source: ONNX operators QLinearConv, QLinearMatMul, opset 21; ONNX Runtime, contributed operators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs
import numpy as np
import onnx
from onnx import helper, numpy_helper

from lowtide.errors import UnsupportedModelError
from lowtide.ir import Array
from lowtide_plugins.frontends.onnx_format.upgrade import DEFAULT_DOMAINS

MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""


def expand(graph: onnx.GraphProto) -> None:
    """Replace quantized operators in place.

    Raises:
        UnsupportedModelError: naming an operator whose parameters are computed where they must be known.
    """
    if not any(_handler(node) for node in graph.node):
        return
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    names |= {tensor.name for tensor in graph.initializer}
    expander = _Expander(graph, names)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        handler = _handler(node)
        expander.begin(node)
        if handler is None:
            nodes.append(node)
        else:
            handler(expander)
            nodes += expander.nodes
    del graph.node[:]
    graph.node.extend(nodes)


def is_expanded(node: onnx.NodeProto) -> bool:
    """Whether `expand` knows the operator."""
    return _handler(node) is not None


@attrs.define
class _Expander:
    """The nodes that stand for the present one.

    Attributes:
        names: all names of the graph, so that new ones are new.
        nodes: what has been made for the present node.
    """

    graph: onnx.GraphProto
    names: set[str]
    present: onnx.NodeProto = attrs.field(factory=onnx.NodeProto)
    nodes: list[onnx.NodeProto] = attrs.field(factory=list[onnx.NodeProto])

    def begin(self, node: onnx.NodeProto) -> None:
        self.present, self.nodes = node, []

    @property
    def base(self) -> str:
        return self.present.name or self.present.output[0]

    def fresh(self, what: str) -> str:
        name, number = f"{self.base}_{what}", 0
        while name in self.names:
            number += 1
            name = f"{self.base}_{what}_{number}"
        self.names.add(name)
        return name

    def operand(self, position: int) -> str:
        inputs = self.present.input
        return inputs[position] if position < len(inputs) else ""

    def add(
        self, op: str, inputs: Sequence[str], output: str, attributes: Iterable[onnx.AttributeProto] = ()
    ) -> str:
        """Add a node; that with the result of the present one gets its name."""
        name = self.present.name if output in self.present.output and op != "QuantizeLinear" else output
        made = helper.make_node(op, list(inputs), [output], name or output)
        made.attribute.extend(attributes)
        self.nodes.append(made)
        return output

    def real(self, position: int, *, axis: int | None = None) -> str:
        """The operand at `position`, followed by scale and zero point, as real numbers."""
        operands = [self.operand(at) for at in range(position, position + 3)]
        attributes = [] if axis is None else [helper.make_attribute("axis", axis)]
        while not operands[-1]:
            operands.pop()
        return self.add("DequantizeLinear", operands, self.fresh(f"input{position}"), attributes)

    def codes(self, value: str, position: int) -> None:
        """The result of the present node from real numbers, with scale and zero point at `position`."""
        operands = [value, self.operand(position), self.operand(position + 1)]
        self.add("QuantizeLinear", [name for name in operands if name], self.present.output[0])

    def inner(self, op: str, inputs: Sequence[str], attributes: Iterable[onnx.AttributeProto] = ()) -> str:
        """A float operator that has the name of the present node."""
        output = self.fresh("result")
        made = helper.make_node(op, list(inputs), [output], self.present.name or output)
        made.attribute.extend(attributes)
        self.nodes.append(made)
        return output

    def attributes(self, *skipped: str) -> list[onnx.AttributeProto]:
        return [entry for entry in self.present.attribute if entry.name not in skipped]

    def constant(self, name: str) -> Array:
        """The data of an initializer or Constant node.

        Raises:
            UnsupportedModelError: when it is computed.
        """
        for tensor in self.graph.initializer:
            if tensor.name == name:
                return numpy_helper.to_array(tensor)
        for node in self.graph.node:
            if name in node.output and node.op_type == "Constant":
                return numpy_helper.to_array(node.attribute[0].t)
        raise UnsupportedModelError(
            f"{name or 'a scale'} would have to be constant",
            place=f"{self.present.op_type} {self.base}",
            hint="dynamic quantization has no fixed-point form; quantize the model statically",
        )

    def store(self, data: Array, what: str) -> str:
        name = self.fresh(what)
        self.graph.initializer.append(numpy_helper.from_array(data, name))
        return name

    def bias(self, name: str, first: str, second: str, *, factor: float = 1.0) -> str:
        """An int32 bias in units of the accumulator as real numbers."""
        scales = self.constant(first).reshape(-1) * self.constant(second).reshape(-1) * np.float32(factor)
        shaped = scales.astype(np.float32) if scales.size > 1 else scales.astype(np.float32).reshape(())
        operands = [name, self.store(shaped, "bias_scale")]
        axis = [helper.make_attribute("axis", 0)] if scales.size > 1 else []
        return self.add("DequantizeLinear", operands, self.fresh("bias"), axis)


def _same(e: _Expander) -> None:
    """QuantizeLinear and DequantizeLinear of the other domain have the same meaning."""
    made = onnx.NodeProto()
    made.CopyFrom(e.present)
    made.domain = ""
    e.nodes = [made]


def _conv(e: _Expander) -> None:
    inputs = [e.real(0), e.real(3, axis=0)]
    if e.operand(8):
        inputs.append(e.bias(e.operand(8), e.operand(1), e.operand(4)))
    e.codes(e.inner("Conv", inputs, e.attributes()), 6)


def _matmul(e: _Expander) -> None:
    # A scale per column of the second operand; its last axis is 1 for matrices, which are all that has one.
    e.codes(e.inner("MatMul", [e.real(0), e.real(3, axis=1)]), 6)


def _gemm(e: _Expander) -> None:
    turned = next((entry.i for entry in e.present.attribute if entry.name == "transB"), 0)
    alpha = next((entry.f for entry in e.present.attribute if entry.name == "alpha"), 1.0)
    inputs = [e.real(0), e.real(3, axis=0 if turned else 1)]
    if e.operand(6):
        inputs.append(e.bias(e.operand(6), e.operand(1), e.operand(4), factor=alpha))
    result = e.inner("Gemm", inputs, e.attributes())
    if e.operand(7):
        e.codes(result, 7)
    else:
        e.nodes[-1].output[0] = e.present.output[0]


def _binary(op: str) -> Callable[[_Expander], None]:
    def expand_binary(e: _Expander) -> None:
        e.codes(e.inner(op, [e.real(0), e.real(3)]), 6)

    return expand_binary


def _unary(op: str) -> Callable[[_Expander], None]:
    def expand_unary(e: _Expander) -> None:
        e.codes(e.inner(op, [e.real(0)], e.attributes("opset", "channels_last")), 3)

    return expand_unary


def _pool(op: str) -> Callable[[_Expander], None]:
    def expand_pool(e: _Expander) -> None:
        if any(entry.name == "channels_last" and entry.i for entry in e.present.attribute):
            raise UnsupportedModelError(
                "channels at the end are not supported",
                place=f"{e.present.op_type} {e.base}",
                hint="export the model with channels first",
            )
        _unary(op)(e)

    return expand_pool


def _softmax(e: _Expander) -> None:
    opset = next((entry.i for entry in e.present.attribute if entry.name == "opset"), 13)
    axis = next((entry.i for entry in e.present.attribute if entry.name == "axis"), -1 if opset >= 13 else 1)
    value = e.real(0)
    if opset < 13 and axis != -1:
        # Before opset 13 all dimensions from the axis on were one vector.
        flat = e.add("Flatten", [value], e.fresh("flat"), [helper.make_attribute("axis", axis)])
        soft = e.inner("Softmax", [flat], [helper.make_attribute("axis", -1)])
        shape = e.add("Shape", [value], e.fresh("shape"))
        e.codes(e.add("Reshape", [soft, shape], e.fresh("shaped")), 3)
        return
    e.codes(e.inner("Softmax", [value], [helper.make_attribute("axis", axis)]), 3)


def _concat(e: _Expander) -> None:
    parts = [e.real(position) for position in range(2, len(e.present.input), 3)]
    e.codes(e.inner("Concat", parts, e.attributes()), 0)


def _mean(e: _Expander) -> None:
    axes = next((list(entry.ints) for entry in e.present.attribute if entry.name == "axes"), None)
    inputs = [e.real(0)]
    if axes is not None:
        inputs.append(e.store(np.array(axes, np.int64), "axes"))
    e.codes(e.inner("ReduceMean", inputs, e.attributes("axes")), 3)


_DEFAULT: Mapping[str, Callable[[_Expander], None]] = {"QLinearConv": _conv, "QLinearMatMul": _matmul}
_CONTRIBUTED: Mapping[str, Callable[[_Expander], None]] = {
    "QuantizeLinear": _same,
    "DequantizeLinear": _same,
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    "QGemm": _gemm,
    "QLinearAdd": _binary("Add"),
    "QLinearMul": _binary("Mul"),
    "QLinearLeakyRelu": _unary("LeakyRelu"),
    "QLinearSigmoid": _unary("Sigmoid"),
    "QLinearGlobalAveragePool": _pool("GlobalAveragePool"),
    "QLinearAveragePool": _pool("AveragePool"),
    "QLinearReduceMean": _mean,
    "QLinearSoftmax": _softmax,
    "QLinearConcat": _concat,
}


def _handler(node: onnx.NodeProto) -> Callable[[_Expander], None] | None:
    if node.domain == MICROSOFT:
        return _CONTRIBUTED.get(node.op_type)
    return _DEFAULT.get(node.op_type) if node.domain in DEFAULT_DOMAINS else None
