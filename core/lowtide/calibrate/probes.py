"""Sessions that run a network for its statistics.

Reductions run inside the network: GlobalMaxPool takes the blocked layout that convolutions leave behind,
    without
reordering it, and ReduceMin is only needed where a tensor can be negative. Only values that leave a layer are
returned; to return one from inside would undo the fusion of the layer.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lowtide.calibrate.api import Extremes, TensorInfo
from lowtide.calibrate.finite import watch_points
from lowtide.ir import Array, DType, Graph
from lowtide.runtime import Session, to_model

POOLED_RANKS = (3, 4, 5)
"""What ONNX Runtime's global pooling takes."""

BLOCK = 16
"""Channels that ONNX Runtime's blocked layout keeps together, at most."""

Floats = NDArray[np.float32]


@attrs.frozen
class Observation:
    """What is seen of one frame.

    Attributes:
        extremes: by tensor.
        arrays: float32, by tensor; ``None`` if the run did not return any.
        finite: whether no observed tensor holds NaN or infinity.
    """

    extremes: Mapping[str, Extremes]
    arrays: Mapping[str, Floats] | None
    finite: bool


class Probe(abc.ABC):
    """A session that observes."""

    @abc.abstractmethod
    def observe(self, feeds: Mapping[str, Array]) -> Observation:
        """Run one frame; may be called from several threads."""


def array_extremes(array: Floats, info: TensorInfo) -> Extremes:
    """The extremes of an array, the same bits as the reductions inside the network."""
    if info.channel_axis is None:
        blocks = array.reshape(1, 1, -1)
    else:
        blocks = array.reshape(array.shape[0], array.shape[1], -1)
    low = np.zeros(info.channels, np.float32) if info.nonnegative else blocks.min(axis=(0, 2))
    return Extremes(_without_negative_zero(low), _without_negative_zero(blocks.max(axis=(0, 2))))


def _without_negative_zero(ends: Floats) -> Floats:
    # Which of 0.0 and -0.0 is the larger depends on the order of elements; adding 0.0 leaves only the former.
    return ends + np.float32(0)


def observed_graph(graph: Graph, infos: Sequence[TensorInfo]) -> Graph:
    """The part of a graph that the observed tensors need, with those that nodes make as its outputs."""
    part = graph.clone()
    made = [part.values[info.name] for info in infos if part.values[info.name].producer is not None]
    part.set_outputs(made)
    part.prune()
    return part


class ArrayProbe(Probe):
    """Returns the tensors themselves, and takes their extremes in numpy.

    Args:
        part: see `observed_graph`.
        infos: the observed tensors.
    """

    def __init__(self, part: Graph, infos: Sequence[TensorInfo]) -> None:
        self.infos = infos
        self.session = Session(to_model(part, quantized=False)) if part.outputs else None

    def observe(self, feeds: Mapping[str, Array]) -> Observation:
        """See `Probe.observe`."""
        results = self.session.run(feeds) if self.session else {}
        arrays: dict[str, Floats] = {}
        for info in self.infos:
            found = results[info.name] if info.name in results else feeds[info.name]
            arrays[info.name] = np.ascontiguousarray(found, np.float32)
        extremes = {info.name: array_extremes(arrays[info.name], info) for info in self.infos}
        return Observation(extremes, arrays, all(_is_finite(entry) for entry in extremes.values()))

    def first_bad(self, feeds: Mapping[str, Array]) -> tuple[str, float] | None:
        """The first tensor in the order of the graph with an element that is not finite, and that element."""
        arrays = self.observe(feeds).arrays or {}
        for name, array in arrays.items():
            bad = array[~np.isfinite(array)]
            if bad.size:
                return name, float(bad[0])
        return None


def _is_finite(extremes: Extremes) -> bool:
    # NaN and infinity of either sign show in a maximum or minimum taken by numpy.
    return bool(np.isfinite(extremes.min).all() and np.isfinite(extremes.max).all())


@attrs.define
class _Group:
    """Results of one kind that the network concatenates along the channels, since every output costs time."""

    output: str
    kind: str
    members: list[tuple[TensorInfo, str]] = attrs.field(factory=list[tuple[TensorInfo, str]])

    def entries(self, result: Floats) -> Floats:
        """The concatenated channels of a result ``[N, C, 1, ...]``, over all N."""
        rows: Floats = result.reshape(result.shape[0], -1)
        reduce = np.minimum if self.kind == "min" else np.maximum
        return _without_negative_zero(reduce.reduce(rows, axis=0))

    def split(self, entries: Floats, found: dict[str, Floats]) -> None:
        """File the channels of every tensor under its name."""
        start = 0
        for info, _ in self.members:
            found[info.name] = entries[start : start + info.channels]
            start += info.channels


