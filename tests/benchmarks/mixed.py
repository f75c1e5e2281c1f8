"""Mixed precision on real networks: what a search costs, its front, and what its plan keeps of the accuracy.

    python tests/benchmarks/mixed.py DATA [--networks resnet8,yunet] [--target tda4vm] [--factors 1.2,1.4]
        [--frames 25] [--limit 0] [--exhaustive]

DATA is the folder that `networks.py` describes. For each network: latency, metric and SQNR of the raw outputs
over test frames, in float, 8 bits, mixed under each factor, and 16 bits; runs of the network for each
calibration frame and CPU seconds that the compile took beyond that with 8 bits; the front.

With --exhaustive the plan of the search is compared with the best of all plans of a made network, and of
many of the networks, in exact execution on the calibration frames: noise of the search by that of the
best.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np
from networks import Network, networks, sqnr

import lowtide
from lowtide.compiler.run import session_of
from lowtide.ir import Array, Constant, Graph, parse_graph
from lowtide.plugin import Provider, Registry, StrategySpec, discover, hookimpl
from lowtide.plugin.strategy_check import NETWORK
from lowtide.precision import PrecisionPlan, PrecisionProblem, PrecisionStrategy
from lowtide_plugins.precision.automatic import Automatic
from lowtide_plugins.precision.choice import Choice

DRAWN = 4096
"""Orders in which widths are raised: all plans of a small network to which nothing can be added."""

FINISHED = 12
"""The best plans in emulation that are finished and measured."""


def compiled(
    model: Any, frames: Array, target: str, registry: Registry, **options: object
) -> tuple[lowtide.CompileResult, float, float]:
    """A compile with its wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = lowtide.compile(model, target=target, data=frames, options=options, registry=registry)
    return result, time.perf_counter() - wall, time.process_time() - cpu


def judged(network: Network, result: lowtide.CompileResult, mode: Any, limit: int) -> tuple[float, float]:
    """Metric on test samples, and the SQNR of logits or raw outputs in dB."""
    of_float = mode == "float"
    fixed = session_of(result.reference if of_float else result.graph, mode, result.device)
    source = result.graph.inputs[0].name
    names = [value.name for value in result.graph.outputs]
    pairs: list[tuple[Any, Any]] = []
    for x, label in itertools.islice(network.test(), limit or None):
        feeds = {source: np.ascontiguousarray(x)[None]}
        made = dict(zip(names, fixed.run(feeds).values(), strict=True))
        pairs.append((made, label))
    return network.judge(pairs), math.inf if of_float else sqnr(network, result, mode)


def table(network: Network, given: argparse.Namespace, registry: Registry) -> Iterator[str]:
    """The lines of one network."""
    frames = network.frames(given.frames)
    wanted: list[tuple[str, dict[str, object]]] = [("8 bits", {})]
    wanted += [
        (f"factor {text}", dict[str, object](mixed_precision_factor=float(text)))
        for text in given.factors.split(",")
    ]
    wanted += [("16 bits", dict[str, object](tensor_bits=16))]
    base: tuple[float, float] | None = None
    for name, options in wanted:
        result, wall, cpu = compiled(network.model, frames, given.target, registry, **options)
        if base is None:
            figure, _ = judged(network, result, "float", given.limit)
            yield f"{network.name:18} {'float':12} {'':20} {network.metric} {figure:.4f}"
            base = result.report.latency_ms or math.nan, cpu
        figure, sqnr = judged(network, result, "exact", given.limit)
        latency = result.report.latency_ms or math.nan
        cost = ""
        if result.report.search_passes is not None:
            cost = (
                f"search {result.report.search_passes:.1f} runs, {cpu - base[1]:.0f} s CPU, {wall:.0f} s wall"
            )
        yield (
            f"{network.name:18} {name:12} {latency:8.3f} ms {latency / base[0]:6.3f} x  {network.metric} "
            f"{figure:.4f} {sqnr:7.2f} dB  {cost}"
        )
        for point in result.report.front:
            mark = " <-" if point.chosen else ""
            yield f"{'':31} {point.latency_ms:8.3f} ms {point.error_db:7.2f} dB  {point.label}{mark}"


@attrs.frozen(kw_only=True)
class Exhaustive(PrecisionStrategy):
    """The plan of `Automatic`, after printing how it compares with the best of all plans or of many."""

    name: ClassVar[str] = "exhaustive"

    def plan(self, problem: PrecisionProblem) -> PrecisionPlan:
        """See `PrecisionStrategy.plan`."""
        found = Automatic().plan(problem)
        assert problem.costs is not None
        assert problem.oracle is not None
        assert problem.budget is not None
        choice = Choice(problem, problem.costs, problem.uniform(8))
        ranked = sorted(choice.full(problem.budget.ms, DRAWN), key=problem.oracle.error)
        measured = [problem.oracle.measured(plan) for plan in ranked[:FINISHED]]
        own = problem.oracle.measured(found)
        print(
            f"  {problem.budget.text}: {len(ranked)} plans, best {10 * -math.log10(min(measured)):.2f} dB, "
            f"search {10 * -math.log10(own):.2f} dB, noise {own / min(measured):.3f} x"
        )
        return found


def made_network() -> tuple[Graph, Array]:
    """The network of the contract test, larger and with weights that differ, and frames for it."""
    graph = parse_graph(NETWORK.replace(", 16, 16]", ", 64, 64]"))
    random = np.random.default_rng(11)
    for value in graph.constants:
        shape = value.type.static_shape
        weights = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        spread = np.exp(random.uniform(-2, 0, (shape[0], 1, 1, 1)))
        graph.set_constant(value, Constant.of((weights * spread).astype(np.float32)))
    return graph, random.standard_normal((64, 8, 64, 64)).astype(np.float32)


@hookimpl
def lowtide_register_strategies() -> Iterable[StrategySpec]:
    """Contribute `Exhaustive`."""
    return [
        StrategySpec(
            name="exhaustive",
            summary="beside all plans",
            implementation=f"{__name__}:Exhaustive",
            uses=("mixed_precision_factor",),
        )
    ]


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("data", type=Path)
    parser.add_argument("--networks", default="")
    parser.add_argument("--target", default="tda4vm")
    parser.add_argument("--factors", default="1.2,1.4")
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--limit", type=int, default=0, help="test samples; 0 is all")
    parser.add_argument("--exhaustive", action="store_true")
    given = parser.parse_args(argv)
    registry, known = discover(), networks(given.data)
    if given.exhaustive:
        registry.add_plugin(sys.modules[__name__], Provider("benchmark", "0", "mixed"))
        chosen = {
            name: (known[name].model, known[name].frames(given.frames))
            for name in given.networks.split(",")
            if name
        }
        for name, (model, frames) in {"made": made_network(), **chosen}.items():
            print(name, flush=True)
            for factor in map(float, given.factors.split(",")):
                compiled(
                    model,
                    frames,
                    given.target,
                    registry,
                    strategy="exhaustive",
                    mixed_precision_factor=factor,
                )
        return 0
    for name in given.networks.split(",") if given.networks else list(known):
        for line in table(known[name], given, registry):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
