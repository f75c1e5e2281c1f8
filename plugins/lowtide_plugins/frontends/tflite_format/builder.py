"""From tensors of a TFLite file to values of a graph, each in the layout in which it is made.

Images are `[N, H, W, C]` in the file and `[N, C, H, W]` for convolutions. A tensor of four dimensions is kept
in the layout of the operator that makes it and is transposed when a reader needs the other one, once; so
transpositions appear only where the network itself mixes both orders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import attrs
import numpy as np

from lowtide.diagnostics import Diagnostics
from lowtide.errors import ModelError, UnsupportedModelError, counted
from lowtide.ir import Array, AttributeValue, Constant, DType, Graph, Location, QuantParams, TensorType, Value
from lowtide.runtime import dequantize
from lowtide_plugins.frontends.tflite_format.reader import Operator, Tensor, TfliteModel

Layout = Literal["file", "nchw"]

TO_NCHW = (0, 3, 1, 2)
TO_NHWC = (0, 2, 3, 1)
AXIS_IN_NCHW = (0, 2, 3, 1)
"""Where an axis of the file's layout is in `[N, C, H, W]`."""

QUANTIZED = frozenset({"INT8", "UINT8", "INT16", "INT4"})
"""Element types that are codes when the tensor has a scale; others are integers in their own right."""

_STORED = {"INT4": DType.INT8, "FLOAT16": DType.FLOAT32}


