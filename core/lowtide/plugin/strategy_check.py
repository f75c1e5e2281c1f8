"""The contract of precision strategies, on a small network with an oracle that computes its answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import attrs

from lowtide.diagnostics import Diagnostics
from lowtide.errors import PluginError, QuantizationError
from lowtide.ir import Graph, layers, parse_graph, print_graph
from lowtide.latency import LatencyProblem, ModelCosts, latency_model
from lowtide.options import CompileOptions
from lowtide.plugin.calls import plugin_code
from lowtide.plugin.registry import Registry
from lowtide.precision import (
    WIDE,
    Budget,
    Oracle,
    PrecisionPlan,
    PrecisionProblem,
    PrecisionStrategy,
    Sensitivities,
    check_choice,
    has_parameters,
    precision_classes,
)
from lowtide.target import load_target, place

NETWORK = """graph "checked" {
  input %x: float32[1, 8, 16, 16]
  const %w1: float32[32, 8, 3, 3] = fill(0.5)
  const %w2: float32[32, 32, 3, 3] = fill(0.5)
  const %w3: float32[32, 32, 1, 1] = fill(0.5)
  const %w4: float32[16, 64, 1, 1] = fill(0.5)
  %c1: float32[1, 32, 16, 16] = Conv(%x, %w1) {pads=[1, 1, 1, 1]} layer "a"
  %a: float32[1, 32, 16, 16] = Relu(%c1) layer "a"
  %b: float32[1, 32, 16, 16] = Conv(%a, %w2) {pads=[1, 1, 1, 1]}
  %s: float32[1, 32, 16, 16] = Add(%a, %b)
  %c: float32[1, 32, 16, 16] = Conv(%s, %w3)
  %m: float32[1, 64, 16, 16] = Concat(%s, %c) {axis=1}
  %y: float32[1, 16, 16, 16] = Conv(%m, %w4)
  return %y
}"""
FACTORS = (1.0, 1.1, 1.3, 10.0)


def check_strategy(
    strategy: PrecisionStrategy, target: str, registry: Registry, graph: Graph | None = None
) -> None:
    """Check that a strategy keeps its contract under several budgets.

    Args:
        strategy: with the options that it should be checked with.
        target: a device with a latency model.
        registry: provides the device and the model.
        graph: a prepared float network; a small one by default, with a sum and a concatenation.

    Raises:
        PluginError: when the strategy fails, the plan is none, breaks a rule of the device, exceeds a budget,
            is another one the second time, or when the strategy changes the network.
        UnsupportedByTargetError: when the device has no latency model.
    """
    where = f"strategy {strategy.name}"
    for problem in problems(target, registry, parse_graph(NETWORK) if graph is None else graph):
        before = print_graph(problem.graph)
        with plugin_code(where):
            first, second = (cast("object", strategy.plan(problem)) for _ in range(2))
        if not isinstance(first, PrecisionPlan) or not isinstance(second, PrecisionPlan):
            raise PluginError(f"plan should return a PrecisionPlan, found {first!r}", place=where)
        if print_graph(problem.graph) != before:
            raise PluginError("plan changes the network", place=where)
        try:
            check_choice(first, problem, "it")
        except QuantizationError as error:
            raise PluginError(f"the plan breaks a rule: {error}", place=where) from error
        if not first.same_widths(second):
            raise PluginError("a second call gives another plan", place=where)


def problems(
    target: str, registry: Registry, graph: Graph, options: CompileOptions | None = None
) -> Sequence[PrecisionProblem]:
    """The same network under several budgets, from that of 8 bits to one that holds everything."""
    device, options = load_target(target, registry), options or CompileOptions()
    placement = place(graph, device, options, Diagnostics())
    costs = ModelCosts(latency_model(device, registry), LatencyProblem(graph, device, placement))
    plain = PrecisionProblem(
        graph=graph,
        target=device,
        placement=placement,
        options=options,
        classes=precision_classes(graph, device, placement),
        costs=costs,
    )
    narrow = costs.narrow_ms
    budgets = [Budget(narrow * factor, f"{factor:g} x {narrow:.4g} ms") for factor in FACTORS]
    return [attrs.evolve(plain, budget=budget, oracle=ComputedOracle(plain)) for budget in budgets]


class ComputedOracle(Oracle):
    """Errors by a rule: those of later classes and layers are smaller, and all add up."""

    def __init__(self, problem: PrecisionProblem) -> None:
        self._activations = {group.name: 0.02 * 0.7**at for at, group in enumerate(problem.classes)}
        found = [layer.name for layer in layers(problem.graph) if has_parameters(layer)]
        self._weights = {name: 0.03 * 0.6**at for at, name in enumerate(found)}
        self._tensors = {group.name: group.tensors[0] for group in problem.classes}
        self._passes = 0.0

    def error(self, plan: PrecisionPlan) -> float:
        """See `Oracle.error`."""
        self._passes += 1
        activations = sum(
            noise
            for name, noise in self._activations.items()
            if plan.activations[self._tensors[name]] != WIDE
        )
        weights = sum(noise for name, noise in self._weights.items() if plan.weights.get(name) != WIDE)
        return activations + weights

    def sensitivities(self, around: PrecisionPlan | None = None) -> Sensitivities:
        """See `Oracle.sensitivities`."""
        del around
        return Sensitivities(self._activations, self._weights)

    def settle(self, plan: PrecisionPlan) -> None:
        """See `Oracle.settle`."""

    def measured(self, plan: PrecisionPlan) -> float:
        """See `Oracle.measured`."""
        return self.error(plan)

    def interrupted(self) -> None:
        """See `Oracle.interrupted`."""

    @property
    def passes(self) -> float:
        """See `Oracle.passes`."""
        return self._passes
