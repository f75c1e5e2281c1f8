"""Tensors that must share a width form one class; the class is the unit of every precision decision."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Generic, TypeVar

import attrs

from lowtide.ir import DType, Graph, Layer, Value, layers
from lowtide.quantize.operands import data_operands
from lowtide.target import Placement, Target

K = TypeVar("K", bound=Hashable)


class DisjointSets(Generic[K]):
    """Union-find with deterministic representatives: the first key that was added."""

    def __init__(self) -> None:
        self._parent: dict[K, K] = {}
        self._order: dict[K, int] = {}

    def add(self, key: K) -> None:
        """Make a key known, as a set of its own unless it already is."""
        self._parent.setdefault(key, key)
        self._order.setdefault(key, len(self._order))

    def find(self, key: K) -> K:
        """The representative of the set of a key."""
        self.add(key)
        root = key
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[key] != root:
            self._parent[key], key = root, self._parent[key]
        return root

    def union(self, keys: Iterable[K]) -> None:
        """Put keys into one set."""
        roots = list(dict.fromkeys(self.find(key) for key in keys))
        if not roots:
            return
        first = min(roots, key=lambda root: self._order[root])
        for root in roots:
            self._parent[root] = first

    def sets(self) -> Mapping[K, tuple[K, ...]]:
        """The members of every set by its representative."""
        found: dict[K, list[K]] = {}
        for key in self._parent:
            found.setdefault(self.find(key), []).append(key)
        return {root: tuple(members) for root, members in found.items()}


@attrs.frozen
class PrecisionClass:
    """Tensors of one width.

    Attributes:
        name: that of its first tensor.
        tensors: names of the activations, in order of execution.
        ties: names of the layers that tie them.
    """

    name: str
    tensors: tuple[str, ...]
    ties: tuple[str, ...]


def quantized_values(graph: Graph, target: Target, placement: Placement) -> tuple[Value, ...]:
    """The activations that have codes: what layers on the accelerator read, and write if not in float."""
    found: dict[Value, None] = {}
    for layer in layers(graph):
        if not placement.on_accelerator(layer.name):
            continue
        for value in layer_reads(layer):
            found[value] = None
        if target.operators[layer.op].kind != "float":
            found.update(dict.fromkeys(v for v in layer.outputs if v.type.dtype is DType.FLOAT32))
    executed = (*graph.inputs, *(value for node in graph for value in node.outputs))
    return tuple(value for value in executed if value in found)


def layer_reads(layer: Layer) -> tuple[Value, ...]:
    """The activations from outside that a layer computes with."""
    outside = set(layer.inputs)
    read: dict[Value, None] = {}
    for node in layer.nodes:
        for position in data_operands(node):
            value = node.inputs[position]
            if value is not None and value in outside:
                read[value] = None
    return tuple(read)


def precision_classes(graph: Graph, target: Target, placement: Placement) -> tuple[PrecisionClass, ...]:
    """Group the quantized activations by the layers that cannot change the width."""
    values = quantized_values(graph, target, placement)
    known = set(values)
    sets: DisjointSets[str] = DisjointSets()
    for value in values:
        sets.add(value.name)
    tying: list[tuple[str, tuple[str, ...]]] = []
    for layer in layers(graph):
        if not placement.on_accelerator(layer.name) or target.operators[layer.op].changes_bits:
            continue
        tied = tuple(v.name for v in (*layer_reads(layer), *layer.outputs) if v in known)
        if len(tied) > 1:
            sets.union(tied)
            tying.append((layer.name, tied))
    return tuple(
        PrecisionClass(root, members, tuple(name for name, tied in tying if sets.find(tied[0]) == root))
        for root, members in sets.sets().items()
    )
