"""Where a placed network changes sides, and what that moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import attrs

from lowtide.ir import Layer
from lowtide.target.place import Placement


@attrs.frozen
class Border:
    """A tensor that crosses between accelerator and host, or between two parts of the accelerator.

    Attributes:
        reader: the first layer that reads it on the other side; empty for an output of the network.
        elements: of one frame; ``None`` where only a run tells.
    """

    tensor: str
    to: Literal["host", "accelerator"]
    reader: str
    elements: int | None


def borders(found: Sequence[Layer], placement: Placement) -> tuple[Border, ...]:
    """The tensors that layers of one side make and layers of the other side read, in executable order."""
    maker = {value: layer for layer in found for value in layer.outputs}
    crossing: dict[tuple[str, str], Border] = {}
    for layer in found:
        mine = placement.of(layer.name)
        for value in layer.inputs:
            source = maker.get(value)
            if source is None:
                continue
            theirs = placement.of(source.name)
            if mine.subgraph == theirs.subgraph and mine.device == theirs.device:
                continue
            elements = math.prod(value.type.static_shape) if value.type.is_static else None
            crossing.setdefault(
                (value.name, mine.device), Border(value.name, mine.device, layer.name, elements)
            )
    return tuple(crossing.values())
