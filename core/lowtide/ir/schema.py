"""The operator vocabulary: ONNX's own schemas at one opset."""

from __future__ import annotations

import functools

import onnx
from onnx.defs import OpSchema

OPSET = 21
"""The opset of every graph in memory: the first with 16-bit QuantizeLinear in the default domain."""


@functools.cache
def schema(op: str) -> OpSchema | None:
    """The schema of an operator of the default domain, ``None`` when ONNX has none at this opset."""
    try:
        found = onnx.defs.get_schema(op, OPSET, "")
    except onnx.defs.SchemaError:
        return None
    return None if found.deprecated else found


@functools.cache
def known_ops() -> frozenset[str]:
    """The names of all operators that a graph may contain."""
    named = {found.name for found in onnx.defs.get_all_schemas_with_history() if found.domain == ""}
    return frozenset(op for op in named if schema(op) is not None)
