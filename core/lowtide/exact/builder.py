"""A network as steps that compute with integers: ONNX nodes where they are exact, Python where not.

Integers are carried in float32 and float64 tensors, in which sums of products stay exact up to 2^24 and
2^53. A quantized value is carried as its code minus the zero point, so that zero is zero everywhere and
padding needs no thought.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import onnx
from onnx import helper

from lowtide.ir import OPSET, Array, QuantParams, Value
from lowtide.runtime import Session

PROVEN = 1 << 24
"""Integers of smaller magnitude add up in float32 without rounding."""

MAGIC = 1.5 * 2.0**23
"""Added in float32, it leaves the nearest integer in the last bits of numbers below 2^22."""

FUSIONS = ("ConvMulFusion", "ConvAddFusion", "ConvBNFusion", "MatMulAddFusion")
"""Rewrites of ONNX Runtime that move a factor into weights and so make them no integers any more."""

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
        key = data.dtype.str, np.shape(array), hashlib.sha256(data).digest()
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


@attrs.frozen(eq=False)
class _Segment:
    session: Session
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(self, tensors: dict[str, Array]) -> None:
        tensors.update(self.session.run({name: tensors[name] for name in self.inputs}))


@attrs.frozen(eq=False)
class Program:
    """Runs the steps, neighbouring ONNX nodes as one model."""

    parts: tuple[_Segment | Step, ...]
    constants: Mapping[str, Array]

    @classmethod
    def of(
        cls, builder: Builder, feeds: Mapping[str, tuple[int, Sequence[int]]], wanted: Iterable[str]
    ) -> Program:
        """Put the steps together.

        Args:
            builder: the steps.
            feeds: ONNX element type and shape of what a run is fed, by name.
            wanted: the tensors that a run returns.
        """
        runs: list[list[onnx.NodeProto] | Step] = []
        for step in builder.steps:
            if isinstance(step, Step):
                runs.append(step)
            elif runs and isinstance(runs[-1], list):
                runs[-1].append(step)
            else:
                runs.append([step])
        readers = Counter(name for run in runs for name in _read(run))
        needed = set(wanted)
        parts: list[_Segment | Step] = []
        for run in reversed(runs):
            if isinstance(run, Step):
                needed.update(run.inputs)
                parts.append(run)
                continue
            made = {name for node in run for name in node.output}
            inputs = {name for node in run for name in node.input if name} - made - builder.constants.keys()
            outputs = tuple(sorted(made & needed))
            if outputs:
                constants = {
                    # Weights go into the session, and held twice would double the memory.
                    name: (builder.constants.pop if readers[name] == 1 else builder.constants.__getitem__)(
                        name
                    )
                    for name in sorted(_read(run) & builder.constants.keys())
                }
                infos = [_info(name, builder, feeds) for name in sorted(inputs)]
                session = Session(_serialized(run, infos, outputs, constants), disabled=FUSIONS)
                parts.append(_Segment(session, tuple(sorted(inputs)), outputs))
                needed |= inputs
        read = {name for part in parts if isinstance(part, Step) for name in part.inputs}
        constants = {name: array for name, array in builder.constants.items() if name in read}
        return cls(tuple(reversed(parts)), constants)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All tensors that were fed or are wanted, and those between the parts."""
        tensors = {**self.constants, **feeds}
        for part in self.parts:
            if isinstance(part, Step):
                tensors[part.output] = part.compute(*(tensors[name] for name in part.inputs))
            else:
                part.run(tensors)
        return tensors


def _read(run: list[onnx.NodeProto] | Step) -> set[str]:
    """The names that a part reads."""
    if isinstance(run, Step):
        return set(run.inputs)
    return {name for node in run for name in node.input}


def _serialized(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: Iterable[str],
    constants: dict[str, Array],
) -> bytes:
    """A model in bytes; takes the constants away one by one, so that none is there three times."""
    results = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph(nodes, "exact", inputs, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    for name in sorted(constants):
        array = constants.pop(name)
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        raw = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        model.graph.initializer.add(name=name, data_type=kind, dims=array.shape, raw_data=raw)
    return model.SerializeToString()


def _info(name: str, builder: Builder, feeds: Mapping[str, tuple[int, Sequence[int]]]) -> onnx.ValueInfoProto:
    if name in feeds:
        number, shape = feeds[name]
        return helper.make_tensor_value_info(name, number, list(shape))
    return helper.make_tensor_value_info(name, builder.types.get(name, onnx.TensorProto.FLOAT), None)
