"""Text form of the proto, through a schema that is built here.

Source: the vendor's published description: names, numbers and types of the fields, and their defaults.
"""

from __future__ import annotations

import functools
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from lowtide.errors import ModelError, nearest
from lowtide_plugins.tidl_proto.records import (
    LARGEST,
    CalibType,
    LayerParams,
    NetParams,
    QuantType,
    TensorParams,
)

LIMIT = 256 << 20
"""Bytes; no network has so many layers."""

_TENSOR = (
    ("min", 1, "float", "optional"),
    ("max", 2, "float", "optional"),
    ("size", 3, "uint32", "optional"),
    ("element_type", 4, "uint32", "optional"),
    ("scale", 5, "double", "repeated"),
    ("zero_point", 6, "uint32", "repeated"),
    ("value", 7, "double", "repeated"),
)
_LAYER = (
    ("layer_name", 1, "string", "optional"),
    ("layer_type", 2, "string", "optional"),
    ("bit_depth", 3, "uint32", "optional"),
    ("outputs", 4, "TidlTensorQuantParams", "repeated"),
    ("weights", 5, "TidlTensorQuantParams", "repeated"),
    ("bias", 6, "TidlTensorQuantParams", "repeated"),
    ("slope", 7, "TidlTensorQuantParams", "repeated"),
)
_NET = (
    ("num_layers", 1, "int32", "optional"),
    ("quant_type", 2, "TidlQuantType", "optional"),
    ("calib_type", 3, "TidlCalibType", "optional"),
    ("layers", 4, "TidlLayerQuantParams", "repeated"),
)
_FIELDS = {"TidlTensorQuantParams": _TENSOR, "TidlLayerQuantParams": _LAYER, "TidlNetQuantParams": _NET}
_ENUMS: dict[str, type[QuantType | CalibType]] = {"TidlQuantType": QuantType, "TidlCalibType": CalibType}
_SENTINELS = ("FLT_MIN", "FLT_MAX")


def parse(text: str, place: str) -> NetParams:
    """Read the text form.

    Raises:
        ModelError: with line and column, when the text is none.
    """
    message = _message()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise _failed(error, text, place) from error
    except (RecursionError, ValueError, OverflowError) as error:
        raise ModelError(f"is no quantization proto: {error}", place=place) from error
    return _net(message)


def read(path: Path) -> NetParams:
    """Read a file.

    Raises:
        ModelError: when it cannot be read or is no such file.
    """
    try:
        if path.stat().st_size > LIMIT:
            raise ModelError(f"is larger than {LIMIT >> 20} MiB: no quantization proto", place=str(path))
        text = path.read_text("utf-8")
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", place=str(path)) from error
    except UnicodeDecodeError as error:
        raise ModelError("is no text", place=str(path), hint="the proto is in text form") from error
    return parse(text, str(path))


def print_net(net: NetParams) -> str:
    """The text form; equal records give equal text, and numbers come back as they were."""
    lines = [
        f"num_layers: {net.num_layers}",
        f"quant_type: {net.quant_type.name}",
        f"calib_type: {net.calib_type.name}",
    ]
    for layer in net.layers:
        lines += [
            "layers {",
            f"  layer_name: {_quoted(layer.layer_name)}",
            f"  layer_type: {_quoted(layer.layer_type)}",
            f"  bit_depth: {layer.bit_depth}",
        ]
        for field in ("outputs", "weights", "bias", "slope"):
            for tensor in getattr(layer, field):
                lines += [f"  {field} {{", *(f"    {line}" for line in _tensor_lines(tensor)), "  }"]
        lines.append("}")
    return "\n".join(lines) + "\n"


def _tensor_lines(tensor: TensorParams) -> list[str]:
    return [
        f"min: {_float32(tensor.min)}",
        f"max: {_float32(tensor.max)}",
        f"size: {tensor.size}",
        f"element_type: {tensor.element_type}",
        *(f"scale: {entry!r}" for entry in tensor.scale),
        *(f"zero_point: {entry}" for entry in tensor.zero_point),
        *(f"value: {entry!r}" for entry in tensor.value),
    ]


