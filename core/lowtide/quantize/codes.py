"""Networks that are quantized already: whether one is, what its codes mean, and how to take them off."""

from __future__ import annotations

import attrs

from lowtide.ir import Constant, DType, Graph, QuantParams, Value
from lowtide.runtime import dequantize


def quantized_activations(graph: Graph) -> tuple[Value, ...]:
    """The activations that have codes, inputs first."""
    made = (*graph.inputs, *(value for node in graph for value in node.outputs))
    return tuple(value for value in made if value.type.quant is not None)


def remove_codes(graph: Graph) -> None:
    """Make the graph float in place: quantized constants become the numbers that their codes stand for.

    Nodes that convert between numbers and integers at the ends of a network stay.
    """
    for value in quantized_activations(graph):
        graph.retype(value, value.type.with_quant(None))
    for value in graph.constants:
        quant = value.type.quant
        if quant is not None and value.constant is not None:
            graph.set_constant(value, Constant.of(dequantize(value.constant.array(), quant)))


def same_numbers(first: QuantParams, second: QuantParams) -> bool:
    """Whether the codes of both stand for the same real numbers, be they signed or unsigned."""
    if first.bits != second.bits or first.scale != second.scale or first.axis != second.axis:
        return False
    pairs = zip(first.zero_point, second.zero_point, strict=True)
    return all(mine - first.dtype.min == theirs - second.dtype.min for mine, theirs in pairs)


def with_sign(quant: QuantParams, *, signed: bool) -> QuantParams:
    """The same real numbers as signed or unsigned codes: both move by 2^(b-1)."""
    if quant.dtype.signed is signed:
        return quant
    dtype = DType(f"{'int' if signed else 'uint'}{quant.bits}")
    shift = dtype.min - quant.dtype.min
    return attrs.evolve(quant, dtype=dtype, zero_point=tuple(zero + shift for zero in quant.zero_point))


def constant_with_sign(graph: Graph, value: Value, *, signed: bool) -> None:
    """Store a constant's codes signed or unsigned; the numbers that they stand for stay."""
    quant = value.type.quant
    if quant is None or value.constant is None or quant.dtype.signed is signed:
        return
    made = with_sign(quant, signed=signed)
    moved = value.constant.array().astype("int32") + (made.dtype.min - quant.dtype.min)
    graph.set_constant(value, Constant.of(moved.astype(made.dtype.numpy)), value.type.with_quant(made))
