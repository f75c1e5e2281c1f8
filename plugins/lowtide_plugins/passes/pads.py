"""Padding into the nodes that pad themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs
import numpy as np

from lowtide.ir import Graph, Node
from lowtide.passes import Pass, PassContext, PassOutcome
from lowtide_plugins.passes.facts import is_nonnegative
from lowtide_plugins.passes.rewrite import Tally, absorb_before, array_of, ints_of, obstacle, write_constant

TAKERS = frozenset({"AveragePool", "Conv", "MaxPool", "Pad"})
"""Operators that can take padding over."""


@attrs.frozen
class Padding:
    """A Pad of one number.

    Attributes:
        begins: elements in front, one entry for each axis.
        ends: elements behind, likewise.
        value: the number.
    """

    begins: tuple[int, ...]
    ends: tuple[int, ...]
    value: float

    @property
    def is_spatial(self) -> bool:
        """Whether batch and channels are left alone."""
        return not any((*self.begins[:2], *self.ends[:2]))

    @property
    def spatial(self) -> tuple[int, ...]:
        """As the attribute ``pads`` of convolutions and pools has it: all begins, then all ends."""
        return self.begins[2:] + self.ends[2:]


@attrs.frozen(kw_only=True)
class MergePads(Pass):
    """Moves a Pad of constants into the Conv, MaxPool, AveragePool or Pad behind it.

    Precondition: padding of convolutions and pools is explicit (see ``decompose``). Effect: a Conv takes
    zeros. A MaxPool takes -infinity or the lowest float, and zeros where its operand cannot be negative. An
    AveragePool takes zeros and counts them from then on, where it had no padding of its own or counted that
    already. Two Pads of the same number become one. It refuses padding of batch or channels, negative
    padding, another number, several readers, `auto_pad`, `ceil_mode` and pools that would pad as much as
    their window is wide.
    """

    name: ClassVar[str] = "merge-pads"

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:  # noqa: ARG002 - the graph says it all
        """See `Pass.run`."""
        tally = Tally()
        for node in graph:
            reader = _reader(node) if node.op == "Pad" else None
            if reader is None:
                continue
            reason = _merge(graph, node, reader)
            if reason is None:
                tally.count("merged")
            else:
                tally.refuse(node, reason)
        return tally.outcome()


def _reader(node: Node) -> Node | None:
    takers = [use.node for use in node.output.uses if use.node.op in TAKERS and use.operand == 0]
    return takers[0] if takers else None


def _merge(graph: Graph, node: Node, reader: Node) -> str | None:
    reason = obstacle(graph, node, reader)
    if reason is not None:
        return reason
    padding = padding_of(node)
    if isinstance(padding, str):
        return padding
    if reader.op == "Pad":
        return _join(graph, node, padding, reader)
    reason = _objection(node, padding, reader)
    if reason is not None:
        return reason
    own = reader.ints_attribute("pads", (0,) * len(padding.spatial))
    pads = tuple(a + b for a, b in zip(own, padding.spatial, strict=True))
    if reader.op != "Conv" and not _windows_reach_inside(reader, pads):
        return f"{reader.place} would have windows of padding alone; its kernel would have to be larger."
    graph.set_attribute(reader, "pads", pads)
    graph.set_attribute(reader, "auto_pad", None)
    if reader.op == "AveragePool":
        graph.set_attribute(reader, "count_include_pad", 1)
    absorb_before(graph, node, 0, reader)
    return None


def _join(graph: Graph, node: Node, padding: Padding, reader: Node) -> str | None:
    second = padding_of(reader)
    if isinstance(second, str):
        return second
    if padding.value != second.value:
        return f"{reader.place} pads with {second.value}; it would have to pad with {padding.value} too."
    pairs = (*zip(padding.begins, second.begins, strict=True), *zip(padding.ends, second.ends, strict=True))
    data = np.array([first + later for first, later in pairs], np.int64)
    write_constant(graph, reader, 1, data, f"{reader.output.name}_pads")
    graph.set_input(reader, 3, None)
    absorb_before(graph, node, 0, reader)
    return None


def _objection(node: Node, padding: Padding, reader: Node) -> str | None:
    if not padding.is_spatial:
        return f"it pads batch or channels; {reader.place} pads height and width only."
    if reader.str_attribute("auto_pad", "NOTSET") not in {"NOTSET", "VALID"}:
        return f"{reader.place} computes its padding; it would have to be explicit."
    if reader.op != "Conv" and reader.int_attribute("ceil_mode", 0):
        return f"{reader.place} rounds its size up, so its padding has no fixed end; ceil_mode has to be 0."
    own = any(reader.ints_attribute("pads"))
    if reader.op == "MaxPool":
        below = padding.value <= np.finfo(np.float32).min
        idle = padding.value == 0 and is_nonnegative(node.value(0))
        if below or idle:
            return None
        return f"{reader.place} pads with -infinity; this would have to, or with 0 and no negative operand."
    if padding.value != 0:
        return f"{reader.place} pads with zeros, this with {padding.value}."
    if reader.op == "AveragePool" and own and not reader.int_attribute("count_include_pad", 0):
        return f"{reader.place} does not count its own padding, but would have to count this."
    return None


def _windows_reach_inside(reader: Node, pads: Sequence[int]) -> bool:
    kernel = reader.ints_attribute("kernel_shape")
    half = len(pads) // 2
    edges = zip(pads[:half], pads[half:], kernel, strict=True)
    return all(max(begin, end) < width for begin, end, width in edges)


def padding_of(node: Node) -> Padding | str:
    """What a Pad adds, or why it is not a padding with one known number.

    Source: ONNX operator Pad, opset 21.
    """
    if node.str_attribute("mode", "constant") != "constant":
        return f"its mode is {node.str_attribute('mode', '')}; it would have to be constant."
    rank, given, axes = node.value(0).type.rank, ints_of(node.operand(1)), ints_of(node.operand(3))
    if rank is None or given is None or (node.operand(3) is not None and axes is None):
        return "its rank, pads and axes would have to be known."
    number = array_of(node.operand(2))
    if not node.output.type.dtype.is_float or (node.operand(2) is not None and number is None):
        return "it would have to pad a float tensor with a constant."
    if min(given, default=0) < 0:
        return "it cuts off elements; its pads would have to be positive."
    chosen = tuple(axis % rank for axis in axes) if axes is not None else tuple(range(rank))
    begins, ends = [0] * rank, [0] * rank
    for position, axis in enumerate(chosen):
        begins[axis], ends[axis] = given[position], given[position + len(chosen)]
    return Padding(tuple(begins), tuple(ends), 0.0 if number is None else float(number.ravel()[0]))
