"""Functions of codes as nodes: a table where codes have eight bits, a Python step where they have more."""

from __future__ import annotations

import numpy as np
import onnx

from lowtide.exact.builder import Builder, limits
from lowtide.exact.codes import Binary, Unary
from lowtide.ir import Array, QuantParams

TABLE_BITS = 8


def apply_unary(b: Builder, function: Unary, source: str, quant: QuantParams) -> str:
    """The function of every code of a tensor."""
    if quant.bits > TABLE_BITS:

        def compute(codes: Array) -> Array:
            return _floats(function(_integers(codes)))

        return b.step(compute, source)
    return _look_up(b, function(_all_codes(quant)), source)


def apply_binary(
    b: Builder,
    function: Binary,
    sources: tuple[str, str],
    quants: tuple[QuantParams, QuantParams],
    planes: int = 0,
) -> str:
    """The function of two tensors that broadcast; `planes` as for `Builder.codes_from`."""
    if max(quant.bits for quant in quants) > TABLE_BITS:

        def compute(first: Array, second: Array) -> Array:
            return _floats(function(_integers(first), _integers(second)))

        return b.step(compute, *sources)
    rows, columns = map(_all_codes, quants)
    count = columns.size
    table = np.empty(rows.size * count, np.int64)
    first, second = np.meshgrid(rows, columns, indexing="ij")
    table[first * count + second] = function(first, second)
    row = b.planes(sources[0], planes, count) if planes else b.node("Mul", [sources[0], b.constant(count)])
    return _look_up(b, table, b.node("Add", [row, sources[1]]))


def _all_codes(quant: QuantParams) -> Array:
    """The codes less the zero point in the order of a table: negative indices count from its end."""
    low, high = limits(quant)
    return np.concatenate([np.arange(high + 1), np.arange(low, 0)])


def _look_up(b: Builder, table: Array, index: str) -> str:
    """Entries of a table; ONNX Runtime copies single ones faster by GatherElements than by Gather."""
    whole = b.node("Cast", [index], {"to": onnx.TensorProto.INT32})
    flat = b.node("Reshape", [whole, b.constant(np.array([-1]), np.int64)])
    found = b.node("GatherElements", [b.constant(table), flat], {"axis": 0})
    return b.node("Reshape", [found, b.node("Shape", [index])])


def _integers(codes: Array) -> Array:
    return np.rint(codes).astype(np.int64)


def _floats(codes: Array) -> Array:
    return codes.astype(np.float32)
