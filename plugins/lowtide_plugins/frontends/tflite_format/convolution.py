"""Convolutions, matrix products and pools."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import numpy as np

from lowtide.errors import ModelError, UnsupportedModelError
from lowtide.ir import Array, AttributeValue, DType, QuantParams, Value
from lowtide_plugins.frontends.tflite_format.builder import Builder

SAME = 0
"""The number of ``Padding.SAME``; 1 is ``VALID``."""


def conv_2d(b: Builder) -> None:
    """Weights `[O, H, W, I / groups]`."""
    channels, weights = b.shape(b.operand(0))[3], b.shape(b.operand(1))
    _check_rank(b, weights)
    if weights[3] == 0 or channels % weights[3]:
        raise ModelError(f"{channels} channels meet weights {list(weights)}", place=b.operator.place)
    _convolution(b, axes=(0, 2, 3, 1), group=channels // weights[3])


def depthwise_conv_2d(b: Builder) -> None:
    """Weights `[1, H, W, C * multiplier]`."""
    channels, weights = b.shape(b.operand(0))[3], b.shape(b.operand(1))
    _check_rank(b, weights)
    if channels == 0 or weights[3] % channels:
        raise ModelError(f"{channels} channels meet weights {list(weights)}", place=b.operator.place)
    _convolution(b, axes=(1, 2, 3, 0), group=channels)


def _check_rank(b: Builder, weights: tuple[int, ...]) -> None:
    if len(weights) != 4 or len(b.shape(b.operand(0))) != 4:
        raise ModelError(f"expected four dimensions, found weights {list(weights)}", place=b.operator.place)


def _convolution(b: Builder, *, axes: tuple[int, ...], group: int) -> None:
    """`axes` says where each axis of the file's weights goes."""
    source = b.operand(0)
    weights = _weights(b, axes)
    height, width = weights.type.static_shape[2:]
    strides = (b.option("stride_h", 1), b.option("stride_w", 1))
    dilations = (b.option("dilation_hfactor", 1) or 1, b.option("dilation_wfactor", 1) or 1)
    attributes: dict[str, AttributeValue] = {
        "kernel_shape": (height, width),
        "strides": strides,
        "dilations": dilations,
        "group": group,
        "pads": _pads(b, b.shape(source)[1:3], (height, width), strides, dilations),
    }
    operands = [b.read(source, "nchw"), weights, *_bias(b, 2, weights)]
    b.emit("Conv", operands, attributes, layout="nchw", activation=True)


