"""A quantized network layer after layer over all frames, and what the float one has in the same places.

What every layer reads is kept for all frames, so that a layer can be changed before anything behind it runs.
A value goes as soon as its last reader has run, and what does not fit into memory is kept in a file. Of the
float network, which nothing changes, some positions of what products add up to are kept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Mapping
from types import TracebackType
from typing import BinaryIO, Self, cast

import attrs
import numpy as np

from lowtide.compiler.run import Device
from lowtide.data import DataSource
from lowtide.errors import DataError
from lowtide.exact import ExactSession
from lowtide.ir import Array, Graph, Layer, Node, Value, layers
from lowtide.quantize.numbers import quantize
from lowtide.runtime import Nothing, Session, dequantize, in_flight, to_model
from lowtide_plugins.weights.addends import Addend
from lowtide_plugins.weights.moments import sample_results


@attrs.define(eq=False)
class Kept:
    """One value in all frames, in memory or in a file without a name."""

    array: Array | None
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    file: BinaryIO | None = None
    loose: list[Array] | None = None

    @classmethod
    def like(cls, first: Array, frames: int, *, in_memory: bool, loose: bool = False) -> Kept:
        """Room for a value of which one frame is known.

        Args:
            first: that frame.
            frames: of how many.
            in_memory: not in a file.
            loose: frames have shapes of their own; they are in memory.
        """
        if loose:
            return cls(None, first.shape, first.dtype, loose=[])
        if in_memory:
            return cls(np.empty((frames, *first.shape), first.dtype), first.shape, first.dtype)
        return cls(None, first.shape, first.dtype, cast(BinaryIO, tempfile.TemporaryFile()))

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        if self.loose is not None:
            return sum(array.nbytes for array in self.loose)
        return 0 if self.array is None else self.array.nbytes

    def put(self, frame: int, found: Array) -> None:
        """Keep one frame; they come in order."""
        if self.loose is not None:
            self.loose.append(found)
        elif self.array is not None:
            self.array[frame] = found
        elif self.file is not None:
            self.file.seek(frame * found.nbytes)
            self.file.write(np.ascontiguousarray(found).tobytes())

    def get(self, frame: int) -> Array:
        """One frame."""
        if self.loose is not None:
            return self.loose[frame]
        if self.array is not None:
            found: Array = self.array[frame, ...]  # an array of rank 0 stays one
            return found
        assert self.file is not None  # noqa: S101 - one of the two is there
        size = int(np.prod(self.shape)) * self.dtype.itemsize
        self.file.seek(frame * size)
        return np.frombuffer(self.file.read(size), self.dtype).reshape(self.shape)

    def close(self) -> None:
        """Give back what it takes."""
        if self.file is not None:
            self.file.close()


@attrs.define(eq=False)
class LayerSequence:
    """The live values of the quantized network; a context manager that gives back files at the end.

    Args:
        reference: the float network.
        graph: the quantized one, with the same names; its layers may be changed until they run.
        device: how integers are rounded, and what runs on the host.
        frames: what both are fed.
        targets: by name of the result of a product, before its activation, how many positions of each frame
            are kept of what the float network has there.
        memory: MiB that values may take before further ones are kept in files.
        addends: those of the targets that are to make up for what another addend has lost, by name: the sum
            is their target.

    Raises:
        DataError: when there are no frames.
    """

    reference: Graph
    graph: Graph
    device: Device
    frames: DataSource
    targets: Mapping[str, int]
    memory: int = 512
    addends: Mapping[str, Addend] = attrs.field(factory=dict[str, Addend])
    count: int = 0
    _sums: dict[str, Array] = attrs.field(factory=dict[str, Array])
    _fixed: dict[str, Kept] = attrs.field(factory=dict[str, Kept])

    def __enter__(self) -> Self:
        frames = self.frames.select(1 << 62)
        self.count = frames.count or 0
        if not self.count:
            raise DataError("there are no frames", hint="give calibration frames with --data")
        names = list(self.targets)
        nodes = [_producer(self.reference, name) for name in names]
        told = [self.addends[name].sum.name if name in self.addends else name for name in names]
        session = Session(to_model(self.reference, quantized=False, outputs=told)) if names else Nothing()
        for number, (frame, results) in enumerate(in_flight(session, frames.frames(), lambda f: f.feeds)):
            for value in self.graph.inputs:
                quant, array = value.type.quant, frame.feeds[value.name]
                self._put(value.name, number, array if quant is None else quantize(array, quant))
            for name, node, array in zip(names, nodes, results.values(), strict=True):
                found = sample_results(node, array, self.targets[name], number)
                if not number:
                    self._sums[name] = np.empty((self.count, *found.shape), found.dtype)
                self._sums[name][number] = found
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sums.clear()
        for name in [*self._fixed]:
            self._drop(name)

    def walk(self) -> Generator[Layer]:
        """Every layer of the quantized network in order; it runs when the next one is asked for."""
        todo = layers(self.graph)
        last = {value.name: at for at, layer in enumerate(todo) for value in layer.inputs}
        for at, layer in enumerate(todo):
            yield layer
            self._run_fixed(alone(layer))
            for value in (*layer.inputs, *layer.outputs):
                if last.get(value.name, at) == at:
                    self._drop(value.name)

    def target(self, value: Value) -> Array:
        """What the float network has in the place of a value, ``[positions of all frames, C]``.

        It is given once and not kept.
        """
        found = self._sums.pop(value.name)
        return found.reshape(-1, found.shape[-1])

    def beside(self, value: Value) -> Array | None:
        """What a product is added to, and what rounding adds, like its target, once `walk` is at its layer.

        Returns:
            ``None`` where it is no addend that makes up for another.
        """
        addend = self.addends.get(value.name)
        if addend is None:
            return None
        node, rows = _producer(self.reference, value.name), self.targets[value.name]
        found = [sample_results(node, self.fixed(addend.other, at), rows, at) for at in range(self.count)]
        return np.concatenate(found) + np.float32(addend.bias)

    def fixed(self, value: Value, frame: int) -> Array:
        """What a value of the quantized network stands for in one frame, real numbers."""
        found, quant = self.codes(value, frame), value.type.quant
        return found if quant is None else dequantize(found, quant)

    def codes(self, value: Value, frame: int) -> Array:
        """The same as it is kept: codes where the value has some."""
        return self._fixed[value.name].get(frame)

    def _run_fixed(self, part: Graph) -> None:
        session = _Codes(part, self.device)
        feeds = [value.name for value in part.inputs]
        runs = in_flight(
            session, range(self.count), lambda frame: {name: self._fixed[name].get(frame) for name in feeds}
        )
        for frame, results in runs:
            for name, array in results.items():
                self._put(name, frame, array)

    def _put(self, name: str, frame: int, array: Array) -> None:
        if name not in self._fixed:
            used = sum(kept.nbytes for kept in self._fixed.values())
            fits = used + array.nbytes * self.count <= self.memory << 20
            loose = not self.graph.values[name].type.is_static
            self._fixed[name] = Kept.like(array, self.count, in_memory=fits, loose=loose)
        self._fixed[name].put(frame, array)

    def _drop(self, name: str) -> None:
        kept = self._fixed.pop(name, None)
        if kept is not None:
            kept.close()


class _Codes:
    """A layer as the device computes it; what it reads and gives is codes where the values have some."""

    def __init__(self, part: Graph, device: Device) -> None:
        codes = [value.name for value in part.outputs if value.type.quant is not None]
        self.session = ExactSession(
            part,
            device.profile,
            on_host=device.on_host,
            codes=codes,
            fed={value.name for value in part.inputs if value.type.quant is not None},
            outputs={value.name for value in part.outputs if value.type.quant is None},
        )

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `Runner.run`."""
        outputs, codes = self.session.run_codes(feeds)
        return {**outputs, **codes}


def _producer(graph: Graph, name: str) -> Node:
    node = graph.values[name].producer
    assert node is not None  # noqa: S101 - targets are results of layers
    return node


def alone(layer: Layer) -> Graph:
    """A layer as a network of its own, with the names that it has in its graph."""
    part = Graph(layer.name)
    twins: dict[Value, Value] = {}
    for value in layer.inputs:
        twins[value] = part.add_input(value.name, value.type)
    for node in layer.nodes:
        for read in node.inputs:
            if read is not None and read.constant is not None and read not in twins:
                twins[read] = part.add_constant(read.name, read.constant, read.type)
        made = part.add_node(
            node.op,
            [None if value is None else twins[value] for value in node.inputs],
            [(value.name, value.type) for value in node.outputs],
            node.attributes,
            name=node.name,
            location=node.location,
            layer=node.layer,
        )
        twins.update(zip(node.outputs, made.outputs, strict=True))
    part.set_outputs([twins[value] for value in layer.outputs])
    return part
