"""What an error in one place does to the outputs: what is behind it runs again, on values that are kept."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

import numpy as np

from lowtide.calibrate import Range
from lowtide.data import DataSource
from lowtide.ir import Array, Constant, Graph, Node, TensorType, Value, layers
from lowtide.measure import is_comparable, judged_values
from lowtide.runtime import Session, in_flight, to_model

Change = Callable[[Array], Array]
"""What a tensor holds instead of what it does."""


LEAST = 4
"""So many frames are run even where they take more memory than they should, up to as many times of it."""


class Values:
    """The activations of a float network on a few frames, and the error of its outputs when some change.

    Args:
        graph: the float network; not changed.
        frames: where the frames come from.
        count: how many evenly spread ones are run.
        memory: how many bytes their activations, of which those that leave a layer are kept, may take;
            there are fewer frames where they would take more, but at least one. Up to `LEAST` frames may take
            `LEAST` times of it.
        shares: what each layer has of the work of the network, by name.

    Attributes:
        runs: of the network on one frame so far, parts of it by their share.
        clips: between which numbers tensors behind a changed one are held: what they cut off is no error of
            that one.
    """

    def __init__(
        self,
        graph: Graph,
        frames: DataSource,
        count: int,
        memory: int,
        shares: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self.graph = graph
        self.runs = 0.0
        self.clips: dict[Value, Range] = {}
        self.outputs = [value for value in judged_values(graph) if is_comparable(value)]
        # What a layer does counts with its first node, which does most of it.
        self.shares = {layer.nodes[0]: shares.get(layer.name, 0.0) for layer in layers(graph)}
        self._source, self._count, self._memory = frames, count, memory
        self._last: Suffix | None = None

    @cached_property
    def frames(self) -> list[dict[str, Array]]:
        """The activations of each frame by name; they are computed when the first is asked for."""
        made = list(dict.fromkeys(value.name for layer in layers(self.graph) for value in layer.outputs))
        session = Session(to_model(self.graph, quantized=False, outputs=made))
        (first,) = self._source.select(1).frames()
        size = sum(array.nbytes for array in (*first.feeds.values(), *session.run(first.feeds).values()))
        fit = self._memory // max(size, 1)
        if fit < LEAST:
            fit = min(LEAST, LEAST * self._memory // max(size, 1))
        chosen = self._source.select(max(1, min(self._count, fit)))
        kept: list[dict[str, Array]] = []
        for frame, results in in_flight(session, chosen.frames(), lambda frame: frame.feeds):
            kept.append({**frame.feeds, **dict(zip(made, results.values(), strict=True))})
        self.runs += 1 + len(kept)
        return kept

    def signals(self, frames: Sequence[int]) -> list[float]:
        """The energy of every output over some frames."""
        return [math.fsum(_energy(self.frames[at][output.name]) for at in frames) for output in self.outputs]

    def behind(self, changed: Sequence[Value]) -> Suffix:
        """The part of the network that reads these tensors, itself or through others.

        The last one is kept, since it takes longer to make one than to run it on a few frames.
        """
        if self._last is None or self._last.changed != tuple(changed) or self._last.clips != self.clips:
            self._last = Suffix(self, changed)
        return self._last


class Suffix:
    """The part of a network behind some tensors.

    Args:
        values: of the whole network.
        changed: the tensors; those that depend on one another are taken as if they did not.
    """

    def __init__(self, values: Values, changed: Sequence[Value]) -> None:
        self.values = values
        self.changed = tuple(changed)
        self.clips = dict(values.clips)
        graph, fixed = values.graph, set(changed)
        reached = set(changed)
        nodes: list[Node] = []
        for node in graph:
            if any(value in reached for value in node.inputs if value is not None):
                nodes.append(node)
                reached.update(value for value in node.outputs if value not in fixed)
        self.outputs = [value for value in values.outputs if value in reached]
        computed = [value for value in self.outputs if value not in fixed]
        part = part_of(fixed, nodes, computed, self.clips)
        self.reads = tuple(value.name for value in part.inputs)
        self.session = Session(to_model(part, quantized=False)) if computed else None
        self.share = sum(values.shares.get(node, 0.0) for node in nodes)
        self.clipped = not self.clips.keys().isdisjoint(reached - fixed)
        self._wanted: dict[int, Mapping[str, Array]] = {}

    def error(self, change: Change, frames: Sequence[int] | None = None) -> float:
        """Noise by signal of the outputs, the mean over all of the network, when elements change.

        Args:
            change: what the changed tensors hold instead of what they do.
            frames: which of the frames to run; by default all.
        """
        chosen = range(len(self.values.frames)) if frames is None else frames
        return self.error_of(
            {at: {v.name: change(self.values.frames[at][v.name]) for v in self.changed} for at in chosen}
        )

    def error_of(self, made: Mapping[int, Mapping[str, Array]]) -> float:
        """The same from what the changed tensors hold instead, by number of the frame, then by name."""
        noise = dict.fromkeys(self.values.outputs, 0.0)
        wanted = self._without(tuple(made))
        for at, results in self._run(made):
            for output in self.outputs:
                noise[output] += _energy(results[output.name].astype(np.float32) - wanted[at][output.name])
        signals = self.values.signals(tuple(made))
        ratios = [
            noise[output] / signal
            for output, signal in zip(self.values.outputs, signals, strict=True)
            if signal > 0
        ]
        return math.fsum(ratios) / len(ratios) if ratios else 0.0

    def _without(self, frames: Sequence[int]) -> Mapping[int, Mapping[str, Array]]:
        """The outputs when nothing changes, by number of the frame."""
        if not self.clipped:
            return {at: self.values.frames[at] for at in frames}
        new = [at for at in frames if at not in self._wanted]
        self._wanted.update(
            self._run({at: {v.name: self.values.frames[at][v.name] for v in self.changed} for at in new})
        )
        return self._wanted

    def _run(self, made: Mapping[int, Mapping[str, Array]]) -> Iterator[tuple[int, Mapping[str, Array]]]:
        """The outputs, frame by frame."""
        if self.session is None:
            yield from made.items()
            return
        self.values.runs += self.share * len(made)
        for (at, instead), results in in_flight(self.session, made.items(), self._feeds):
            yield at, {**instead, **results}

    def _feeds(self, item: tuple[int, Mapping[str, Array]]) -> dict[str, Array]:
        at, instead = item
        kept = self.values.frames[at]
        return {name: np.ascontiguousarray(instead.get(name, kept.get(name))) for name in self.reads}


def part_of(
    fixed: set[Value],
    nodes: Sequence[Node],
    outputs: Sequence[Value],
    clips: Mapping[Value, Range] | None = None,
) -> Graph:
    """Nodes as a network of their own, which is fed what they read, and holds some tensors between limits."""
    part = Graph("part")
    taken = {value.name for node in nodes for value in (*node.inputs, *node.outputs) if value is not None}

    def unused(base: str) -> str:
        found = next(name for name in map(f"{base}_{{}}".format, itertools.count()) if name not in taken)
        taken.add(found)
        return found

    twins: dict[Value, Value] = {}
    limits = {value: span for value, span in (clips or {}).items() if value not in fixed}
    for node in nodes:
        for value in node.inputs:
            if value is None or value in twins:
                continue
            if value.constant is not None:
                twins[value] = part.add_constant(value.name, value.constant, value.type)
            else:
                twins[value] = part.add_input(value.name, TensorType(value.type.dtype, value.type.shape))
        inputs = [None if value is None else twins[value] for value in node.inputs]
        named = [
            (
                unused(value.name) if value in fixed or value in limits else value.name,
                TensorType(value.type.dtype, None),
            )
            for value in node.outputs
        ]
        made = part.add_node(node.op, inputs, named, node.attributes)
        for old, new in zip(node.outputs, made.outputs, strict=True):
            if old in limits:
                ends = [
                    part.add_constant(unused("limit"), Constant.of(np.asarray(end, np.float32)))
                    for end in (limits[old].min, limits[old].max)
                ]
                kind = (old.name, TensorType(old.type.dtype, None))
                twins[old] = part.add_node("Clip", [new, *ends], [kind]).output
            elif old not in fixed:
                twins[old] = new
    part.set_outputs([twins[value] for value in outputs])
    part.prune()
    return part


def _energy(array: Array) -> float:
    flat = array.astype(np.float64).ravel()
    return float(flat @ flat)
