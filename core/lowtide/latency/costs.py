"""The latency model of a device, bound to one network."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lowtide.latency.api import LatencyModel, LatencyProblem
from lowtide.latency.widths import uniform_plan
from lowtide.precision import Costs, PrecisionPlan

NARROW = 8


class ModelCosts(Costs):
    """Costs by a latency model; figures of layers are kept, since a search asks for the same many times."""

    def __init__(self, model: LatencyModel, problem: LatencyProblem) -> None:
        self.model = model
        self.problem = problem
        self._call_ms = model.checked_call_ms(problem)
        self._known: dict[tuple[str, tuple[int, ...], int, int], float] = {}

    def ms(self, plan: PrecisionPlan) -> float:
        """See `Costs.ms`."""
        works = self.problem.works
        layers = (
            self.layer_ms(name, plan.activations, plan.weights.get(name, work.parameter_bits))
            for name, work in works.items()
        )
        # Rounded once: plans that give other layers the same costs take the same time to the last digit.
        return math.fsum((*layers, self._call_ms))

    def layer_ms(self, layer: str, activations: Mapping[str, int], weights: int) -> float:
        """See `Costs.layer_ms`."""
        work = self.problem.works[layer]
        read = tuple(activations.get(tensor.name, tensor.bits) for tensor in work.inputs)
        written = max(activations.get(tensor.name, tensor.bits) for tensor in work.outputs)
        key = (layer, read, written, weights)
        if key not in self._known:
            bits = dict(zip((tensor.name for tensor in work.inputs), read, strict=True))
            self._known[key] = self.model.checked_ms(work, bits, written, weights).ms
        return self._known[key]

    @property
    def narrow_ms(self) -> float:
        """See `Costs.narrow_ms`."""
        of = self.problem
        return self.ms(uniform_plan(of.graph, of.target, of.placement, NARROW))
