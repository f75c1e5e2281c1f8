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
    low, high = limits(quant)
    table = function(np.arange(low, high + 1, dtype=np.int64))
    return _look_up(b, table, b.node("Sub", [source, b.constant(low)]))


def apply_binary(
    b: Builder, function: Binary, sources: tuple[str, str], quants: tuple[QuantParams, QuantParams]
) -> str:
    """The function of two tensors that broadcast."""
    if max(quant.bits for quant in quants) > TABLE_BITS:

        def compute(first: Array, second: Array) -> Array:
            return _floats(function(_integers(first), _integers(second)))

        return b.step(compute, *sources)
    ranges = [np.arange(low, high + 1, dtype=np.int64) for low, high in map(limits, quants)]
    table = function(*np.meshgrid(*ranges, indexing="ij"))
    rows = b.node("Mul", [sources[0], b.constant(ranges[1].size)])
    offset = -int(ranges[0][0]) * ranges[1].size - int(ranges[1][0])
    index = b.node("Add", [b.node("Add", [rows, sources[1]]), b.constant(offset)])
    return _look_up(b, table, index)


def _look_up(b: Builder, table: Array, index: str) -> str:
    whole = b.node("Cast", [index], {"to": onnx.TensorProto.INT32})
    return b.node("Gather", [b.constant(table.reshape(-1)), whole])


def _integers(codes: Array) -> Array:
    return np.rint(codes).astype(np.int64)


def _floats(codes: Array) -> Array:
    return codes.astype(np.float32)
