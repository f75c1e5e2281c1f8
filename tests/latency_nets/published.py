"""Published times, and what the devices predict for them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import attrs

from latency_nets import NETWORKS
from lowtide.diagnostics import Diagnostics
from lowtide.ir import Graph
from lowtide.latency import LatencyModel, LatencyProblem, latency_model, uniform_plan
from lowtide.options import CompileOptions
from lowtide.plugin import Registry, discover
from lowtide.precision import PrecisionPlan
from lowtide.target import Target, load_target, place


@attrs.frozen
class Published:
    """One row of `published.csv`: milliseconds, and why the fit does not use them (empty when it does)."""

    device: str
    network: str
    ms: float
    source: str
    left_out: str


@cache
def published() -> tuple[Published, ...]:
    text = Path(__file__).with_name("published.csv").read_text("utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return tuple(
        Published(row["device"], row["network"], float(row["ms"]), row["source"], row["left_out"])
        for row in rows
    )


def wrong_order(predicted: Mapping[Published, float]) -> Iterable[tuple[Published, Published]]:
    """Pairs that are more than 10 % apart and come out the other way round."""
    return [
        (one, other)
        for one, first in predicted.items()
        for other, second in predicted.items()
        if other.ms > 1.1 * one.ms and second < first
    ]


@attrs.define
class Stopwatch:
    """Predicts times at 8 bits; keeps what it has read."""

    _registry: Registry = attrs.field(factory=discover)
    _models: dict[str, LatencyModel] = attrs.field(factory=dict)
    _targets: dict[str, Target] = attrs.field(factory=dict)
    _graphs: dict[str, Graph] = attrs.field(factory=dict)
    _problems: dict[tuple[str, str], tuple[LatencyProblem, PrecisionPlan]] = attrs.field(factory=dict)
    _known: dict[object, float] = attrs.field(factory=dict)

    def model(self, device: str) -> LatencyModel:
        if device not in self._models:
            self._models[device] = latency_model(self.target(device), self._registry)
        return self._models[device]

    def target(self, device: str) -> Target:
        if device not in self._targets:
            self._targets[device] = load_target(device, self._registry)
        return self._targets[device]

    def graph(self, network: str) -> Graph:
        if network not in self._graphs:
            self._graphs[network] = NETWORKS[network][0]()
        return self._graphs[network]

    def problem(self, device: str, network: str) -> tuple[LatencyProblem, PrecisionPlan]:
        graph, target = self.graph(network), self.target(device)
        # Devices that take the same operators place a network in the same way, which is the slow part.
        device = next(name for name, known in self._targets.items() if known.operators == target.operators)
        if (device, network) not in self._problems:
            placement = place(graph, target, CompileOptions(post_processing="accelerator"), Diagnostics())
            plan = uniform_plan(graph, target, placement, 8)
            self._problems[device, network] = LatencyProblem(graph, target, placement), plan
        return self._problems[device, network]

    def ms(self, device: str, network: str, options: Mapping[str, float] | None = None) -> float:
        model = attrs.evolve(self.model(device), **(options or {}))
        if (network, model) not in self._known:
            self._known[network, model] = model.layer_costs(*self.problem(device, network)).total_ms
        return self._known[network, model]
