"""A quantized network beside the float one, layer after layer over the same frames.

What every layer reads is kept for all frames, so that a layer can be changed before anything behind it runs.
A value goes as soon as its last reader has run, and what does not fit into memory is kept in a file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Mapping
from types import TracebackType
from typing import BinaryIO, Self, cast

import attrs
import numpy as np

from lowtide.compiler.run import Device
from lowtide.data import DataSource
from lowtide.errors import DataError
from lowtide.exact import ExactSession
from lowtide.ir import Array, Graph, Layer, Value, layers
from lowtide.quantize.numbers import quantize
from lowtide.runtime import Runner, Session, dequantize, in_flight, to_model


@attrs.define(eq=False)
class Kept:
    """One value in all frames, in memory or in a file without a name."""

    array: Array | None
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    file: BinaryIO | None = None

    @classmethod
    def like(cls, first: Array, frames: int, *, in_memory: bool) -> Kept:
        """Room for a value of which one frame is known."""
        if in_memory:
            return cls(np.empty((frames, *first.shape), first.dtype), first.shape, first.dtype)
        return cls(None, first.shape, first.dtype, cast(BinaryIO, tempfile.TemporaryFile()))

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return 0 if self.array is None else self.array.nbytes

    def put(self, frame: int, found: Array) -> None:
        """Keep one frame; those of a file come in order."""
        if self.array is not None:
            self.array[frame] = found
        elif self.file is not None:
            self.file.seek(frame * found.nbytes)
            self.file.write(np.ascontiguousarray(found).tobytes())

    def get(self, frame: int) -> Array:
        """One frame."""
        if self.array is not None:
            found: Array = self.array[frame]
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
    """The live values of both networks; a context manager that gives back files at the end.

    Args:
        reference: the float network.
        graph: the quantized one, with the same names; its layers may be changed until they run.
        device: how integers are rounded, and what runs on the host.
        frames: what both are fed.
        memory: MiB that values may take before further ones are kept in files.

    Raises:
        DataError: when there are no frames.
    """

    reference: Graph
    graph: Graph
    device: Device
    frames: DataSource
    memory: int = 512
    count: int = 0
    _plain: dict[str, Kept] = attrs.field(factory=dict[str, Kept])
    _fixed: dict[str, Kept] = attrs.field(factory=dict[str, Kept])

    def __enter__(self) -> Self:
        feeds = [frame.feeds for frame in self.frames.frames()]
        self.count = len(feeds)
        if not feeds:
            raise DataError("there are no frames", hint="give calibration frames with --data")
        for value in self.graph.inputs:
            quant = value.type.quant
            for number, feed in enumerate(feeds):
                array = feed[value.name]
                self._put(self._plain, value.name, number, array)
                self._put(self._fixed, value.name, number, array if quant is None else quantize(array, quant))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in [*self._plain, *self._fixed]:
            self._drop(name)

    def walk(self) -> Generator[Layer]:
        """Every layer of the quantized network in order; it runs when the next one is asked for."""
        twins = {layer.name: layer for layer in layers(self.reference)}
        todo = layers(self.graph)
        last = {value.name: at for at, layer in enumerate(todo) for value in layer.inputs}
        for at, layer in enumerate(todo):
            yield layer
            twin = twins.get(layer.name)
            if twin is not None and all(value.name in self._plain for value in twin.inputs):
                self._run_plain(alone(twin))
            self._run_fixed(alone(layer))
            for value in (*layer.inputs, *layer.outputs):
                if last.get(value.name, at) == at:
                    self._drop(value.name)

    def knows(self, value: Value) -> bool:
        """Whether both networks have come to a value."""
        return value.name in self._plain and value.name in self._fixed

    def plain(self, value: Value, frame: int) -> Array:
        """A value of the float network in one frame."""
        return self._plain[value.name].get(frame)

    def fixed(self, value: Value, frame: int) -> Array:
        """What a value of the quantized network stands for in one frame, real numbers."""
        found, quant = self._fixed[value.name].get(frame), value.type.quant
        return found if quant is None else dequantize(found, quant)

    def codes(self, value: Value, frame: int) -> Array:
        """The same as it is kept: codes where the value has some."""
        return self._fixed[value.name].get(frame)

    def _run_plain(self, part: Graph) -> None:
        session = Session(to_model(part, quantized=False))
        self._run(
            session,
            self._plain,
            lambda frame: {value.name: self._plain[value.name].get(frame) for value in part.inputs},
        )

    def _run_fixed(self, part: Graph) -> None:
        session = _Codes(part, self.device)
        self._run(
            session,
            self._fixed,
            lambda frame: {value.name: self.fixed(value, frame) for value in part.inputs},
        )

    def _run(
        self, session: Runner, store: dict[str, Kept], feeds: Callable[[int], Mapping[str, Array]]
    ) -> None:
        for frame, results in in_flight(session, range(self.count), feeds):
            for name, array in results.items():
                self._put(store, name, frame, array)

    def _put(self, store: dict[str, Kept], name: str, frame: int, array: Array) -> None:
        if name not in store:
            used = sum(kept.nbytes for kept in (*self._plain.values(), *self._fixed.values()))
            fits = used + array.nbytes * self.count <= self.memory << 20
            store[name] = Kept.like(array, self.count, in_memory=fits)
        store[name].put(frame, array)

    def _drop(self, name: str) -> None:
        for store in (self._plain, self._fixed):
            kept = store.pop(name, None)
            if kept is not None:
                kept.close()


class _Codes:
    """A layer as the device computes it; results are codes where the values have some."""

    def __init__(self, part: Graph, device: Device) -> None:
        codes = [value.name for value in part.outputs if value.type.quant is not None]
        self.session = ExactSession(part, device.profile, on_host=device.on_host, codes=codes)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `Runner.run`."""
        outputs, codes = self.session.run_codes(feeds)
        return {**outputs, **codes}


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