class ExtremesProbe(Probe):
    """Returns extremes that are taken inside the network.

    Args:
        part: see `observed_graph`.
        infos: the observed tensors.
    """

    def __init__(self, part: Graph, infos: Sequence[TensorInfo]) -> None:
        made = [info for info in infos if part.values[info.name].producer is not None]
        self.reduced = [info for info in made if _reducible(part, info)]
        reduced = {info.name for info in self.reduced}
        self.exposed = [info for info in infos if info.name not in reduced]
        whole = [info.name for info in made if info.name not in reduced]
        watched = watch_points(part, whole, reduced)
        self._groups: dict[object, _Group] = {}
        self._zeros = {i.name: np.zeros(i.channels, np.float32) for i in self.reduced if i.nonnegative}
        self._prefix = "observed"
        while any(name.startswith(self._prefix) for name in part.values):
            self._prefix += "_"
        model = to_model(part, quantized=False, outputs=whole)
        for info in self.reduced:
            self._reduce(model.graph, info, "max", "GlobalMaxPool" if _poolable(info) else "ReduceMax")
            if not info.nonnegative:
                self._reduce(model.graph, info, "min", "ReduceMin")
            if info.name in watched:
                self._reduce(
                    model.graph, info, "mean", "GlobalAveragePool" if _poolable(info) else "ReduceMean"
                )
        for group in self._groups.values():
            parts = [name for _, name in group.members]
            model.graph.node.append(helper.make_node("Concat", parts, [group.output], group.output, axis=1))
            model.graph.output.append(helper.make_tensor_value_info(group.output, TensorProto.FLOAT, None))
        self.session = Session(model) if model.graph.output else None

    def _reduce(self, graph: onnx.GraphProto, info: TensorInfo, kind: str, op: str) -> None:
        rank, batch = len(info.shape), info.shape[0]
        # Only results with the same batch size can be concatenated along the channels, and the concatenation
        # keeps the blocked layout only if all numbers of channels are multiples of a block.
        key = (kind, rank, info.name if batch is None else batch, info.channels % BLOCK == 0)
        group = self._groups.setdefault(key, _Group(f"{self._prefix}/{len(self._groups)}/{kind}", kind))
        result = f"{self._prefix}/{kind}/{info.name}"
        inputs = [info.name]
        if op.startswith("Reduce"):
            axes = f"{self._prefix}/axes/{rank}"
            if all(known.name != axes for known in graph.initializer):
                graph.initializer.append(numpy_helper.from_array(np.arange(2, rank, dtype=np.int64), axes))
            inputs.append(axes)
        graph.node.append(helper.make_node(op, inputs, [result], result))
        group.members.append((info, result))

    def observe(self, feeds: Mapping[str, Array]) -> Observation:
        """See `Probe.observe`."""
        results = self.session.run(feeds) if self.session else {}
        ends: dict[str, dict[str, Floats]] = {"min": dict(self._zeros), "max": {}, "mean": {}}
        finite = True
        for group in self._groups.values():
            entries = group.entries(results[group.output])
            finite = finite and bool(np.isfinite(entries).all())
            group.split(entries, ends[group.kind])
        low, high = ends["min"], ends["max"]
        extremes = {info.name: Extremes(low[info.name], high[info.name]) for info in self.reduced}
        for info in self.exposed:
            found = results[info.name] if info.name in results else feeds[info.name]
            extremes[info.name] = array_extremes(np.asarray(found, np.float32), info)
            finite = finite and _is_finite(extremes[info.name])
        return Observation(extremes, None, finite)


def _reducible(graph: Graph, info: TensorInfo) -> bool:
    """Whether reductions pay: a tensor without spatial extent is as small as its extremes."""
    is_float32 = graph.values[info.name].type.dtype == DType.FLOAT32
    return is_float32 and info.channel_axis is not None and any(size != 1 for size in info.shape[2:])


def _poolable(info: TensorInfo) -> bool:
    return len(info.shape) in POOLED_RANKS