def transpose_conv(b: Builder) -> None:
    """Operands are the shape of the result, the weights `[O, H, W, I]`, the input and an optional bias."""
    source, weights = b.operand(2), _weights(b, (1, 2, 3, 0))
    kernel = weights.type.static_shape[2:]
    strides = (b.option("stride_h", 1), b.option("stride_w", 1))
    sizes, results = b.shape(source)[1:3], b.shape(b.operator.outputs[0])[1:3]
    begins: list[int] = []
    ends: list[int] = []
    extra: list[int] = []
    for size, result, extent, stride in zip(sizes, results, kernel, strides, strict=True):
        # The reference kernel spreads the excess as the forward convolution would pad.
        full = (size - 1) * stride + extent
        excess = max(full - result, 0)
        begins.append(excess // 2)
        ends.append(excess - excess // 2)
        extra.append(max(result - full, 0))
    attributes: dict[str, AttributeValue] = {
        "kernel_shape": kernel,
        "strides": strides,
        "pads": (*begins, *ends),
        "output_padding": tuple(extra),
    }
    operands = [b.read(source, "nchw"), weights, *_bias(b, 3, weights, source)]
    b.emit("ConvTranspose", operands, attributes, layout="nchw", activation=True)


def fully_connected(b: Builder) -> None:
    """Weights `[N, K]`; the input is `[..., K]` in any number of dimensions."""
    source, result = b.operand(0), b.operator.outputs[0]
    units, depth = _matrix(b)
    if b.option("weights_format", 0):
        raise UnsupportedModelError("shuffled weights are not supported", place=b.operator.place)
    rows = int(np.prod(b.shape(source), dtype=np.int64)) // max(1, depth)
    value = _shaped(b, b.read(source), (rows, depth))
    if not b.is_constant(b.operand(1)):
        if b.operand(2) >= 0:
            raise UnsupportedModelError(
                "computed weights with a bias are not supported", place=b.operator.place
            )
        turned = b.step("Transpose", [b.read(b.operand(1))], {"perm": (1, 0)})
        operands: list[Value | None] = [value, turned]
        op, attributes = "MatMul", dict[str, AttributeValue]()
    else:
        weights = _weights(b, (0, 1))
        operands = [value, weights, *_bias(b, 2, weights)]
        op, attributes = "Gemm", {"transB": 1}
    if b.shape(result) == (rows, units):
        b.emit(op, operands, attributes, activation=True)
        return
    made = attrs.evolve(b.type_of(result, "file"), shape=(rows, units))
    if b.option("fused_activation_function", 0):
        raise UnsupportedModelError(
            "an activation behind a product of more than two dimensions is not supported",
            place=b.operator.place,
        )
    b.emit("Reshape", [b.step(op, operands, attributes, made=made), b.indices(b.shape(result), "shape")])


def _matrix(b: Builder) -> tuple[int, int]:
    shape = b.shape(b.operand(1))
    if len(shape) != 2:
        raise ModelError(f"expected weights of two dimensions, found {list(shape)}", place=b.operator.place)
    return shape[0], shape[1]


def _shaped(b: Builder, value: Value, shape: tuple[int, ...]) -> Value:
    if value.type.shape == shape:
        return value
    made = attrs.evolve(value.type, shape=shape)
    return b.step("Reshape", [value, b.indices(shape, "rows")], made=made)


def batch_matmul(b: Builder) -> None:
    """Either operand may be adjoint."""
    operands: list[Value | None] = []
    for position, option in enumerate(("adj_x", "adj_y")):
        value = b.read(b.operand(position))
        if b.option(option, 0):
            rank = len(b.shape(b.operand(position)))
            value = b.step("Transpose", [value], {"perm": (*range(rank - 2), rank - 1, rank - 2)})
        operands.append(value)
    b.emit("MatMul", operands)


def average_pool_2d(b: Builder) -> None:
    """Padding does not count."""
    _pool(b, "AveragePool", {"count_include_pad": 0})


def max_pool_2d(b: Builder) -> None:
    """The largest element under the window."""
    _pool(b, "MaxPool", {})


def _pool(b: Builder, op: str, attributes: Mapping[str, AttributeValue]) -> None:
    source = b.operand(0)
    kernel = (b.option("filter_height", 1), b.option("filter_width", 1))
    strides = (b.option("stride_h", 1), b.option("stride_w", 1))
    pads = _pads(b, b.shape(source)[1:3], kernel, strides, (1, 1))
    window: dict[str, AttributeValue] = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    b.emit(op, [b.read(source, "nchw")], {**attributes, **window}, layout="nchw", activation=True)


def _pads(
    b: Builder,
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[int, ...]:
    """Explicit padding ``(top, left, bottom, right)``; of an odd total the end gets one more.

    Source: TensorFlow's definition of the padding SAME.
    """
    if min(*strides, *kernel, *dilations) < 1:
        raise ModelError(f"kernel {kernel}, strides {strides}, dilations {dilations}", place=b.operator.place)
    if b.option("padding", SAME) != SAME:
        return (0, 0, 0, 0)
    totals: list[int] = []
    for size, extent, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        covered = (-(-size // stride) - 1) * stride + (extent - 1) * dilation + 1
        totals.append(max(0, covered - size))
    begins = [total // 2 for total in totals]
    return (*begins, *(total - begin for total, begin in zip(totals, begins, strict=True)))


def _weights(b: Builder, axes: tuple[int, ...]) -> Value:
    """The constant weights; `axes` says where each axis of the file goes.

    Weights whose activations are float are handed in as real numbers, whatever the file stores.
    """
    index = b.operand(1)
    tensor = b.tensor(index)
    perm = [axes.index(at) for at in range(len(axes))]
    activation = b.operand(2) if b.operator.name == "TRANSPOSE_CONV" else b.operand(0)
    if not (b.is_quantized(index) and b.is_quantized(activation)):
        return b.constant(np.transpose(b.real(index), perm), tensor.name)
    quant = b.quant(index, axes)
    assert quant is not None  # noqa: S101 - the tensor is quantized
    if quant.axis is not None and not quant.is_symmetric:
        raise UnsupportedModelError(
            "weights with a scale per channel have zero points other than 0",
            place=tensor.place,
            hint="TFLite's own kernels refuse them too; quantize the float model anew",
        )
    return b.constant(np.transpose(b.array(index), perm), tensor.name, quant)


def _bias(b: Builder, position: int, weights: Value, activation: int | None = None) -> list[Value]:
    """The bias, if there is one.

    The kernels add its codes to the accumulator as they are, so their scale is that of the accumulator
    whatever the file says.
    """
    index = b.operand(position)
    if index < 0:
        return []
    tensor, data = b.tensor(index), b.array(index)
    source, quant = b.quant(b.operand(0) if activation is None else activation), weights.type.quant
    if source is None or quant is None:
        if data.dtype.kind != "f" and tensor.quant is not None:
            data = _scaled(data, list(tensor.quant.scale))
        return [b.constant(data.astype(np.float32), tensor.name)]
    scales = [float(np.float32(source.scale[0]) * np.float32(scale)) for scale in quant.scale]
    if np.abs(data.astype(np.float64)).max(initial=0) > DType.INT32.max:
        return [b.constant(_scaled(data, scales), tensor.name)]
    try:
        bias = QuantParams(DType.INT32, scales, 0, None if len(scales) == 1 else 0)
    except ValueError as error:
        raise ModelError(
            f"the scale of the accumulator is impossible: {error}", place=tensor.place
        ) from error
    return [b.constant(data.astype(np.int32), tensor.name, bias)]


def _scaled(data: Array, scales: list[float]) -> Array:
    scaled: Array = data.astype(np.float64) * np.array(scales)
    return scaled
