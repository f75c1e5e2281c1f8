"""Cost of exact execution against plain float inference of the same network, in one run.

    python tests/benchmarks/exact.py MODEL.onnx FRAMES [--count 8] [--rounds 3]

FRAMES is what ``lowtide compile --data`` takes. Figures are medians of process CPU time per frame, one
thread, batch 1, variants interleaved. Peak memory is that of ``lowtide run`` on the output folder, a process
per mode.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import attrs
import numpy as np

import lowtide
from lowtide.compiler.run import input_specs, session_of
from lowtide.data import Preprocess, open_data
from lowtide.frontend import ImportRequest, load_model
from lowtide.ir import Array
from lowtide.plugin import discover


@attrs.frozen
class Variant:
    """An arithmetic, a target that has it, and how often the time of float inference it may take."""

    title: str
    target: str
    bits: int
    arithmetic: str
    goal: float


VARIANTS = (
    Variant("shift, 8 bit", "tda4vm", 8, "shift", 1.8),
    Variant("float32 multiplier, 8 bit", "generic", 8, "float32", 1.8),
    Variant("fixed-point multiplier, 8 bit", "am68a", 8, "multiplier", 3.2),
    Variant("shift, 16 bit", "tda4vm", 16, "shift", 6.0),
    Variant("fixed-point multiplier, 16 bit", "am68a", 16, "multiplier", 6.0),
)


PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def frames_of(model: Path, data: str, count: int) -> Array:
    """Frames in memory, without the batch axis."""
    graph = load_model(model, discover(), ImportRequest())
    unit = Preprocess(mean=(127.5,), scale=(1 / 127.5,))
    source = open_data(data, input_specs(graph), preprocess=unit if Path(data).is_dir() else None)
    name = graph.inputs[0].name
    return np.concatenate([frame.feeds[name] for frame in source.select(count).frames()])


def cpu(action: Callable[[], object]) -> float:
    """Process CPU seconds of one call."""
    start = time.process_time()
    action()
    return time.process_time() - start


def ratio(result: lowtide.CompileResult, frames: Array, rounds: int) -> tuple[float, float]:
    """Milliseconds of a float run, and how often that an exact run takes."""
    plain, exact = session_of(result.reference, "float"), session_of(result.graph, "exact", result.device)
    name = result.graph.inputs[0].name
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for frame in frames:
            feeds = {name: frame[None]}
            for spent, session in zip(times, (plain, exact), strict=True):
                spent.append(cpu(partial(session.run, feeds)))
    middle = [statistics.median(spent) for spent in times]
    return 1000 * middle[0], middle[1] / middle[0]


def peaks(result: lowtide.CompileResult, frames: Array) -> dict[str, float]:
    """Peak memory of a process that runs the frames, MiB, by mode."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        out, data = Path(folder) / "out", Path(folder) / "frames.npy"
        result.save(out)
        np.save(data, frames)
        for mode in ("float", "exact"):
            to = Path(folder) / f"{mode}.npz"
            command = [sys.executable, "-m", "lowtide", "run", str(out), "--data", str(data)]
            # A small process in between, since a child's peak begins with that of its parent.
            asked = [sys.executable, "-c", PEAK, *command, "--mode", mode, "--output", str(to)]
            answer = subprocess.run(asked, check=True, capture_output=True, text=True)  # noqa: S603 - ours
            found[mode] = int(answer.stdout) / 1024
    return found


def main(argv: list[str] | None = None) -> int:
    """Print the table; always 0, since a figure under load proves nothing."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("model", type=Path)
    parser.add_argument("data")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(argv)
    frames = frames_of(given.model, given.data, given.count)
    for variant in VARIANTS:
        options = {"tensor_bits": variant.bits, "arithmetic": variant.arithmetic, "measure_frames": 1}
        result = lowtide.compile(given.model, target=variant.target, data=frames, options=options)
        plain, times = ratio(result, frames, given.rounds)
        memory = peaks(result, frames)
        print(
            f"{variant.title:32} {plain:6.2f} ms float, exact {times:5.2f} x, goal {variant.goal} x; "
            f"peak {memory['float']:.0f} and {memory['exact']:.0f} MiB"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
