"""The message format of the proto as a protobuf schema, built here.

Source: the vendor's published description: names, numbers and types of the fields, and their defaults.
"""

from __future__ import annotations

import functools
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from lowtide_plugins.tidl_proto.records import (
    LARGEST,
    CalibType,
    LayerParams,
    NetParams,
    QuantType,
    TensorParams,
)

PACKAGE = "lowtide_tidl"

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
FIELDS = {"TidlTensorQuantParams": _TENSOR, "TidlLayerQuantParams": _LAYER, "TidlNetQuantParams": _NET}
_ENUMS: dict[str, type[QuantType | CalibType]] = {"TidlQuantType": QuantType, "TidlCalibType": CalibType}


@functools.cache
def _message_class() -> type[Any]:
    file = descriptor_pb2.FileDescriptorProto(name="lowtide_tidl_quant_params.proto", syntax="proto2")
    file.package = PACKAGE
    for enum_name, kind in _ENUMS.items():
        made = file.enum_type.add(name=enum_name)
        for entry in kind:
            made.value.add(name=entry.name, number=int(entry))
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind_name, label in fields:
            _add_field(message, field, number, kind_name, label)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName(f"{PACKAGE}.TidlNetQuantParams")
    return message_factory.GetMessageClass(descriptor)


def _add_field(message: Any, name: str, number: int, kind: str, label: str) -> None:
    types = descriptor_pb2.FieldDescriptorProto
    field = message.field.add(name=name, number=number)
    field.label = types.LABEL_REPEATED if label == "repeated" else types.LABEL_OPTIONAL
    if kind in FIELDS:
        field.type, field.type_name = types.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    elif kind in _ENUMS:
        field.type, field.type_name = types.TYPE_ENUM, f".{PACKAGE}.{kind}"
        field.default_value = "SYMMETRIC" if kind == "TidlQuantType" else "PERTENSOR"
    else:
        field.type = getattr(types, f"TYPE_{kind.upper()}")
        if label == "repeated":
            field.options.packed = True
    defaults = {"min": str(-LARGEST), "max": str(LARGEST), "bit_depth": "8"}
    if name in defaults:
        field.default_value = defaults[name]


def new_message() -> Any:
    """An empty ``TidlNetQuantParams``."""
    return _message_class()()


def to_records(message: Any) -> NetParams:
    """What a ``TidlNetQuantParams`` says."""
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
