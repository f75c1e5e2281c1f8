"""What is left of the accuracy of real networks on the test split of their data, float beside fixed.

    python tests/benchmarks/accuracy.py DATA [--networks resnet20,yunet] [--target am68a]
        [--set quantization_scale_type=1]... [--frames 100] [--mode exact] [--limit 0] [--steps]

DATA is the folder that `networks.py` describes. SQNR is that of logits or raw outputs over the first 100
test frames, 10 log10(sum f^2 / sum (f - q)^2), the mean over outputs.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from networks import Network, Outputs, networks, sqnr

import lowtide
from lowtide.compiler.run import session_of


def measure(network: Network, options: dict[str, str], given: argparse.Namespace) -> str:
    """One line of the table."""
    frames = network.frames(given.frames)
    start, cpu = time.perf_counter(), time.process_time()
    result = lowtide.compile(network.model, target=given.target, data=frames, options=options)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    plain = session_of(result.reference, "float")
    fixed = session_of(result.graph, given.mode, result.device)
    source = result.graph.inputs[0].name
    names = [value.name for value in result.graph.outputs]
    before: list[tuple[Outputs, Any]] = []
    after: list[tuple[Outputs, Any]] = []
    for x, label in itertools.islice(network.test(), given.limit or None):
        feeds = {source: np.ascontiguousarray(x)[None]}
        real = dict(zip(names, plain.run(feeds).values(), strict=True))
        made = dict(zip(names, fixed.run(feeds).values(), strict=True))
        before.append((real, label))
        after.append((made, label))
    was, now = network.judge(before), network.judge(after)
    steps = "".join(
        f"\n    {step.step}: {step.sqnr_before_db:.2f} -> {step.sqnr_after_db:.2f} dB, "
        f"{'kept' if step.kept else 'dropped'}, {step.seconds:.1f} s"
        for step in result.report.steps
        if given.steps
    )
    return (
        f"{network.name:18} {network.metric:9} {was:8.4f} {now:8.4f} "
        f"{sqnr(network, result, given.mode):7.2f} dB {seconds:7.1f} s {cpu:7.1f} s CPU  {given.target} "
        f"{' '.join(f'{k}={v}' for k, v in options.items())}{steps}"
    )


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("data", type=Path)
    parser.add_argument("--networks", default="")
    parser.add_argument("--target", default="am68a")
    parser.add_argument("--set", action="append", default=[], dest="options")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--mode", default="exact", choices=("exact", "qdq"))
    parser.add_argument("--limit", type=int, default=0, help="test samples; 0 is all")
    parser.add_argument("--steps", action="store_true", help="what the recipe tried")
    given = parser.parse_args(argv)
    known = networks(given.data)
    wanted = given.networks.split(",") if given.networks else list(known)
    options = dict(entry.split("=", 1) for entry in given.options)
    for name in wanted:
        print(measure(known[name], options, given), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
