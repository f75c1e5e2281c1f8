"""Graph to text. `lowtide.ir.parser` reads it back to an equal graph.

graph "net" {
  input %x: float32[1, 3, 8, 8]
  const %w: float32[4, 3, 1, 1] ~ int8(scale=0.5) = sha256:…
  %y: float32[1, 4, 8, 8] = Conv(%x, %w, _) {strides=[1, 1]} layer "z" at "m.onnx" nodes "conv1" tensors "y"
  return %y
}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, cast

import numpy as np

from lowtide.ir.constant import Array, Constant
from lowtide.ir.graph import Graph
from lowtide.ir.node import AttributeValue, Node, Value
from lowtide.ir.types import QuantParams, TensorType

INLINE_LIMIT = 64
"""Constants with more elements are printed by digest, unless all their elements are equal."""

PLAIN_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_./:\-]*[A-Za-z0-9_./\-])?")
"""Names that need no quotes; one that ends in a colon does, since its type follows after a colon."""


def print_graph(graph: Graph) -> str:
    """The text form, one line a value, with a line break at the end."""
    lines = [f"graph {_quoted(graph.name)} {{"]
    lines += [f"  input {_name(value)}: {print_type(value.type)}" for value in graph.inputs]
    lines += [
        f"  const {_name(value)}: {print_type(value.type)} = {_data(value)}" for value in graph.constants
    ]
    lines += [f"  {_node(node)}" for node in graph]
    lines += [f"  return {', '.join(_name(value) for value in graph.outputs)}".rstrip(), "}"]
    return "\n".join(lines) + "\n"


def print_type(type: TensorType) -> str:  # noqa: A002 - the word of the domain
    """For instance ``float32[1, 3, ?, ?] ~ uint8(scale=0.5, zero=128)``; an unknown rank is ``[*]``."""
    shape = "*" if type.shape is None else ", ".join("?" if dim is None else str(dim) for dim in type.shape)
    quant = f" ~ {_quant(type.quant)}" if type.quant else ""
    return f"{type.dtype.value}[{shape}]{quant}"


def _quant(quant: QuantParams) -> str:
    def several(entries: Iterable[float]) -> str:
        texts = [repr(entry) for entry in entries]
        return texts[0] if quant.axis is None else f"[{', '.join(texts)}]"

    parts = [f"scale={several(quant.scale)}"]
    if not quant.is_symmetric:
        parts.append(f"zero={several(quant.zero_point)}")
    if quant.axis is not None:
        parts.append(f"axis={quant.axis}")
    return f"{quant.dtype.value}({', '.join(parts)})"


def _node(node: Node) -> str:
    results = ", ".join(f"{_name(value)}: {print_type(value.type)}" for value in node.outputs)
    operands = ", ".join("_" if value is None else _name(value) for value in node.inputs)
    text = f"{results} = {node.op}({operands})"
    if node.attributes:
        pairs = [f"{key}={_attribute(value)}" for key, value in sorted(node.attributes.items())]
        text += f" {{{', '.join(pairs)}}}"
    if node.name != node.output.name:
        text += f" name {_quoted(node.name)}"
    if node.layer:
        text += f" layer {_quoted(node.layer)}"
    location = node.location
    if location.model:
        text += f" at {_quoted(location.model)}"
    if location.nodes:
        text += f" nodes {', '.join(_quoted(name) for name in location.nodes)}"
    if location.tensors:
        text += f" tensors {', '.join(_quoted(name) for name in location.tensors)}"
    return text


def _attribute(value: AttributeValue) -> str:
    match value:
        case str():
            return _quoted(value)
        case Constant():
            return f"{value.dtype.value}[{', '.join(str(dim) for dim in value.shape)}] {constant_text(value)}"
        case tuple():
            return f"[{', '.join(_attribute(entry) for entry in value)}]"
        case _:
            return repr(value)


def _data(value: Value) -> str:
    assert value.constant is not None  # noqa: S101 - the caller lists constants
    return constant_text(value.constant)


def constant_text(constant: Constant) -> str:
    """Elements in brackets, ``fill(x)`` when all are equal, or the digest."""
    if not constant.has_data:
        return f"sha256:{constant.digest()}"
    if constant.size > INLINE_LIMIT:
        data = constant.array().ravel()
        # One comparison of the ends spares most large arrays the full scan.
        if _same(data[0], data[-1]) and _uniform(data):
            return f"fill({element_text(data[0])})"
        return f"sha256:{constant.digest()}"
    return f"[{', '.join(element_text(entry) for entry in constant.array().ravel())}]"


def element_text(entry: np.generic[Any]) -> str:
    """The shortest text that reads back as the same bits of the same dtype; NaN payloads are not kept."""
    if isinstance(entry, np.floating):
        # The shortest digits for this width, in the notation of Python's float.
        return repr(float(np.format_float_scientific(cast("float", entry), unique=True)))
    value = entry.item()
    return str(value).lower() if isinstance(value, bool) else str(value)


def _same(first: np.generic[Any], last: np.generic[Any]) -> bool:
    return first.tobytes() == last.tobytes()


def _uniform(data: Array) -> bool:
    raw = data.view(np.uint8).reshape(data.size, -1)
    return bool((raw == raw[0]).all())


def _name(value: Value) -> str:
    return f"%{value.name}" if PLAIN_NAME.fullmatch(value.name) else f"%{_quoted(value.name)}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
