"""What calibration costs, as ratios to plain float inference over the same frames in the same process.

Run as ``python tests/benchmarks/calibration.py`` with the environment variable ``LOWTIDE_REAL_DATA`` naming a
folder with ``models/mobilenet_v1_0.75_224.onnx`` and ``imagenet/calib``. Times are those of the process on
all its threads, so other work on the machine disturbs them less than it does the clock on the wall; every
session computes on one thread, two frames are in flight in both cases, and the time to build sessions is
counted in both.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lowtide.calibrate import Statistic, collect
from lowtide.compiler.run import input_specs
from lowtide.data import DataSource, Preprocess, open_data
from lowtide.frontend import ImportRequest, load_model
from lowtide.ir import Graph
from lowtide.passes import PassContext, parse_pipeline, run_pipeline
from lowtide.plugin import CalibratorSpec, Registry, StatisticSpec, discover
from lowtide.runtime import Session, in_flight, to_model
from lowtide.target import load_target

MODEL = "models/mobilenet_v1_0.75_224.onnx"
IMAGES = "imagenet/calib"
DECODED = 50
"""Images in memory; longer runs go round them, so that decoding is no part of what is measured."""

LIMITS = {
    ("minmax", 100): 1.3,
    ("moving-average", 100): 1.3,
    ("percentile", 100): 4.5,
    ("percentile", 1000): 1.7,
}
MEMORY_LIMIT = 1.1


def prepared_network(root: Path, registry: Registry) -> Graph:
    """The network with batch normalization folded and activations fused."""
    graph = load_model(root / MODEL, registry, ImportRequest())
    target = load_target("generic", registry)
    passes = parse_pipeline(target.prepare, registry)
    run_pipeline(graph, passes, PassContext(target=target), registry=registry)
    return graph


def decoded_frames(root: Path, graph: Graph) -> list[dict[str, object]]:
    """The first images as the network wants them."""
    scale = 1 / 127.5
    preprocess = Preprocess(resize=256, crop=224, mean=(127.5,) * 3, scale=(scale,) * 3)
    source = open_data(root / IMAGES, input_specs(graph), preprocess=preprocess).select(DECODED)
    return [dict(frame.feeds) for frame in source.frames()]


def frames_of(graph: Graph, decoded: Sequence[dict[str, object]], count: int) -> DataSource:
    """So many frames without decoding."""
    return open_data([decoded[number % len(decoded)] for number in range(count)], input_specs(graph))


def infer(graph: Graph, source: DataSource) -> None:
    """Plain float inference."""
    session = Session(to_model(graph, quantized=False))
    for _ in in_flight(session, source.frames(), lambda frame: frame.feeds):
        pass


def statistics_of(registry: Registry, calibrator: str) -> list[type[Statistic]]:
    """What a calibrator reads."""
    names: tuple[str, ...] = registry.load(CalibratorSpec, calibrator).statistics
    return [registry.load(StatisticSpec, name) for name in names]


def cpu_seconds(work: Callable[[], object]) -> float:
    """Process time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measure_times(counts: Sequence[int], rounds: int, root: Path) -> None:
    """Print the ratios for every calibrator; variants take turns, and the fastest run of each counts."""
    registry = discover()
    graph = prepared_network(root, registry)
    decoded = decoded_frames(root, graph)
    calibrators = ("minmax", "moving-average", "percentile")
    for count in counts:
        source = frames_of(graph, decoded, count)
        times: dict[str, list[float]] = {name: [] for name in ("plain", *calibrators)}
        for _ in range(rounds):
            times["plain"].append(cpu_seconds(lambda: infer(graph, source)))  # noqa: B023 - called at once
            for name in calibrators:
                kinds = statistics_of(registry, name)
                work = lambda: collect(graph, source, kinds)  # noqa: B023, E731 - called at once
                times[name].append(cpu_seconds(work))
        plain = min(times["plain"])
        print(f"{count} frames: plain inference {plain:.2f} s of CPU")
        for name in calibrators:
            ratio = min(times[name]) / plain
            limit = LIMITS.get((name, count))
            print(f"  {name:15} {ratio:5.2f} x" + (f"   (goal {limit} x)" if limit else ""))


def peak_memory(count: int, root: Path) -> None:
    """Print the peak of this process in KiB after one collection for ``percentile``."""
    registry = discover()
    graph = prepared_network(root, registry)
    source = frames_of(graph, decoded_frames(root, graph), count)
    collect(graph, source, statistics_of(registry, "percentile"))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def measure_memory(counts: Sequence[int]) -> None:
    """Print peaks, each of a process of its own."""
    peaks: list[int] = []
    for count in counts:
        command = [sys.executable, __file__, "--peak", str(count)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - this file
        peaks.append(int(done.stdout))
        print(f"{count} frames: peak memory {peaks[-1] / 1024:.0f} MiB")
    print(f"  ratio {peaks[-1] / peaks[0]:.2f}   (goal {MEMORY_LIMIT})")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    folder = os.environ.get("LOWTIDE_REAL_DATA")
    if not folder:
        parser.error("LOWTIDE_REAL_DATA is not set")
    if given.peak:
        peak_memory(given.peak, Path(folder))
        return
    measure_times(given.frames, given.rounds, Path(folder))
    measure_memory([50, 1000])


if __name__ == "__main__":
    main()
