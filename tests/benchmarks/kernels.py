"""Exact execution of quantized TFLite models beside the reference kernels: equal bytes, and CPU time.

    python tests/benchmarks/kernels.py MODEL.tflite... --data FOLDER [--frames 20] [--arithmetic float32]

FOLDER is laid out as LOWTIDE_REAL_DATA. Frames come from the data set whose samples fit the input, pictures
otherwise, and are random where nothing fits. With ``--arithmetic xnnpack`` the other side is XNNPACK. Figures
are medians of process CPU time per frame, one thread, both in one run; a few runs before do not count.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from ai_edge_litert import interpreter as litert
from PIL import Image

import lowtide
from lowtide.compiler.run import session_of
from lowtide.errors import LowtideError
from lowtide.frontend import ImportRequest, load_model
from lowtide.ir import Array, DType, Graph, Value
from lowtide.plugin import Registry, discover
from lowtide.quantize.codes import quantized_activations

SETS = (("cifar10", "x"), ("mnist", "x"), ("kws", "x_int8"), ("sww", "x"), ("ad", "x"))
"""Folders with a ``test.npz``, and the array in it."""

WARM = 10
"""Runs until neither side is slower than it stays."""


@attrs.define
class Outcome:
    """What was seen of one model."""

    frames: int = 0
    equal: int = 0
    largest: int = 0
    kind: str = "random"
    times: tuple[list[float], list[float]] = attrs.field(factory=lambda: ([], []))

    def add(self, expected: Array, found: Array) -> bool:
        """Take in one output of a frame."""
        distance = np.abs(expected.astype(np.float64) - found.astype(np.float64))
        self.largest = max(self.largest, int(np.ceil(distance.max(initial=0))))
        return np.array_equal(expected, found)


def samples(value: Value, data: Path) -> Iterator[Array] | None:
    """Frames of one input, ``None`` where no data set fits."""
    shape = value.type.static_shape
    for name, key in SETS:
        with np.load(data / name / "test.npz") as arrays:
            found = arrays[key]
        if found[0].size == np.prod(shape):
            return (as_fed(value, sample.reshape(shape)) for sample in found)
    if len(shape) == 4 and shape[3] in {1, 3}:
        return pictures(value, data)
    return None


def pictures(value: Value, data: Path) -> Iterator[Array]:
    """Photos in the size of an input ``[1, H, W, C]``."""
    _, height, width, channels = value.type.static_shape
    for path in sorted((data / "coco" / "test").rglob("*.jpg")):
        image = Image.open(path).convert("RGB" if channels == 3 else "L").resize((width, height))
        yield as_fed(value, np.asarray(image, np.uint8).reshape(value.type.static_shape))


def as_fed(value: Value, sample: Array) -> Array:
    """A sample in the type of an input: bytes of a picture as codes, real numbers through its scale."""
    dtype = value.type.dtype
    if dtype.is_float:
        return (sample / 127.5 - 1 if sample.dtype == np.uint8 else sample).astype(np.float32)
    if sample.dtype.kind == "f":
        (entry,) = (node for node in value.users if node.op == "DequantizeLinear")
        quant = entry.output.type.quant
        assert quant is not None
        sample = np.clip(np.rint(sample / quant.scale[0]) + quant.zero_point[0], dtype.min, dtype.max)
        return sample.astype(dtype.numpy)
    offset = -128 if sample.dtype == np.uint8 and dtype is DType.INT8 else 0
    return (sample.astype(np.int64) + offset).astype(dtype.numpy)


def frames_of(graph: Graph, data: Path) -> tuple[str, Iterator[dict[str, Array]]]:
    """Real frames for a network of one input, random ones for others."""
    if len(graph.inputs) == 1 and (found := samples(graph.inputs[0], data)) is not None:
        return "real", ({graph.inputs[0].name: array} for array in found)
    return "random", random_frames(graph)


def random_frames(graph: Graph) -> Iterator[dict[str, Array]]:
    """Frames without end."""
    generator = np.random.default_rng(0)
    while True:
        yield {
            value.name: generator.uniform(-1, 1, value.type.static_shape).astype(np.float32)
            if value.type.dtype.is_float
            else generator.integers(
                value.type.dtype.min, value.type.dtype.max, value.type.static_shape, endpoint=True
            ).astype(value.type.dtype.numpy)
            for value in graph.inputs
        }


def kernels(path: Path, *, reference: bool) -> Callable[[dict[str, Array]], dict[str, Array]]:
    """Runs the model with TensorFlow Lite: its reference kernels, or XNNPACK."""
    kind = litert.OpResolverType.BUILTIN_REF if reference else litert.OpResolverType.AUTO
    runner: Any = litert.Interpreter(str(path), experimental_op_resolver_type=kind, num_threads=1)
    runner.allocate_tensors()

    def run(feeds: dict[str, Array]) -> dict[str, Array]:
        for detail in runner.get_input_details():
            runner.set_tensor(detail["index"], feeds[detail["name"]])
        runner.invoke()
        return {detail["name"]: runner.get_tensor(detail["index"]) for detail in runner.get_output_details()}

    return run


def timed(times: list[float], action: Callable[[], dict[str, Array]]) -> dict[str, Array]:
    """Run and note the process CPU time."""
    start = time.process_time()
    result = action()
    times.append(time.process_time() - start)
    return result


def measure(path: Path, data: Path, count: int, arithmetic: str, registry: Registry) -> Outcome | None:
    """One model on so many frames; ``None`` for a network without codes."""
    if not quantized_activations(load_model(path, registry, ImportRequest())):
        return None
    result = lowtide.compile(
        path, target="generic", options={"arithmetic": arithmetic} if arithmetic else {}, registry=registry
    )
    ours, theirs = session_of(result.graph, "exact", result.device), kernels(path, reference=not arithmetic)
    found = Outcome()
    found.kind, frames = frames_of(result.graph, data)
    chosen = list(islice(frames, count))
    for _ in range(WARM):
        theirs(chosen[0])
        ours.run(chosen[0])
    for feeds in chosen:
        expected = timed(found.times[0], partial(theirs, feeds))
        made = timed(found.times[1], partial(ours.run, feeds))
        shared = [name for name in made if name in expected]
        equal = [found.add(expected[name], made[name]) for name in shared]
        found.frames += 1
        found.equal += all(equal) and bool(equal)
    return found


def main(argv: list[str] | None = None) -> int:
    """Print the table; 1 when a model is not equal to the reference kernels."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--arithmetic", default="")
    given = parser.parse_args(argv)
    registry, status = discover(), 0
    for path in given.models:
        try:
            found = measure(path, given.data, given.frames, given.arithmetic, registry)
        except LowtideError as error:
            print(f"{path.stem[:48]:48} refused: {error.message[:60]}", flush=True)
            continue
        if found is None:
            continue
        theirs, exact = (1000 * statistics.median(times) for times in found.times)
        print(
            f"{path.stem[:48]:48} {found.equal:3}/{found.frames} {found.kind:6} equal, largest "
            f"{found.largest:3}; {theirs:8.2f} ms there, {exact:7.2f} ms here, {theirs / exact:5.1f} x",
            flush=True,
        )
        status |= not given.arithmetic and found.equal < found.frames
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
