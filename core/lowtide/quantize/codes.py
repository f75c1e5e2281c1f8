"""Networks that are quantized already: whether one is, what its codes mean, and how to take them off."""

from __future__ import annotations

import attrs
import numpy as np

from lowtide.ir import Array, Constant, DType, Graph, QuantParams, Value
from lowtide.quantize.clamps import add_clamps, clamps_in_codes
from lowtide.runtime import dequantize
from lowtide.runtime.model import per_axis


def quantized_activations(graph: Graph) -> tuple[Value, ...]:
    """The activations that have codes, inputs first."""
    made = (*graph.inputs, *(value for node in graph for value in node.outputs))
    return tuple(value for value in made if value.type.quant is not None)


def remove_codes(graph: Graph, *, clamped: bool = True) -> None:
    """Make the graph float in place: quantized constants become the numbers that their codes stand for.

    Nodes that convert between numbers and integers at the ends of a network stay.

    Args:
        graph: changed in place.
        clamped: put a Clip where codes clamp at 0 what nothing else does; without, the layers stay what
            they are, for a network that gets its codes again.
    """
    if clamped:
        add_clamps(graph, clamps_in_codes(graph))
    for value in quantized_activations(graph):
        graph.retype(value, value.type.with_quant(None))
    for value in graph.constants:
        if value.type.quant is not None:
            constant_to_float(graph, value)


def constant_to_float(graph: Graph, value: Value) -> None:
    """Store the numbers that a constant's codes stand for; a constant without codes stays."""
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


def steps_of(codes: Array, quant: QuantParams) -> Array:
    """How many steps from zero each code is, int64: code - zero point."""
    zero = per_axis(np.array(quant.zero_point, np.int64), quant, codes.ndim)
    steps: Array = codes.astype(np.int64) - zero
    return steps


def make_symmetric(graph: Graph, value: Value, dtypes: tuple[DType, ...]) -> bool:
    """Store a constant without a zero point, in the first of `dtypes` that has a code for every entry.

    The numbers that the codes stand for stay. Returns False, and changes nothing, when no type has them all.
    """
    quant = value.type.quant
    if quant is None or value.constant is None:
        return False
    steps = steps_of(value.constant.array(), quant)
    low, high = int(steps.min(initial=0)), int(steps.max(initial=0))
    for dtype in dtypes:
        if dtype.min <= low and high <= dtype.max:
            made = QuantParams(dtype, quant.scale, 0, quant.axis)
            graph.set_constant(value, Constant.of(steps.astype(dtype.numpy)), value.type.with_quant(made))
            return True
    return False
