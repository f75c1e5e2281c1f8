"""Networks as graphs of shapes: weights have no data, since a latency does not depend on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lowtide.ir import AttributeValue, Constant, DType, Graph, TensorType, Value

NO_DATA = "0" * 64


class Net:
    """A graph under construction; every method adds one layer and returns its output ``[1, C, H, W]``."""

    def __init__(self, name: str, size: int | tuple[int, int], channels: int = 3) -> None:
        height, width = (size, size) if isinstance(size, int) else size
        self.graph = Graph(name)
        self.input = self.graph.add_input("input", TensorType(DType.FLOAT32, (1, channels, height, width)))

    def done(self, *outputs: Value) -> Graph:
        self.graph.set_outputs(outputs)
        return self.graph

    def conv(
        self,
        x: Value,
        channels: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        *,
        group: int = 1,
        dilation: int = 1,
        pad: int | None = None,
        act: bool = True,
    ) -> Value:
        kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
        ph, pw = (dilation * (kh - 1) // 2, dilation * (kw - 1) // 2) if pad is None else (pad, pad)
        _, c, h, w = x.type.static_shape
        weights = self._weights((channels, c // group, kh, kw))
        shape = (
            1,
            channels,
            (h + 2 * ph - dilation * (kh - 1) - 1) // stride + 1,
            (w + 2 * pw - dilation * (kw - 1) - 1) // stride + 1,
        )
        attributes: dict[str, AttributeValue] = {
            "kernel_shape": (kh, kw),
            "strides": (stride, stride),
            "pads": (ph, pw, ph, pw),
            "dilations": (dilation, dilation),
            "group": group,
        }
        y = self._node("Conv", [x, weights, self._weights((channels,))], shape, attributes)
        return self.relu(y, layer=True) if act else y

    def depthwise(
        self, x: Value, kernel: int = 3, stride: int = 1, *, dilation: int = 1, act: bool = True
    ) -> Value:
        c = channels_of(x)
        return self.conv(x, c, kernel, stride, group=c, dilation=dilation, act=act)

    def separable(
        self, x: Value, channels: int, kernel: int = 3, stride: int = 1, *, dilation: int = 1
    ) -> Value:
        return self.conv(self.depthwise(x, kernel, stride, dilation=dilation), channels)

    def relu(self, x: Value, *, layer: bool = False) -> Value:
        y = self._node("Relu", [x], x.type.static_shape)
        if layer and x.producer is not None and y.producer is not None:
            x.producer.layer = y.producer.layer = y.name
        return y

    def add(self, x: Value, y: Value, *, act: bool = False) -> Value:
        z = self._node("Add", [x, y], x.type.static_shape)
        return self.relu(z, layer=True) if act else z

    def sigmoid(self, x: Value) -> Value:
        return self._node("Sigmoid", [x], x.type.static_shape)

    def concat(self, parts: Sequence[Value], axis: int = 1) -> Value:
        shape = list(parts[0].type.static_shape)
        shape[axis] = sum(part.type.static_shape[axis] for part in parts)
        return self._node("Concat", list(parts), tuple(shape), {"axis": axis})

    def pool(self, x: Value, kernel: int, stride: int, op: str = "MaxPool", pad: int | None = None) -> Value:
        _, c, h, w = x.type.static_shape
        p = (kernel - 1) // 2 if pad is None else pad
        shape = (1, c, (h + 2 * p - kernel) // stride + 1, (w + 2 * p - kernel) // stride + 1)
        attributes: dict[str, AttributeValue] = {
            "kernel_shape": (kernel, kernel),
            "strides": (stride, stride),
            "pads": (p, p, p, p),
        }
        return self._node(op, [x], shape, attributes)

    def upsample(self, x: Value, factor: int) -> Value:
        _, c, h, w = x.type.static_shape
        scales = self.graph.add_constant(
            self._name("scales"), Constant.of(np.array([1, 1, factor, factor], np.float32))
        )
        return self._node("Resize", [x, None, scales], (1, c, h * factor, w * factor), {"mode": "linear"})

    def average(self, x: Value) -> Value:
        return self._node("GlobalAveragePool", [x], (1, channels_of(x), 1, 1))

    def argmax(self, x: Value) -> Value:
        _, _, h, w = x.type.static_shape
        return self._node("ArgMax", [x], (1, 1, h, w), {"axis": 1}, DType.INT64)

    def flat(self, x: Value) -> Value:
        return self._node("Flatten", [x], (1, math.prod(x.type.static_shape[1:])))

    def rows(self, x: Value, columns: int) -> Value:
        """Predictions of a detector ``[1, A * columns, H, W]`` as ``[1, A * H * W, columns]``."""
        _, c, h, w = x.type.static_shape
        moved = self._node("Transpose", [x], (1, h, w, c), {"perm": (0, 2, 3, 1)})
        shape = (1, c * h * w // columns, columns)
        target = self.graph.add_constant(self._name("shape"), Constant.of(np.array(shape, np.int64)))
        return self._node("Reshape", [moved, target], shape)

    def linear(self, x: Value, channels: int, *, act: bool = False) -> Value:
        rows, depth = x.type.static_shape
        operands = [x, self._weights((channels, depth)), self._weights((channels,))]
        y = self._node("Gemm", operands, (rows, channels), {"transB": 1})
        return self.relu(y, layer=True) if act else y

    def classifier(self, x: Value, classes: int = 1000) -> Value:
        return self.linear(self.flat(self.average(x)), classes)

    def _name(self, base: str) -> str:
        return f"{base}{len(self.graph.values)}"

    def _weights(self, shape: tuple[int, ...]) -> Value:
        return self.graph.add_constant(
            self._name("weights"), Constant.by_digest(DType.FLOAT32, shape, NO_DATA)
        )

    def _node(
        self,
        op: str,
        inputs: Sequence[Value | None],
        shape: tuple[int, ...],
        attributes: Mapping[str, AttributeValue] | None = None,
        dtype: DType = DType.FLOAT32,
    ) -> Value:
        outputs = [(f"{op.lower()}{len(self.graph)}", TensorType(dtype, shape))]
        return self.graph.add_node(op, inputs, outputs, attributes or {}).output


def channels_of(x: Value) -> int:
    return x.type.static_shape[1]


def rounded(channels: float, divisor: int = 8) -> int:
    """Channels as the MobileNet papers round them: to a multiple, never down by more than 10 %."""
    found = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return found + divisor if found < 0.9 * channels else found
