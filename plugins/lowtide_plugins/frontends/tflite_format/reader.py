"""A TFLite flatbuffer to plain records.

Nothing in a file is trusted: flatbuffers hold offsets that may point anywhere and lengths that may say
anything, so every vector is checked against the size of the file before it is walked.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np
import tflite  # pyright: ignore[reportMissingTypeStubs]  # it ships no types

from lowtide.errors import ModelError, UnsupportedModelError, counted
from lowtide.ir import Array

_schema: Any = tflite

IDENTIFIER = b"TFL3"
"""Bytes 4 to 8 of every TFLite file."""

_BROKEN = (struct.error, IndexError, ValueError, TypeError, OverflowError, AttributeError, KeyError)
"""What the flatbuffers package raises on a file that lies."""

_NUMPY: Mapping[str, str] = {
    "FLOAT32": "<f4",
    "FLOAT16": "<f2",
    "FLOAT64": "<f8",
    "INT8": "i1",
    "UINT8": "u1",
    "INT16": "<i2",
    "UINT16": "<u2",
    "INT32": "<i4",
    "UINT32": "<u4",
    "INT64": "<i8",
    "UINT64": "<u8",
    "BOOL": "?",
}
_BUILTIN_CODE = 10
"""Where the virtual table of ``OperatorCode`` has its field ``builtin_code``."""

_NOT_OPTIONS = re.compile(r"(GetRootAs.*|Init|.*BufferHasIdentifier|.*AsNumpy|.*IsNone|.*Length)")


@attrs.frozen
class Quantization:
    """The quantization parameters of a tensor as the file has them, at least one scale.

    Attributes:
        axis: the dimension of several scales, in the layout of the file.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int


@attrs.frozen(kw_only=True, eq=False)
class Tensor:
    """One tensor.

    Attributes:
        name: as in the file, ``tensor_<index>`` when it has none.
        dtype: the file's word, as ``FLOAT32``.
        shape: dimensions in the file's layout, for images ``[N, H, W, C]``.
        open: which dimensions the file leaves open; `shape` has 1 there.
        data: the content of a constant, in the file's layout.
    """

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    open: tuple[bool, ...]
    data: Array | None
    quant: Quantization | None
    variable: bool

    @property
    def place(self) -> str:
        """The tensor in messages."""
        return f"tensor {self.name}"


@attrs.frozen(kw_only=True, eq=False)
class Operator:
    """One operator.

    Attributes:
        name: the file's word, as ``CONV_2D``; of a custom operator its own name.
        custom: whether it is none of TFLite's.
        inputs: indices of tensors, -1 for one that is left out.
        options: fields of its options table in snake case, vectors as tuples of integers.
        place: the operator in messages: its name and the name of its first result.
    """

    name: str
    custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]
    place: str


