"""A network as steps that compute with integers: ONNX nodes where they are exact, Python where not.

Integers are carried in float32 and float64 tensors, in which sums of products stay exact up to 2^24 and
2^53. A quantized value is carried as its code minus the zero point, so that zero is zero everywhere and
padding needs no thought.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import onnx
from onnx import helper

from lowtide.ir import Array, QuantParams, Value

PROVEN = 1 << 24
"""Integers of smaller magnitude add up in float32 without rounding."""

MAGIC = 1.5 * 2.0**23
"""Added in float32, it leaves the nearest integer in the last bits of numbers below 2^22."""

Attributes = Mapping[str, Any]


@attrs.frozen(eq=False)
class Step:
    """A function on arrays by name, for what ONNX cannot compute exactly.

    Attributes:
        inputs: names of the tensors that it is called with.
        output: the name of its result.
    """

    compute: Callable[..., Array]
    inputs: tuple[str, ...]
    output: str


@attrs.frozen
class Window:
    """The codes less the zero point that a layer may give: those of its type within its activation."""

    low: int
    high: int

    @property
    def reach(self) -> int:
        """The largest magnitude."""
        return max(self.high, -self.low)


@attrs.define
class Builder:
    """The steps so far, in executable order.

    Attributes:
        codes: the tensor with the codes of a value, less their zero point.
        real: the tensor with the real numbers of a value.
        digits: the lower and the upper digit of a tensor, by what the upper counts.
        made_by: the node that gives a tensor.
    """

    steps: list[onnx.NodeProto | Step] = attrs.field(factory=list["onnx.NodeProto | Step"])
    constants: dict[str, Array] = attrs.field(factory=dict[str, Array])
    codes: dict[Value, str] = attrs.field(factory=dict[Value, str])
    real: dict[Value, str] = attrs.field(factory=dict[Value, str])
    types: dict[str, int] = attrs.field(factory=dict[str, int])
    digits: dict[tuple[str, int], tuple[str, str]] = attrs.field(
        factory=dict[tuple[str, int], tuple[str, str]]
    )
    made_by: dict[str, onnx.NodeProto] = attrs.field(factory=dict[str, "onnx.NodeProto"])
    _count: int = 0
    _names: dict[tuple[str, tuple[int, ...], bytes], str] = attrs.field(
        factory=dict[tuple[str, tuple[int, ...], bytes], str]
    )

    def fresh(self) -> str:
        """A new tensor name."""
        self._count += 1
        return f"t{self._count}"

    def constant(self, array: Array | float, dtype: type[np.generic] = np.float32) -> str:
        """A constant; what is the same has one name."""
        data = np.ascontiguousarray(array, dtype)
        key = data.dtype.str, np.shape(array), hashlib.sha256(data.tobytes()).digest()
        if key not in self._names:
            self._names[key] = self.fresh()
            self.constants[self._names[key]] = data.reshape(np.shape(array))
        return self._names[key]

    def node(self, op: str, inputs: Sequence[str], attributes: Attributes | None = None) -> str:
        """A node with one result."""
        return self.nodes(op, inputs, 1, attributes)[0]

    def nodes(
        self, op: str, inputs: Sequence[str], count: int, attributes: Attributes | None = None
    ) -> tuple[str, ...]:
        """A node with several results."""
        results = tuple(self.fresh() for _ in range(count))
        kept = {key: entry for key, entry in (attributes or {}).items() if entry is not None}
        node = helper.make_node(op, list(inputs), list(results), **kept)
        self.made_by.update(dict.fromkeys(results, node))
        self.steps.append(node)
        return results

    def step(self, compute: Callable[..., Array], *inputs: str) -> str:
        """A Python step."""
        result = self.fresh()
        self.steps.append(Step(compute, inputs, result))
        return result

    # --- small things that many layers need ---

    def clip(self, name: str, low: float, high: float, dtype: type[np.generic] = np.float32) -> str:
        """Limits on both sides."""
        return self.node("Clip", [name, self.constant(low, dtype), self.constant(high, dtype)])

    def round(self, name: str, bound: float, dtype: type[np.generic] = np.float32) -> str:
        """To the nearest integer, ties to even.

        Numbers below 2^22, or 2^51 in float64, are rounded by the addition of one so large that its last bit
        counts ones: two vectorized operations instead of a slow one.
        """
        mantissa = 22 if dtype is np.float32 else 51
        if bound >= 1 << mantissa:
            return self.node("Round", [name])
        magic = self.constant(1.5 * 2.0 ** (mantissa + 1), dtype)
        return self.node("Sub", [self.node("Add", [name, magic]), magic])

    def codes_from(self, name: str, window: Window, planes: int = 0) -> str:
        """Real numbers in float32 to the nearest integers of the window, ties to even.

        On planes the limits come last, where they fuse with a convolution: numbers of 2^22 and more are not
        rounded right, but stay beyond every limit.
        """
        if not planes:
            return self.round(self.clip(name, window.low, window.high), window.reach)
        raised = self.planes(name, planes, 1.0, MAGIC)
        return self.clip(self.planes(raised, planes, 1.0, -MAGIC), window.low, window.high)

    def planes(
        self, name: str, channels: int, factor: Array | float, offset: Array | float | None = None
    ) -> str:
        """Every plane of ``[N, C, H, W]`` times its factor, plus its offset, in float32.

        A depthwise convolution, because ONNX Runtime keeps the blocked layout of its convolutions through it.
        Whether the product is rounded before the offset is added is open, and must not matter.
        """
        weights = np.broadcast_to(np.asarray(factor, np.float64).reshape(-1), (channels,))
        operands = [name, self.constant(weights.reshape((-1, 1, 1, 1)))]
        if offset is not None:
            operands.append(self.constant(np.broadcast_to(np.asarray(offset, np.float64), (channels,))))
        return self.node("Conv", operands, {"group": channels, "kernel_shape": [1, 1]})

    def split(self, name: str, channels: int, base: int) -> tuple[str, str]:
        """Integers on planes as lower + base * upper, the lower around zero; the base is a power of two."""
        if (name, base) not in self.digits:
            raised = self.planes(name, channels, 1 / base, MAGIC)
            upper = self.planes(raised, channels, 1.0, -MAGIC)
            taken = self.planes(upper, channels, -float(base))
            whole = name if self._is_blocked(name) else self.planes(name, channels, 1.0)
            self.digits[name, base] = (self.node("Add", [taken, whole]), upper)
        return self.digits[name, base]

    def _is_blocked(self, name: str) -> bool:
        """Whether a tensor is in the blocked layout of convolutions, in which a sum is a part of one."""
        node = self.made_by.get(name)
        while node is not None and node.op_type in {"Add", "Clip", "Relu"}:
            node = self.made_by.get(node.input[0])
        return node is not None and node.op_type == "Conv"

    def wide(self, name: str) -> str:
        """The same numbers in float64."""
        return self.node("Cast", [name], {"to": onnx.TensorProto.DOUBLE})

    def narrow(self, name: str) -> str:
        """The same numbers in float32, rounded to even where they do not fit."""
        return self.node("Cast", [name], {"to": onnx.TensorProto.FLOAT})


def limits(quant: QuantParams) -> tuple[int, int]:
    """The lowest and highest code, less the zero point."""
    zero = quant.zero_point[0]
    return quant.dtype.min - zero, quant.dtype.max - zero


def largest(quant: QuantParams) -> int:
    """The largest magnitude of a code less the zero point."""
    low, high = limits(quant)
    return max(-low, high)
