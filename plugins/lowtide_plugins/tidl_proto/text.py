"""Text form of the proto: read with protobuf, written so that every number comes back as it was."""

from __future__ import annotations

import json
import math
import re
import warnings
from pathlib import Path

import numpy as np
from google.protobuf import text_format

from lowtide.errors import ModelError, nearest
from lowtide_plugins.tidl_proto.records import NetParams, TensorParams
from lowtide_plugins.tidl_proto.schema import FIELDS, PACKAGE, new_message, to_records

LIMIT = 64 << 20
"""Bytes; a network of ten thousand layers has a tenth of it. Longer files would keep the parser busy."""

_SENTINEL = re.compile(r"Couldn't parse float: (-?FLT_(?:MIN|MAX))")
_UNKNOWN_FIELD = re.compile(r'Message type "([^"]*)" has no field named "([^"]*)"')


def parse(text: str, place: str) -> NetParams:
    """Read the text form.

    Raises:
        ModelError: with line and column, when the text is none.
    """
    message = new_message()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error"
            )  # an escape that does not exist is only worth a warning to protobuf
            text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise _failed(error, text, place) from error
    except (RecursionError, ValueError, OverflowError, Warning) as error:
        raise ModelError(f"is no quantization proto: {error}", place=place) from error
    return to_records(message)


def read(path: Path) -> NetParams:
    """Read a file.

    Raises:
        ModelError: when it cannot be read or is no such file.
    """
    try:
        if path.exists() and not path.is_file():
            raise ModelError("is no file", place=str(path), hint="name a file in text form")
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
    """The fewest digits that give this float32 back."""
    return str(np.float32(number)) if math.isfinite(number) else repr(float(number))


def _quoted(text: str) -> str:
    # Escapes of JSON are among those of the text form, but for those of characters beyond ASCII.
    return json.dumps(text, ensure_ascii=False)


def _failed(error: text_format.ParseError, text: str, place: str) -> ModelError:
    line, column = error.GetLine(), error.GetColumn()
    where = f"{place}:{line}:{column}" if line else place
    what = re.sub(r"^\d+:\d+ : ", "", str(error)).replace(f"{PACKAGE}.", "")
    sentinel = _SENTINEL.search(what)
    if sentinel is not None:
        field = _line(text, line).partition(":")[0].strip()
        return ModelError(
            f"{field} is {sentinel[1]}, which is no number: the tensor was not calibrated",
            place=where,
            hint="calibrate anew, or write the range as numbers",
        )
    unknown = _UNKNOWN_FIELD.search(what)
    fields = FIELDS.get(unknown[1], ()) if unknown else ()
    hint = nearest(unknown[2], [name for name, *_ in fields]) if unknown else "the proto is in text form"
    return ModelError(f"is no quantization proto: {what}", place=where, hint=hint)


def _line(text: str, number: int | None) -> str:
    r"""A line as protobuf counts them, which knows no other ends of lines than ``\\n``."""
    lines = text.split("\n")
    return lines[number - 1] if number is not None and 0 < number <= len(lines) else ""