@attrs.frozen(kw_only=True, eq=False)
class TfliteModel:
    """The main graph of a file."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_model(data: bytes) -> TfliteModel:
    """Read the main graph of a file.

    Raises:
        ModelError: when the bytes are no TFLite model or contradict themselves.
        UnsupportedModelError: for sparse tensors and element types that a graph does not carry.
    """
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise ModelError("is no TFLite model: it lacks the identifier TFL3", hint="is the file complete?")
    reader = _Reader(data)
    try:
        return reader.model()
    except _BROKEN as error:
        raise ModelError(
            f"is a damaged TFLite model: {type(error).__name__} {error}".rstrip(),
            hint="is the file complete?",
        ) from error


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def model(self) -> TfliteModel:
        root = _schema.Model.GetRootAs(self.data, 0)
        if self.count(root.SubgraphsLength()) == 0:
            raise ModelError("the model has no graph")
        graph = root.Subgraphs(0)
        codes = [_code(root.OperatorCodes(at)) for at in range(self.count(root.OperatorCodesLength()))]
        buffers = self.count(root.BuffersLength())
        taken: set[str] = set()
        tensors = tuple(
            self.tensor(root, graph.Tensors(at), at, buffers, taken)
            for at in range(self.count(graph.TensorsLength()))
        )
        operators = tuple(
            self.operator(graph.Operators(at), codes, tensors)
            for at in range(self.count(graph.OperatorsLength()))
        )
        inputs = self.indices(graph, "Inputs", tensors, "the inputs of the model")
        outputs = self.indices(graph, "Outputs", tensors, "the outputs of the model")
        if not operators or not outputs:
            raise ModelError("the model computes nothing")
        return TfliteModel(tensors=tensors, operators=operators, inputs=inputs, outputs=outputs)

    def count(self, length: int) -> int:
        if not 0 <= length <= len(self.data):
            raise ModelError(f"is a damaged TFLite model: a list of {length} entries")
        return length

    def ints(self, table: Any, field: str) -> tuple[int, ...]:
        length = self.count(getattr(table, f"{field}Length")())
        return tuple(int(getattr(table, field)(at)) for at in range(length))

    def numbers(self, table: Any, field: str) -> tuple[float, ...]:
        length = self.count(getattr(table, f"{field}Length")())
        return tuple(float(getattr(table, field)(at)) for at in range(length))

    def indices(self, table: Any, field: str, tensors: tuple[Tensor, ...], place: str) -> tuple[int, ...]:
        found = self.ints(table, field)
        for index in found:
            if not -1 <= index < len(tensors):
                raise ModelError(f"tensor {index} of {len(tensors)}", place=place)
        return found

    def tensor(self, root: Any, table: Any, index: int, buffers: int, taken: set[str]) -> Tensor:
        name = _fresh((table.Name() or b"").decode("utf-8", "replace") or f"tensor_{index}", taken)
        place = f"tensor {name}"
        dtype = _name_of("TensorType", table.Type())
        if table.Sparsity() is not None:
            raise UnsupportedModelError(
                "the tensor is stored sparse", place=place, hint="export the model with dense weights"
            )
        shape = self.ints(table, "Shape")
        if any(dim < 0 for dim in shape):
            raise ModelError(f"a dimension is negative: {list(shape)}", place=place)
        signature = self.ints(table, "ShapeSignature") or shape
        if not 0 <= table.Buffer() < max(1, buffers):
            raise ModelError(f"buffer {table.Buffer()} of {buffers}", place=place)
        buffer = root.Buffers(table.Buffer()) if buffers and table.Buffer() else None
        return Tensor(
            index=index,
            name=name,
            dtype=dtype,
            shape=shape,
            open=tuple(dim < 0 for dim in signature)
            if len(signature) == len(shape)
            else (False,) * len(shape),
            data=None if buffer is None else self.content(buffer, dtype, shape, place),
            quant=self.quantization(table.Quantization(), place),
            variable=bool(table.IsVariable()),
        )

    def content(self, buffer: Any, dtype: str, shape: tuple[int, ...], place: str) -> Array | None:
        """The content of a buffer; ``None`` for one without, as activations have."""
        raw = self.bytes_of(buffer, place)
        if raw is None:
            return None
        if dtype == "INT4":
            return _unpacked(raw, shape, place)
        if dtype not in _NUMPY:
            raise UnsupportedModelError(f"the element type {dtype} is not supported", place=place)
        kind = np.dtype(_NUMPY[dtype])
        expected = functools.reduce(lambda size, dim: size * dim, shape, kind.itemsize)
        if len(raw) != expected:
            raise ModelError(
                f"the data has {len(raw)} bytes, {dtype}{list(shape)} needs {expected}",
                place=place,
                hint="is the file complete?",
            )
        return np.frombuffer(raw, kind).reshape(shape)

    def bytes_of(self, buffer: Any, place: str) -> memoryview | None:
        # Models above 2 GB keep their data behind the flatbuffer; 0 and 1 stand for "not there".
        if buffer.Offset() > 1:
            start, size = int(buffer.Offset()), int(buffer.Size())
        elif self.count(buffer.DataLength()):
            size = buffer.DataLength()
            start = buffer._tab.Vector(buffer._tab.Offset(4))  # noqa: SLF001 - no accessor gives the offset
        else:
            return None
        if not 0 <= start <= start + size <= len(self.data):
            raise ModelError(
                f"the data should be bytes {start} to {start + size} of {len(self.data)}",
                place=place,
                hint="is the file complete?",
            )
        return memoryview(self.data)[start : start + size]

    def quantization(self, table: Any, place: str) -> Quantization | None:
        if table is None or not self.count(table.ScaleLength()):
            return None
        scale = self.numbers(table, "Scale")
        zero = self.ints(table, "ZeroPoint") or (0,)
        if len(zero) not in {1, len(scale)}:
            raise ModelError(
                f"{counted(len(scale), 'scale')} but {counted(len(zero), 'zero point')}", place=place
            )
        return Quantization(scale, zero, int(table.QuantizedDimension()))

    def operator(self, table: Any, codes: list[tuple[str, bool]], tensors: tuple[Tensor, ...]) -> Operator:
        code = int(table.OpcodeIndex())
        if not 0 <= code < len(codes):
            raise ModelError(f"an operator has the code {code} of {len(codes)}")
        name, custom = codes[code]
        outputs = self.indices(table, "Outputs", tensors, name)
        first = next((tensors[at].name for at in outputs if at >= 0), "?")
        place = f"{name} {first}"
        return Operator(
            name=name,
            custom=custom,
            inputs=self.indices(table, "Inputs", tensors, place),
            outputs=outputs,
            options={} if custom else self.options(table),
            place=place,
        )

    def options(self, table: Any) -> dict[str, Any]:
        union: Any = table.BuiltinOptions()
        kind = _name_of("BuiltinOptions", table.BuiltinOptionsType())
        if union is None or kind == "NONE":
            return {}
        options: Any = getattr(_schema, kind)()
        options.Init(union.Bytes, union.Pos)
        found: dict[str, Any] = {}
        for field in dir(options):
            if field.startswith("_") or _NOT_OPTIONS.fullmatch(field):
                continue
            known: Callable[[], Any] = getattr(options, field)
            is_list = hasattr(options, f"{field}Length")
            key = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", field).lower()
            found[key] = self.ints(options, field) if is_list else known()
        return found


def _code(entry: Any) -> tuple[str, bool]:
    # A file may have the older field, which ends at 127, the newer one, or both. The accessor of the newer
    # one gives the older below 127 and so misreads files that have the newer alone.
    table = entry._tab  # noqa: SLF001 - see above
    at = table.Offset(_BUILTIN_CODE)
    newer = struct.unpack_from("<i", table.Bytes, at + table.Pos)[0] if at else 0
    name = _name_of("BuiltinOperator", max(newer, entry.DeprecatedBuiltinCode()))
    if name != "CUSTOM":
        return name, False
    return (entry.CustomCode() or b"?").decode("utf-8", "replace"), True


def _name_of(enum: str, number: int) -> str:
    return _names(enum).get(number, f"{enum} {number}")


@functools.cache
def _names(enum: str) -> Mapping[int, str]:
    found: Any = getattr(_schema, enum)
    return {int(getattr(found, name)): name for name in dir(found) if not name.startswith("_")}


def _fresh(name: str, taken: set[str]) -> str:
    chosen, number = name, 0
    while chosen in taken:
        number += 1
        chosen = f"{name}_{number}"
    taken.add(chosen)
    return chosen


def _unpacked(raw: memoryview, shape: tuple[int, ...], place: str) -> Array:
    """Two codes a byte, the lower four bits first, as int8."""
    size = functools.reduce(lambda product, dim: product * dim, shape, 1)
    if len(raw) != (size + 1) // 2:
        raise ModelError(
            f"the data has {len(raw)} bytes, {size} codes of 4 bits need {(size + 1) // 2}", place=place
        )
    pairs = np.frombuffer(raw, np.uint8)
    codes = np.stack([pairs & 15, pairs >> 4], axis=-1).reshape(-1)[:size].astype(np.int8)
    return np.where(codes > 7, codes - 16, codes).astype(np.int8).reshape(shape)
