"""Which layers and tensors the proto of a network has."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from lowtide.ir import Graph, Layer, Node, Value, layers
from lowtide.precision import layer_reads
from lowtide.quantize.operands import MacOperands, mac_operands, output_channels
from lowtide.target import Placement, Target

DATA_LAYER = "TIDL_DataLayer"
"""The type of what a part of the network reads from outside."""


@attrs.frozen(eq=False)
class Entry:
    """A layer of the proto.

    Attributes:
        name: of its last tensor, or of the tensor that is read from outside.
        values: the outputs.
        node: the multiply-accumulate node, if there is one, with its operands.
        channels: output channels of that node, 0 without one.
        slope: the slope of a PRelu.
    """

    name: str
    layer_type: str
    values: tuple[Value, ...]
    node: Node | None = None
    operands: MacOperands | None = None
    channels: int = 0
    slope: Value | None = None


def entries(graph: Graph, target: Target, placement: Placement) -> tuple[tuple[Entry, ...], ...]:
    """The entries of every part on the accelerator, in executable order."""
    by_name = {layer.name: layer for layer in layers(graph)}
    parts: list[tuple[Entry, ...]] = []
    for names in placement.subgraphs:
        members = [by_name[name] for name in names if name in by_name]
        parts.append((*_data(members), *(_entry(layer, target) for layer in members)))
    return tuple(parts)


def _data(members: list[Layer]) -> Iterator[Entry]:
    made = {value for layer in members for value in layer.outputs}
    read = dict.fromkeys(value for layer in members for value in layer_reads(layer))
    for value in read:
        if value not in made and not value.is_constant:
            yield Entry(value.name, DATA_LAYER, (value,))


def _entry(layer: Layer, target: Target) -> Entry:
    head = layer.nodes[0]
    operands = mac_operands(head)
    return Entry(
        layer.name,
        target.operators[layer.op].layer_type,
        layer.outputs,
        node=head if operands is not None else None,
        operands=operands,
        channels=output_channels(head, operands) if operands is not None else 0,
        slope=head.value(1) if head.op == "PRelu" else None,
    )
