"""Nodes that change nothing."""

from __future__ import annotations

from typing import ClassVar

import attrs

from lowtide.ir import Graph, Node, Value
from lowtide.passes import Pass, PassContext, PassOutcome
from lowtide_plugins.passes.facts import bounds, is_nonnegative
from lowtide_plugins.passes.rewrite import Tally, array_of, bypass, ints_of, same_static_shape

RESHAPES = frozenset({"Expand", "Flatten", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that keep elements and their order as long as the number of elements stays."""


@attrs.frozen(kw_only=True)
class RemoveIdentity(Pass):
    """Removes nodes whose result is one of their operands.

    Precondition: shapes are inferred, else changes of shape are taken to change something. Effect: Identity,
    Dropout in inference, Cast to the same dtype, Reshape, Flatten, Squeeze, Unsqueeze, Expand, Slice, Resize,
    Tile, Pad, Transpose, Concat, Sum, Max, Min, Mean and pools that do nothing, Add of zeros, Mul by ones and
    clamps of what is within the limits go. The name of the operand survives, but for results of the network,
    whose name moves to their producer. It refuses nodes between two names that the network must keep.
    """

    name: ClassVar[str] = "remove-identity"

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:  # noqa: ARG002 - the graph says it all
        """See `Pass.run`."""
        tally = Tally()
        for node in graph:
            source = unchanged(graph, node)
            if source is not None and bypass(graph, node, source, tally):
                tally.count("removed")
        return tally.outcome()


def unchanged(graph: Graph, node: Node) -> Value | None:
    """The operand that the result equals, ``None`` when it equals none as far as is known."""
    if any(value.uses or graph.is_output(value) for value in node.outputs[1:]):
        return None
    first = node.operand(0)
    if node.op in {"Add", "Sub", "Mul", "Div"}:
        return _neutral(node)
    return first if first is not None and not first.is_constant and _keeps(node, first) else None


def _keeps(node: Node, first: Value) -> bool:
    same_shape = same_static_shape(first.type, node.output.type)
    match node.op:
        case "Identity":
            return True
        case "Dropout":
            return node.operand(2) is None or not _is_true(node.operand(2))
        case "Cast" | "CastLike":
            return first.type.dtype == node.output.type.dtype and _is_cast_known(node, first)
        case op if op in RESHAPES:
            return same_shape
        case "Slice":
            steps = (1,) if node.operand(4) is None else ints_of(node.operand(4))
            return same_shape and steps is not None and min(steps) > 0
        case "Resize":
            return same_shape and _is_unit_resize(node)
        case "Tile":
            repeats = ints_of(node.operand(1))
            return repeats is not None and set(repeats) <= {1}
        case "Pad":
            pads = ints_of(node.operand(1))
            return pads is not None and not any(pads)
        case "Transpose":
            rank = first.type.rank
            order = tuple(range(rank or 0))
            return rank is not None and node.ints_attribute("perm", order[::-1]) == order
        case "Concat" | "Sum" | "Max" | "Min" | "Mean" if len(node.inputs) == 1:
            return True
        case "MaxPool" | "AveragePool" | "LpPool":
            return _is_unit_pool(node)
        case "Relu" | "Clip":
            return _is_idle_clamp(node, first)
        case _:
            return False


def _is_true(value: Value | None) -> bool:
    data = array_of(value)
    return data is None or bool(data.any())


def _is_cast_known(node: Node, first: Value) -> bool:
    return node.op == "CastLike" or node.int_attribute("to", -1) == first.type.dtype.onnx


def _is_unit_resize(node: Node) -> bool:
    if node.str_attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return False
    scales = array_of(node.operand(2))
    # A scale beside 1 may give the same number of samples, but not the same samples.
    return node.operand(2) is None or (scales is not None and bool((scales == 1).all()))


def _is_unit_pool(node: Node) -> bool:
    kernel, strides = node.ints_attribute("kernel_shape"), node.ints_attribute("strides")
    pads = node.ints_attribute("pads")
    return set(kernel) == {1} and set(strides) <= {1} and not any(pads)


def _is_idle_clamp(node: Node, first: Value) -> bool:
    limits = bounds(node)
    if limits is None:
        return False
    low, high = limits
    maker = first.producer
    earlier = bounds(maker) if maker is not None else None
    if earlier is not None and low <= earlier[0] and earlier[1] <= high:
        return True
    return low <= 0 and high == float("inf") and (low == -high or is_nonnegative(first))


def _neutral(node: Node) -> Value | None:
    for operand in (0, 1) if node.op in {"Add", "Mul"} else (0,):
        value, data = node.operand(operand), array_of(node.operand(1 - operand))
        if (
            value is None
            or value.is_constant
            or data is None
            or not same_static_shape(value.type, node.output.type)
        ):
            continue
        if bool((data == (0 if node.op in {"Add", "Sub"} else 1)).all()):
            return value
    return None
