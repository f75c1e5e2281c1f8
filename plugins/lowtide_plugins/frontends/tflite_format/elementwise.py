"""Operators on elements: arithmetic, comparisons, activations, changes of the number format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import attrs
import numpy as np

from lowtide.errors import UnsupportedModelError
from lowtide.ir import AttributeValue, DType, QuantParams, TensorType, Value
from lowtide_plugins.frontends.tflite_format.builder import TO_NCHW, Builder, Layout


def layout_of(b: Builder, *indices: int) -> Layout:
    """`[N, C, H, W]` when the result has four dimensions and an operand is at hand like that."""
    return "nchw" if len(b.shape(b.operator.outputs[0])) == 4 and b.nchw(*indices) else "file"


def operand(b: Builder, position: int, layout: Layout) -> Value:
    """An operand of an operator that broadcasts, in the layout of the result."""
    index = b.operand(position)
    shape = b.shape(index)
    if layout == "file" or len(shape) == 4:
        return b.read(index, layout)
    full = (*(1,) * (4 - len(shape)), *shape)
    if b.is_constant(index):
        data, quant = b.array(index), b.quant(index)
        if quant is not None and quant.axis is not None:
            raise UnsupportedModelError("an operand has a scale per channel", place=b.operator.place)
        return b.constant(np.transpose(data.reshape(full), TO_NCHW), b.tensor(index).name, quant)
    value = b.read(index)
    if all(dim == 1 for dim in shape):
        return value  # it means the same in either layout
    made = attrs.evolve(value.type, shape=full)
    value = b.step("Reshape", [value, b.indices(full, "shape")], made=made)
    turned = attrs.evolve(made, shape=tuple(full[at] for at in TO_NCHW))
    return b.step("Transpose", [value], {"perm": TO_NCHW}, made=turned)


def binary(b: Builder, op: str, *, activation: bool = False) -> None:
    """Two operands that broadcast."""
    layout = layout_of(b, b.operand(0), b.operand(1))
    b.emit(op, [operand(b, 0, layout), operand(b, 1, layout)], layout=layout, activation=activation)


def unary(b: Builder, op: str, attributes: Mapping[str, AttributeValue] | None = None) -> None:
    """One operand."""
    layout = layout_of(b, b.operand(0))
    b.emit(op, [b.read(b.operand(0), layout)], attributes, layout=layout)


def composed(b: Builder, first: str, second: str) -> None:
    """One operator on the result of another, both of one operand."""
    layout = layout_of(b, b.operand(0))
    b.emit(second, [b.step(first, [b.read(b.operand(0), layout)])], layout=layout)


def add_n(b: Builder) -> None:
    """The sum of any number of operands of one shape."""
    count = len(b.operator.inputs)
    layout = layout_of(b, *b.operator.inputs)
    b.emit("Sum", [operand(b, at, layout) for at in range(count)], layout=layout)


def clamp(b: Builder, low: float | None, high: float | None) -> None:
    """Limits on both sides."""
    layout = layout_of(b, b.operand(0))
    limits = [None if limit is None else b.constant(limit, "limit") for limit in (low, high)]
    b.emit("Clip", [b.read(b.operand(0), layout), *limits], layout=layout)


def leaky_relu(b: Builder) -> None:
    """The slope is an option."""
    unary(b, "LeakyRelu", {"alpha": float(b.operator.options.get("alpha", 0.0))})


def prelu(b: Builder) -> None:
    """The slope is `[1, 1, C]`."""
    layout = layout_of(b, b.operand(0))
    b.emit("PRelu", [b.read(b.operand(0), layout), operand(b, 1, layout)], layout=layout)


def gelu(b: Builder) -> None:
    """By the error function, or by the hyperbolic tangent."""
    unary(b, "Gelu", {"approximate": "tanh" if b.operator.options.get("approximate") else "none"})


def square(b: Builder) -> None:
    """An operand times itself."""
    layout = layout_of(b, b.operand(0))
    value = b.read(b.operand(0), layout)
    b.emit("Mul", [value, value], layout=layout)


def squared_difference(b: Builder) -> None:
    """(x - y) squared."""
    layout = layout_of(b, b.operand(0), b.operand(1))
    value = b.step("Sub", [operand(b, 0, layout), operand(b, 1, layout)])
    b.emit("Mul", [value, value], layout=layout)


def floor_div(b: Builder) -> None:
    """Rounded down, also for integers, whose division ONNX rounds towards zero."""
    layout = layout_of(b, b.operand(0), b.operand(1))
    first, second = operand(b, 0, layout), operand(b, 1, layout)
    dtype = b.type_of(b.operator.outputs[0], "file").dtype
    if dtype.is_float:
        b.emit("Floor", [b.step("Div", [first, second])], layout=layout)
        return
    wide: dict[str, AttributeValue] = {"to": DType.FLOAT64.onnx}
    made = TensorType(DType.FLOAT64, None)
    quotient = b.step("Div", [b.step("Cast", [value], wide, made=made) for value in (first, second)])
    b.emit("Cast", [b.step("Floor", [quotient])], {"to": dtype.onnx}, layout=layout)


def floor_mod(b: Builder) -> None:
    """The remainder has the sign of the divisor."""
    layout = layout_of(b, b.operand(0), b.operand(1))
    first, second = operand(b, 0, layout), operand(b, 1, layout)
    if not b.type_of(b.operator.outputs[0], "file").dtype.is_float:
        b.emit("Mod", [first, second], {"fmod": 0}, layout=layout)
        return
    whole = b.step("Mul", [b.step("Floor", [b.step("Div", [first, second])]), second])
    b.emit("Sub", [first, whole], layout=layout)


def not_equal(b: Builder) -> None:
    """The contrary of equal."""
    layout = layout_of(b, b.operand(0), b.operand(1))
    operands = [operand(b, 0, layout), operand(b, 1, layout)]
    b.emit("Not", [b.step("Equal", operands, made=TensorType(DType.BOOL, None))], layout=layout)


def select(b: Builder) -> None:
    """A condition and two operands."""
    layout = layout_of(b, *b.operator.inputs)
    b.emit("Where", [operand(b, at, layout) for at in range(3)], layout=layout)


def cast(b: Builder) -> None:
    """Another element type."""
    to = b.type_of(b.operator.outputs[0], "file").dtype.onnx
    unary(b, "Cast", {"to": to})


# --- codes ---


def quantize(b: Builder) -> None:
    """Numbers to codes, or codes to other codes: a copy whose result has its own parameters."""
    layout = layout_of(b, b.operand(0))
    if not b.is_quantized(b.operator.outputs[0]):
        raise UnsupportedModelError("the result has no scale", place=b.operator.place)
    b.emit("Identity", [b.read(b.operand(0), layout)], layout=layout)


def dequantize(b: Builder) -> None:
    """Codes to numbers: the value stands for numbers already, and a constant becomes numbers."""
    index = b.operand(0)
    if b.is_constant(index):
        b.alias(b.constant(b.real(index), b.result_name))
        return
    layout = layout_of(b, index)
    value = b.read(index, layout)
    if value.type.quant is None or b.operator.outputs[0] in b.model.outputs:
        b.emit("Identity", [value], layout=layout)
    else:
        b.alias(value, layout)


def fake_quant(b: Builder) -> None:
    """Codes of any width below 16 bits that cover min and max, moved so that 0 has a code.

    Source: TensorFlow's FakeQuantWithMinMaxArgs.
    """
    options, layout = b.operator.options, layout_of(b, b.operand(0))
    bits, narrow = int(options.get("num_bits", 8)), bool(options.get("narrow_range", False))
    low, high = float(options.get("min", 0.0)), float(options.get("max", 0.0))
    if bits not in {8, 16} or not low <= 0 <= high or low == high:
        raise UnsupportedModelError(f"{bits} bits from {low} to {high}", place=b.operator.place)
    dtype = DType(f"uint{bits}")
    first = 1 if narrow else 0
    scale = (high - low) / (dtype.max - first)
    zero = min(max(round(first - low / scale), first), dtype.max)
    b.emit("Identity", [b.read(b.operand(0), layout)], layout=layout)
    value = b.values[b.operator.outputs[0], layout]
    b.graph.retype(value, value.type.with_quant(QuantParams(dtype, scale, zero)))


HANDLERS: Mapping[str, Callable[[Builder], None]] = {
    "ADD": partial(binary, op="Add", activation=True),
    "SUB": partial(binary, op="Sub", activation=True),
    "MUL": partial(binary, op="Mul", activation=True),
    "DIV": partial(binary, op="Div", activation=True),
    "MAXIMUM": partial(binary, op="Max"),
    "MINIMUM": partial(binary, op="Min"),
    "POW": partial(binary, op="Pow"),
    "EQUAL": partial(binary, op="Equal"),
    "GREATER": partial(binary, op="Greater"),
    "GREATER_EQUAL": partial(binary, op="GreaterOrEqual"),
    "LESS": partial(binary, op="Less"),
    "LESS_EQUAL": partial(binary, op="LessOrEqual"),
    "LOGICAL_AND": partial(binary, op="And"),
    "LOGICAL_OR": partial(binary, op="Or"),
    "LOGICAL_NOT": partial(unary, op="Not"),
    "NOT_EQUAL": not_equal,
    "ADD_N": add_n,
    "SELECT": select,
    "SELECT_V2": select,
    "SQUARE": square,
    "SQUARED_DIFFERENCE": squared_difference,
    "FLOOR_DIV": floor_div,
    "FLOOR_MOD": floor_mod,
    "RELU": partial(unary, op="Relu"),
    "RELU6": partial(clamp, low=0.0, high=6.0),
    "RELU_N1_TO_1": partial(clamp, low=-1.0, high=1.0),
    "RELU_0_TO_1": partial(clamp, low=0.0, high=1.0),
    "LEAKY_RELU": leaky_relu,
    "PRELU": prelu,
    "ELU": partial(unary, op="Elu"),
    "GELU": gelu,
    "HARD_SWISH": partial(unary, op="HardSwish"),
    "LOGISTIC": partial(unary, op="Sigmoid"),
    "TANH": partial(unary, op="Tanh"),
    "ABS": partial(unary, op="Abs"),
    "CEIL": partial(unary, op="Ceil"),
    "COS": partial(unary, op="Cos"),
    "EXP": partial(unary, op="Exp"),
    "FLOOR": partial(unary, op="Floor"),
    "LOG": partial(unary, op="Log"),
    "NEG": partial(unary, op="Neg"),
    "ROUND": partial(unary, op="Round"),
    "RSQRT": partial(composed, first="Sqrt", second="Reciprocal"),
    "SIGN": partial(unary, op="Sign"),
    "SIN": partial(unary, op="Sin"),
    "SQRT": partial(unary, op="Sqrt"),
    "CAST": cast,
    "QUANTIZE": quantize,
    "DEQUANTIZE": dequantize,
    "FAKE_QUANT": fake_quant,
}
"""What translates each operator."""