@attrs.define
class Builder:
    """The graph so far, and which tensor of the file is which value of it.

    Attributes:
        operator: the one that is being translated.
    """

    model: TfliteModel
    file: str
    diagnostics: Diagnostics
    graph: Graph
    operator: Operator
    values: dict[tuple[int, Layout], Value] = attrs.field(factory=dict[tuple[int, Layout], Value])

    # --- what the file says ---

    def tensor(self, index: int) -> Tensor:
        """A tensor by its index.

        Raises:
            ModelError: when the operator leaves out an operand that it needs.
        """
        if index < 0:
            raise ModelError("an operand is missing", place=self.operator.place)
        return self.model.tensors[index]

    def operand(self, position: int) -> int:
        """The index of an operand of the present operator, -1 for one that is left out."""
        inputs = self.operator.inputs
        return inputs[position] if position < len(inputs) else -1

    def shape(self, index: int) -> tuple[int, ...]:
        """Dimensions in the layout of the file."""
        return self.tensor(index).shape

    def is_quantized(self, index: int) -> bool:
        """Whether the tensor holds codes."""
        tensor = self.tensor(index)
        return tensor.quant is not None and tensor.dtype in QUANTIZED

    def is_float(self, index: int) -> bool:
        """Whether the tensor holds floating-point numbers."""
        return self.tensor(index).dtype.startswith("FLOAT")

    def array(self, index: int) -> Array:
        """The content of a constant as stored, in the layout of the file.

        Raises:
            UnsupportedModelError: when another operator computes the tensor.
        """
        tensor = self.tensor(index)
        if tensor.data is not None:
            return tensor.data
        value = self.values.get((index, "file"))
        if value is not None and value.constant is not None:
            return value.constant.array()
        raise UnsupportedModelError(
            f"{tensor.name} would have to be constant",
            place=self.operator.place,
            hint="export the model with fixed shapes",
        )

    def is_constant(self, index: int) -> bool:
        """Whether `array` can deliver."""
        value = self.values.get((index, "file"))
        return self.tensor(index).data is not None or (value is not None and value.is_constant)

    def ints(self, index: int) -> tuple[int, ...]:
        """The elements of an integer constant."""
        return tuple(int(entry) for entry in self.array(index).reshape(-1))

    def quant(self, index: int, axes: Sequence[int] | None = None) -> QuantParams | None:
        """The parameters of a quantized tensor; `axes` says where each axis of the file goes.

        Raises:
            ModelError: when they are impossible.
        """
        tensor = self.tensor(index)
        if tensor.quant is None or tensor.dtype not in QUANTIZED:
            return None
        axis, count = tensor.quant.axis, len(tensor.quant.scale)
        if count > 1:
            if not 0 <= axis < len(tensor.shape):
                raise ModelError(f"scales along axis {axis} of {list(tensor.shape)}", place=tensor.place)
            if count != tensor.shape[axis]:
                raise ModelError(
                    f"{counted(count, 'scale')} for {counted(tensor.shape[axis], 'channel')}",
                    place=tensor.place,
                )
        dtype = DType(_STORED.get(tensor.dtype, tensor.dtype.lower()))
        moved = axis if axes is None else axes[axis] if count > 1 else axis
        try:
            return QuantParams(
                dtype, tensor.quant.scale, tensor.quant.zero_point, moved if count > 1 else None
            )
        except ValueError as error:
            raise ModelError(str(error), place=tensor.place) from error

    def real(self, index: int) -> Array:
        """A constant as float32 numbers, in the layout of the file."""
        data, quant = self.array(index), self.quant(index)
        if quant is not None:
            return dequantize(data, quant)
        return data.astype(np.float32) if self.is_float(index) else data

    def type_of(self, index: int, layout: Layout) -> TensorType:
        """The type of the value that stands for a tensor.

        Raises:
            UnsupportedModelError: for element types that a graph does not carry.
        """
        tensor = self.tensor(index)
        shape = tuple(tensor.shape[at] for at in TO_NCHW) if layout == "nchw" else tensor.shape
        quant = self.quant(index, AXIS_IN_NCHW if layout == "nchw" else None)
        if quant is not None:
            return TensorType(DType.FLOAT32, shape, quant)
        try:
            return TensorType(_STORED.get(tensor.dtype) or DType(tensor.dtype.lower()), shape)
        except ValueError as error:
            raise UnsupportedModelError(
                f"the element type {tensor.dtype} is not supported", place=tensor.place
            ) from error

    # --- values ---

    def nchw(self, *indices: int) -> bool:
        """Whether one of the tensors is at hand as `[N, C, H, W]`, so that a result should be, too."""
        return any((index, "nchw") in self.values for index in indices)

    def read(self, index: int, layout: Layout = "file") -> Value:
        """The value of a tensor in a layout.

        Raises:
            ModelError: when nothing makes the tensor.
        """
        found = self.values.get((index, layout))
        if found is not None:
            return found
        tensor = self.tensor(index)
        if tensor.data is not None:
            made = self._constant(tensor, layout)
        elif (index, "file" if layout == "nchw" else "nchw") in self.values:
            made = self._transposed(index, layout)
        else:
            raise ModelError(f"reads {tensor.name}, which nothing makes", place=self.operator.place)
        self.values[index, layout] = made
        return made

    def _constant(self, tensor: Tensor, layout: Layout) -> Value:
        assert tensor.data is not None  # noqa: S101 - the caller checks
        made = self.type_of(tensor.index, layout)
        data = np.transpose(tensor.data, TO_NCHW) if layout == "nchw" else tensor.data
        data = data if made.quant is not None else data.astype(made.dtype.numpy, copy=False)
        return self.graph.add_constant(self.graph.fresh_name(tensor.name), Constant.of(data), made)

    def _transposed(self, index: int, layout: Layout) -> Value:
        source = self.values[index, "file" if layout == "nchw" else "nchw"]
        tensor, made = self.tensor(index), self.type_of(index, layout)
        _, height, width, channels = tensor.shape
        name = self.graph.fresh_name(f"{tensor.name}_{'nchw' if layout == 'nchw' else 'nhwc'}")
        location = Location(self.file, (), (tensor.name,))
        if height * width == 1 or channels == 1:
            # The elements stay in the same order.
            operands: list[Value] = [source, self.constant(np.array(made.static_shape), f"{name}_shape")]
            node = self.graph.add_node("Reshape", operands, [(name, made)], location=location)
        else:
            perm = TO_NCHW if layout == "nchw" else TO_NHWC
            node = self.graph.add_node(
                "Transpose", [source], [(name, made)], {"perm": perm}, location=location
            )
        return node.output

    def constant(self, data: Array | float, base: str, quant: QuantParams | None = None) -> Value:
        """A new constant; floating-point numbers become float32."""
        array = np.asarray(data)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        name = self.graph.fresh_name(base)
        if quant is None:
            return self.graph.add_constant(name, Constant.of(array))
        return self.graph.add_constant(
            name, Constant.of(array), TensorType(DType.FLOAT32, array.shape, quant)
        )

    def indices(self, numbers: Sequence[int], base: str) -> Value:
        """A new int64 constant ``[len(numbers)]``: axes, shapes, sizes."""
        return self.constant(np.array(numbers, np.int64), f"{self.result_name}_{base}")

    @property
    def result_name(self) -> str:
        """The name of the first result of the present operator."""
        return self.tensor(self.operator.outputs[0]).name

    # --- nodes ---

    def step(
        self,
        op: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, AttributeValue] | None = None,
        *,
        made: TensorType | None = None,
    ) -> Value:
        """A node whose result no tensor of the file stands for.

        Args:
            op: the ONNX operator.
            inputs: its operands.
            attributes: its attributes.
            made: the type of the result; by default of unknown shape and the type of the first operand.
        """
        first = inputs[0]
        dtype = first.type.dtype if first is not None else DType.FLOAT32
        name = self.graph.fresh_name(f"{self.result_name}_{op.lower()}")
        node = self.graph.add_node(
            op, inputs, [(name, made or TensorType(dtype, None))], attributes, location=self.location
        )
        return node.output

    def emit(
        self,
        op: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, AttributeValue] | None = None,
        *,
        layout: Layout = "file",
        activation: bool = False,
    ) -> None:
        """The node that makes the results of the present operator, in a layout.

        Args:
            op: the ONNX operator.
            inputs: its operands.
            attributes: its attributes.
            layout: that of all results.
            activation: whether the option fused_activation_function of the operator applies.
        """
        fused = self._activation() if activation else None
        if fused is not None:
            value = self.step(op, inputs, attributes)
            op, limits = fused
            low, high = ((None if limit is None else self.constant(limit, "limit")) for limit in limits)
            inputs, attributes = [value, *([low, high] if op == "Clip" else [])], {}
        outputs = [index for index in self.operator.outputs if index >= 0]
        results = [
            (self.graph.fresh_name(self.tensor(index).name), self.type_of(index, layout)) for index in outputs
        ]
        node = self.graph.add_node(op, inputs, results, attributes, location=self.location)
        for index, value in zip(outputs, node.outputs, strict=True):
            self.values[index, layout] = value

    def alias(self, value: Value, layout: Layout = "file") -> None:
        """Let the result of the present operator be a value that exists already."""
        self.values[self.operator.outputs[0], layout] = value

    @property
    def location(self) -> Location:
        """Where nodes of the present operator come from; TFLite names tensors only."""
        names = tuple(self.tensor(index).name for index in self.operator.outputs if index >= 0)
        return Location(self.file, names[:1], names)

    def _activation(self) -> tuple[str, tuple[float | None, float | None]] | None:
        number = int(self.operator.options.get("fused_activation_function", 0))
        if number not in _ACTIVATIONS:
            raise UnsupportedModelError(
                f"the fused activation {number} is not supported", place=self.operator.place
            )
        return _ACTIVATIONS[number]

    def option(self, name: str, default: int) -> int:
        """An integer option of the present operator."""
        return int(self.operator.options.get(name, default))


_ACTIVATIONS: Mapping[int, tuple[str, tuple[float | None, float | None]] | None] = {
    0: None,
    1: ("Relu", (None, None)),
    2: ("Clip", (-1.0, 1.0)),
    3: ("Clip", (0.0, 6.0)),
    4: ("Tanh", (None, None)),
}
"""By the number of ``ActivationFunctionType``.

Source: TensorFlow Lite schema, enum ActivationFunctionType.
"""
