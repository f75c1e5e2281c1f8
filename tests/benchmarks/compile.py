"""Cost of a whole compile against plain float inference over the same frames, in one run.

    python tests/benchmarks/compile.py MODEL.onnx FRAMES [--target am68a] [--counts 100 1000] [--rounds 3]

FRAMES is a folder or file as ``lowtide compile --data`` takes it, cycled to the wanted number of frames and
held in memory so that reading images is not measured. Figures are process CPU seconds of the fastest of some
interleaved rounds, since load only ever adds. Last stands what a compile costs beyond its ratio, in seconds.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lowtide
from lowtide.compiler.run import input_specs, session_of
from lowtide.data import Preprocess, open_data
from lowtide.frontend import ImportRequest, load_model
from lowtide.options import OptionLayer
from lowtide.plugin import discover
from lowtide.runtime import in_flight

LIMITS = {
    ("0", 100): 1.4,
    ("0", 1000): 1.35,
    ("percentile", 100): 5.0,
    ("percentile", 1000): 1.8,
    ("1", 100): 12.0,
    ("1", 1000): 12.0,
}
"""Goals: CPU time as a multiple of plain inference, with 2 s on top."""

VARIANTS: dict[str, dict[str, object]] = {
    "0": {"accuracy_level": 0},
    "percentile": {"accuracy_level": 0, "calibrator": "percentile"},
    "1": {"accuracy_level": 1},
}


def cpu(action: Callable[[], object]) -> float:
    """Process CPU seconds of one call."""
    start = time.process_time()
    action()
    return time.process_time() - start


def frames_of(model: Path, data: str, count: int) -> NDArray[Any]:
    """`count` frames in memory, cycled from the data."""
    graph = load_model(model, discover(), ImportRequest())
    unit = Preprocess(mean=(127.5,), scale=(1 / 127.5,))
    source = open_data(data, input_specs(graph), preprocess=unit if Path(data).is_dir() else None)
    name = graph.inputs[0].name
    found = np.concatenate([frame.feeds[name] for frame in source.select(100).frames()])
    return found[np.arange(count) % len(found)]


def plain(model: Path, frames: NDArray[Any]) -> None:
    """Float inference over all frames, session included, two frames in flight."""
    graph = load_model(model, discover(), ImportRequest())
    session, name = session_of(graph, "float"), graph.inputs[0].name
    for _ in in_flight(session, frames, lambda frame: {name: frame[None]}):
        pass


def one_round(model: Path, target: str, frames: NDArray[Any]) -> dict[str, float]:
    """CPU seconds of plain inference and of every variant."""
    times = {"plain": cpu(lambda: plain(model, frames))}
    for name, options in VARIANTS.items():
        start = time.process_time()
        lowtide.compile(model, target=target, data=frames, options=[OptionLayer("benchmark", options)])
        times[name] = time.process_time() - start
    return times


def main(argv: list[str] | None = None) -> int:
    """Print the table; always 0, since a figure under load proves nothing."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("model", type=Path)
    parser.add_argument("data")
    parser.add_argument("--target", default="am68a")
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(argv)
    for count in given.counts:
        frames = frames_of(given.model, given.data, count)
        best: dict[str, float] = {}
        for _ in range(given.rounds):
            times = one_round(given.model, given.target, frames)
            best = {name: min(spent, best.get(name, spent)) for name, spent in times.items()}
        print(f"{count} frames: plain inference {best['plain']:.2f} s of CPU")
        for name in VARIANTS:
            limit = LIMITS.get((name, count))
            beyond = best[name] - limit * best["plain"] if limit else float("nan")
            print(
                f"  {name:10} {best[name]:6.2f} s of CPU = {best[name] / best['plain']:5.2f} x plain; "
                f"goal {limit} x + 2 s, beyond the ratio {beyond:+.2f} s"
            )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, frames included")
    for arguments in (["-c", "pass"], ["-m", "lowtide", "--help"]):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        print(f"python {' '.join(arguments)}: {time.perf_counter() - start:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
