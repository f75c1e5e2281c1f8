"""The ends of detection and segmentation networks: heads, and what is computed from their numbers.

Decoding boxes mixes numbers of very different size (priors, strides, exponentials) in one tensor, which
8 bits cannot hold; so it stays in float on the host. It is found by its constants, one number for each
position and coordinate, or by a NonMaxSuppression, or named by the vendor's file of the detection head. Boxes
and scores that are put into one tensor at the end share a scale there, so that is done on the host too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import attrs

from lowtide.ir import Layer, Value

MACS = frozenset({"Conv", "ConvTranspose", "DeformConv", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "Einsum"})
"""What learned layers are made of: behind the last of them stands the tail."""

ARITHMETIC = frozenset({"Add", "Clip", "Div", "Exp", "Mul", "Pow", "Sigmoid", "Sub"})
PARTS = frozenset({"Gather", "GatherElements", "GatherND", "Slice", "Split"})
"""Operators that pick coordinates; they go along with what is computed from these."""

MOVES = frozenset(
    {"Concat", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
    | {"DequantizeLinear", "QuantizeLinear"}
)
SCORES = frozenset({"ArgMax", "LogSoftmax", "Sigmoid", "Softmax"})

GRID = 64
"""Constants with fewer elements than this are no priors and no grid of positions."""


@attrs.frozen
class Head:
    """A layer whose numbers an output, or the decoding of boxes, gives on.

    Attributes:
        kind: ``regression`` for numbers, ``scores`` where probabilities or an index are made of them.
    """

    layer: str
    kind: Literal["regression", "scores"]


def post_processing(found: Sequence[Layer], named: Iterable[str] = ()) -> dict[str, str]:
    """The layers that decode boxes or join them with scores, each with how that was seen.

    Args:
        found: all layers.
        named: tensors that the vendor's file names as outputs of heads; all that is computed from them is
            post-processing.
    """
    graph = _Layers(found)
    tail = graph.tail()
    given = set(named)
    found_by: dict[str, str] = {}
    for layer in found:
        if layer.name in tail and any(value.name in given for value in layer.inputs):
            found_by |= dict.fromkeys(
                graph.behind(layer, tail), "the file of the detection head names its input"
            )
    for layer in found:
        if layer.name in tail and graph.joins_kinds(layer):
            why = "Concat of boxes and scores: one scale serves both badly"
            found_by |= dict.fromkeys(graph.behind(layer, tail) - set(found_by), why)
    for layer in found:
        if layer.name in tail and (why := _decodes(layer)) and graph.has_head(layer):
            region = {*graph.behind(layer, tail), *graph.before(layer, tail)}
            found_by |= dict.fromkeys(region - set(found_by), why)
    return {layer.name: found_by[layer.name] for layer in found if layer.name in found_by}


def followers(found: Sequence[Layer], refused: Iterable[str]) -> tuple[str, ...]:
    """Moves and scores at the end of the network whose operands all are made on the host.

    To bring such a tensor back to the accelerator costs more than to go on with it.
    """
    graph = _Layers(found)
    learned, host = graph.learned(), set(refused)
    moved: list[str] = []
    for layer in found:
        sources = graph.sources(layer)
        passes = layer.op in MOVES | SCORES and layer.name not in learned | host
        if passes and sources and all(source.name in host for source in sources) and graph.has_head(layer):
            host.add(layer.name)
            moved.append(layer.name)
    return tuple(moved)


def heads(found: Sequence[Layer], decoding: Iterable[str], named: Mapping[str, str]) -> tuple[Head, ...]:
    """The heads of a detection network, in executable order; none where there is but one position.

    Args:
        found: all layers.
        decoding: names of the layers that decode boxes.
        named: kinds of tensors that the vendor's file names, by name.
    """
    graph, inside = _Layers(found), set(decoding)
    learned = graph.learned()
    kinds: dict[str, Literal["regression", "scores"]] = {}
    for layer in found:
        last = layer.op in MACS and not any(reader.name in learned for reader in graph.after(layer))
        if not last or not _positions(layer.output):
            continue
        kind = graph.kind(layer, inside, named)
        if kind is not None:
            kinds[layer.name] = kind
    return tuple(Head(name, kind) for name, kind in kinds.items())


def _decodes(layer: Layer) -> str:
    for node in layer.nodes:
        if node.op == "NonMaxSuppression":
            return "it selects boxes"
        if node.op in {"Add", "Sub", "Mul", "Div"}:
            for value in node.inputs:
                if value is not None and value.is_constant and _is_grid(value):
                    return f"{node.op} with a number for each position: priors or a grid"
    return ""


def _is_grid(value: Value) -> bool:
    long = [dim for dim in value.type.static_shape if dim > 1]
    return len(long) > 1 and math.prod(long) >= GRID


def _positions(value: Value) -> bool:
    """Whether there is more than one position, so that outputs are no class scores of a whole picture."""
    shape = value.type.shape or ()
    return any((dim or 2) > 1 for dim in shape[2:])


class _Layers:
    """The layers as a graph."""

    def __init__(self, found: Sequence[Layer]) -> None:
        self.layers = {layer.name: layer for layer in found}
        self.maker = {value: layer for layer in found for value in layer.outputs}
        self.readers: dict[Value, list[Layer]] = {}
        for layer in found:
            for value in layer.inputs:
                self.readers.setdefault(value, []).append(layer)

    def after(self, layer: Layer) -> list[Layer]:
        return [reader for value in layer.outputs for reader in self.readers.get(value, ())]

    def sources(self, layer: Layer) -> list[Layer]:
        return [self.maker[value] for value in layer.inputs if value in self.maker]

    def learned(self) -> frozenset[str]:
        """Layers with weights, and those that lead to one."""
        learned: set[str] = set()
        waiting = [layer for layer in self.layers.values() if any(node.op in MACS for node in layer.nodes)]
        while waiting:
            layer = waiting.pop()
            if layer.name not in learned:
                learned.add(layer.name)
                waiting += self.sources(layer)
        return frozenset(learned)

    def tail(self) -> frozenset[str]:
        """The other layers, where they are float: a network with codes of its own keeps them."""
        learned = self.learned()
        return frozenset(
            name
            for name, layer in self.layers.items()
            if name not in learned and all(value.type.quant is None for value in layer.outputs)
        )

    def behind(self, layer: Layer, tail: frozenset[str]) -> set[str]:
        """A layer and all that is computed from it."""
        seen: set[str] = set()
        waiting = [layer]
        while waiting:
            at = waiting.pop()
            if at.name in tail and at.name not in seen:
                seen.add(at.name)
                waiting += self.after(at)
        return seen

    def before(self, layer: Layer, tail: frozenset[str]) -> set[str]:
        """The arithmetic that leads to a layer, up to where heads are put together."""
        seen: set[str] = set()
        waiting = self.sources(layer)
        while waiting:
            at = waiting.pop()
            if at.name in tail and at.name not in seen and at.op in ARITHMETIC | PARTS:
                seen.add(at.name)
                waiting += self.sources(at)
        return seen

    def joins_kinds(self, layer: Layer) -> bool:
        """Whether a Concat puts numbers straight from a learned layer beside scores made of others."""
        if layer.op != "Concat":
            return False
        kinds: set[bool] = set()
        waiting, seen = self.sources(layer), set[str]()
        while waiting:
            at = waiting.pop()
            if at.name in seen:
                continue
            seen.add(at.name)
            if at.nodes[-1].op in SCORES:
                kinds.add(True)
            elif at.op in MACS:
                kinds.add(False)
            elif at.op in MOVES:
                waiting += self.sources(at)
        return len(kinds) == 2

    def has_head(self, layer: Layer) -> bool:
        """Whether a layer depends on something learned."""
        seen: set[str] = set()
        waiting = [layer]
        while waiting:
            at = waiting.pop()
            if any(node.op in MACS for node in at.nodes):
                return True
            if at.name not in seen:
                seen.add(at.name)
                waiting += self.sources(at)
        return False

    def kind(
        self, layer: Layer, decoding: set[str], named: Mapping[str, str]
    ) -> Literal["regression", "scores"] | None:
        """What becomes of the numbers of a layer that leave through moves alone."""
        seen: set[str] = set()
        waiting = [layer]
        kinds: set[Literal["regression", "scores"]] = set()
        while waiting:
            at = waiting.pop()
            if at.name in seen:
                continue
            seen.add(at.name)
            told = {named[value.name] for value in at.outputs if value.name in named}
            if told:
                kinds.add("scores" if told == {"class"} else "regression")
                continue
            if not self.after(at):
                kinds.add("regression")
            for reader in self.after(at):
                if reader.op in SCORES and reader.name not in decoding:
                    kinds.add("scores")
                elif reader.name in decoding:
                    kinds.add("regression")
                elif reader.op in MOVES | PARTS:
                    waiting.append(reader)
        if len(layer.nodes) > 1 and layer.nodes[-1].op in SCORES:
            return "scores"
        return "scores" if kinds == {"scores"} else "regression" if kinds else None