def _float32(number: float) -> str:
    return str(np.float32(number)) if math.isfinite(number) else repr(float(number))


def _quoted(text: str) -> str:
    # Escapes of JSON are among those of the text form, but for those of characters beyond ASCII.
    return json.dumps(text, ensure_ascii=False)


def _failed(error: text_format.ParseError, text: str, place: str) -> ModelError:
    line, column = error.GetLine(), error.GetColumn()
    where = f"{place}:{line}:{column}" if line else place
    what = re.sub(r"^\d+:\d+ : ", "", str(error))
    shown = text.splitlines()[line - 1] if line and line <= text.count("\n") + 1 else ""
    if any(word in shown for word in _SENTINELS):
        return ModelError(
            f"{shown.strip()!r} is no number: it stands for a tensor that was not calibrated",
            place=where,
            hint="calibrate anew, or write the range as numbers",
        )
    unknown = re.search(r'has no field named "([^"]*)"', what)
    known = {name for fields in _FIELDS.values() for name, *_ in fields}
    hint = nearest(unknown[1].rpartition(".")[2], known) if unknown else "the proto is in text form"
    return ModelError(f"is no quantization proto: {what}", place=where, hint=hint)


# --- messages ---


@functools.cache
def _message_class() -> type[Any]:
    file = descriptor_pb2.FileDescriptorProto(name="lowtide_tidl_quant_params.proto", syntax="proto2")
    file.package = "lowtide_tidl"
    for enum_name, kind in _ENUMS.items():
        made = file.enum_type.add(name=enum_name)
        for entry in kind:
            made.value.add(name=entry.name, number=int(entry))
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind_name, label in fields:
            _add_field(message, field, number, kind_name, label)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName("lowtide_tidl.TidlNetQuantParams")
    return message_factory.GetMessageClass(descriptor)


def _add_field(message: Any, name: str, number: int, kind: str, label: str) -> None:
    types = descriptor_pb2.FieldDescriptorProto
    field = message.field.add(name=name, number=number)
    field.label = types.LABEL_REPEATED if label == "repeated" else types.LABEL_OPTIONAL
    if kind in _FIELDS:
        field.type, field.type_name = types.TYPE_MESSAGE, f".lowtide_tidl.{kind}"
    elif kind in _ENUMS:
        field.type, field.type_name = types.TYPE_ENUM, f".lowtide_tidl.{kind}"
        field.default_value = "SYMMETRIC" if kind == "TidlQuantType" else "PERTENSOR"
    else:
        field.type = getattr(types, f"TYPE_{kind.upper()}")
        if label == "repeated":
            field.options.packed = True
    defaults = {"min": str(-LARGEST), "max": str(LARGEST), "bit_depth": "8"}
    if name in defaults:
        field.default_value = defaults[name]


def _message() -> Any:
    return _message_class()()


def _net(message: Any) -> NetParams:
    return NetParams(
        num_layers=int(message.num_layers),
        quant_type=QuantType(message.quant_type),
        calib_type=CalibType(message.calib_type),
        layers=tuple(_layer(layer) for layer in message.layers),
    )


def _layer(message: Any) -> LayerParams:
    return LayerParams(
        layer_name=str(message.layer_name),
        layer_type=str(message.layer_type),
        bit_depth=int(message.bit_depth),
        outputs=tuple(map(_tensor, message.outputs)),
        weights=tuple(map(_tensor, message.weights)),
        bias=tuple(map(_tensor, message.bias)),
        slope=tuple(map(_tensor, message.slope)),
    )


def _tensor(message: Any) -> TensorParams:
    return TensorParams(
        min=float(message.min),
        max=float(message.max),
        size=int(message.size),
        element_type=int(message.element_type),
        scale=tuple(map(float, message.scale)),
        zero_point=tuple(map(int, message.zero_point)),
        value=tuple(map(float, message.value)),
    )
