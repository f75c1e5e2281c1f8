"""Small TFLite files, made for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import flatbuffers
import numpy as np
import tflite

from lowtide.ir import Array

_schema: Any = tflite
_NAMES = {"float32": "FLOAT32", "float16": "FLOAT16", "int8": "INT8", "uint8": "UINT8", "int16": "INT16"}
_NAMES |= {"int32": "INT32", "int64": "INT64", "bool": "BOOL"}


@attrs.frozen(kw_only=True, eq=False)
class T:
    """A tensor; with `data` a constant."""

    name: str
    dtype: str = "float32"
    shape: tuple[int, ...] = ()
    data: Array | None = None
    scale: tuple[float, ...] = ()
    zero: tuple[int, ...] = ()
    axis: int = 0


def const(name: str, data: Array, **quant: Any) -> T:
    """A constant tensor."""
    return T(name=name, dtype=str(data.dtype), shape=data.shape, data=data, **quant)


@attrs.frozen(eq=False)
class Op:
    """An operator; `options` by the names of the schema, with the table's name as ``table``."""

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = attrs.field(factory=dict[str, Any])


def make(
    tensors: Sequence[T], operators: Sequence[Op], inputs: Sequence[int], outputs: Sequence[int]
) -> bytes:
    """The bytes of a file with one graph."""
    b: Any = flatbuffers.Builder(1024)
    buffers = [_buffer(b, None), *(_buffer(b, tensor.data) for tensor in tensors)]
    made = [_tensor(b, tensor, at + 1) for at, tensor in enumerate(tensors)]
    codes = list(dict.fromkeys(op.code for op in operators))
    nodes = [_operator(b, op, codes.index(op.code)) for op in operators]
    tables = (_tables(b, made), _ints(b, inputs), _ints(b, outputs), _tables(b, nodes))
    _schema.SubGraphStart(b)
    _schema.SubGraphAddTensors(b, tables[0])
    _schema.SubGraphAddInputs(b, tables[1])
    _schema.SubGraphAddOutputs(b, tables[2])
    _schema.SubGraphAddOperators(b, tables[3])
    graphs = _tables(b, [_schema.SubGraphEnd(b)])
    listed, stored = _tables(b, [_code(b, code) for code in codes]), _tables(b, buffers)
    _schema.ModelStart(b)
    _schema.ModelAddVersion(b, 3)
    _schema.ModelAddOperatorCodes(b, listed)
    _schema.ModelAddSubgraphs(b, graphs)
    _schema.ModelAddBuffers(b, stored)
    b.Finish(_schema.ModelEnd(b), b"TFL3")
    return bytes(b.Output())


def _buffer(b: Any, data: Array | None) -> int:
    raw = None if data is None else b.CreateNumpyVector(np.frombuffer(data.tobytes(), np.uint8))
    _schema.BufferStart(b)
    if raw is not None:
        _schema.BufferAddData(b, raw)
    return int(_schema.BufferEnd(b))


def _tensor(b: Any, tensor: T, buffer: int) -> int:
    quant = _quantization(b, tensor) if tensor.scale else None
    name, shape = b.CreateString(tensor.name), _ints(b, tensor.shape)
    _schema.TensorStart(b)
    _schema.TensorAddShape(b, shape)
    _schema.TensorAddType(b, getattr(_schema.TensorType, _NAMES.get(tensor.dtype, tensor.dtype)))
    _schema.TensorAddBuffer(b, buffer)
    _schema.TensorAddName(b, name)
    if quant is not None:
        _schema.TensorAddQuantization(b, quant)
    return int(_schema.TensorEnd(b))


def _quantization(b: Any, tensor: T) -> int:
    scale = b.CreateNumpyVector(np.array(tensor.scale, np.float32))
    zero = b.CreateNumpyVector(np.array(tensor.zero or (0,) * len(tensor.scale), np.int64))
    _schema.QuantizationParametersStart(b)
    _schema.QuantizationParametersAddScale(b, scale)
    _schema.QuantizationParametersAddZeroPoint(b, zero)
    _schema.QuantizationParametersAddQuantizedDimension(b, tensor.axis)
    return int(_schema.QuantizationParametersEnd(b))


def _code(b: Any, code: str) -> int:
    number = getattr(_schema.BuiltinOperator, code, None)
    custom = b.CreateString(code) if number is None else None
    _schema.OperatorCodeStart(b)
    number = _schema.BuiltinOperator.CUSTOM if number is None else number
    _schema.OperatorCodeAddDeprecatedBuiltinCode(b, min(number, 127))
    _schema.OperatorCodeAddBuiltinCode(b, number)
    _schema.OperatorCodeAddVersion(b, 1)
    if custom is not None:
        _schema.OperatorCodeAddCustomCode(b, custom)
    return int(_schema.OperatorCodeEnd(b))


def _operator(b: Any, op: Op, code: int) -> int:
    inputs, outputs = _ints(b, op.inputs), _ints(b, op.outputs)
    table = op.options.get("table")
    options = None
    if table is not None:
        getattr(_schema, f"{table}Start")(b)
        for key, value in op.options.items():
            if key != "table":
                getattr(_schema, f"{table}Add{key}")(b, value)
        options = getattr(_schema, f"{table}End")(b)
    _schema.OperatorStart(b)
    _schema.OperatorAddOpcodeIndex(b, code)
    _schema.OperatorAddInputs(b, inputs)
    _schema.OperatorAddOutputs(b, outputs)
    if options is not None:
        _schema.OperatorAddBuiltinOptionsType(b, getattr(_schema.BuiltinOptions, str(table)))
        _schema.OperatorAddBuiltinOptions(b, options)
    return int(_schema.OperatorEnd(b))


def _ints(b: Any, numbers: Sequence[int]) -> int:
    return int(b.CreateNumpyVector(np.array(numbers, np.int32)))


def _tables(b: Any, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())
