"""What a latency model is given and what it returns."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from typing import ClassVar, Literal, cast

import attrs

from lowtide.errors import PluginError
from lowtide.ir import Graph
from lowtide.latency.work import LayerWork, layer_works
from lowtide.plugin.calls import plugin_code
from lowtide.precision import PrecisionPlan
from lowtide.target import Placement, Target

Bound = Literal["compute", "vector", "ddr", "on-chip", "overhead", "host"]
"""What a layer waits for: products, the vector unit, memory outside, memory inside, its start, the host."""


@attrs.frozen(kw_only=True)
class LayerCost:
    """What one layer costs in one frame.

    Attributes:
        layer: its name.
        ms: milliseconds.
        bound: what most of them are spent on.
        macs: multiply-accumulates.
        bytes: activations read and written, and parameters read.
        extrapolated: why the figure lies outside of what the model was fitted on; empty when it does not.
    """

    layer: str
    ms: float
    bound: Bound
    macs: int
    bytes: int
    extrapolated: str = ""


@attrs.frozen(kw_only=True)
class LatencyTable:
    """What a network costs in one frame.

    Attributes:
        layers: one entry for each layer, in executable order.
        call_ms: what the whole costs beside its layers; it does not depend on widths.
        total_ms: the sum of all.
        stated_error: the mean relative error of the model, as a fraction, on networks that it was not fitted
            on; ``None`` where nobody knows it.
    """

    layers: tuple[LayerCost, ...]
    call_ms: float = 0.0
    total_ms: float
    stated_error: float | None = None


def _works(problem: LatencyProblem) -> Mapping[str, LayerWork]:
    return layer_works(problem.graph, problem.target, problem.placement)


@attrs.frozen
class LatencyProblem:
    """A prepared and placed network; reading its shapes is the slow part, so keep it for many plans.

    Attributes:
        works: what every layer has to do, by layer name in executable order, as it was when this was made.
    """

    graph: Graph
    target: Target
    placement: Placement
    works: Mapping[str, LayerWork] = attrs.field(
        init=False, repr=False, eq=False, default=attrs.Factory(_works, takes_self=True)
    )


@attrs.frozen(kw_only=True)
class LatencyModel(abc.ABC):
    """Says what layers cost. Subclasses are decorated with ``@attrs.frozen(kw_only=True)``.

    Fields are options with the types bool, int, float or str, read from ``[latency.options]`` of the device.

    The cost of a layer depends on nothing but the layer and the widths of the tensors around it, so that a
    search over widths may add up the costs of single layers. A wider tensor never makes a layer cheaper.
    """

    name: ClassVar[str]

    @abc.abstractmethod
    def layer_ms(
        self, layer: LayerWork, in_bits: Mapping[str, int], out_bits: int, weight_bits: int
    ) -> LayerCost:
        """The cost of one layer.

        Args:
            layer: what it has to do, see `LatencyProblem.works`.
            in_bits: widths of the codes that it reads, by tensor name; a tensor that is not among them has no
                codes and `TensorWork.bits` bits.
            out_bits: the width of the codes that it writes, for all of its outputs; 32 for float.
            weight_bits: the width of its parameters; 32 for float.
        """

    def call_ms(self, problem: LatencyProblem) -> float:
        """What a frame costs beside its layers."""
        del problem
        return 0.0

    def checked_ms(
        self, layer: LayerWork, in_bits: Mapping[str, int], out_bits: int, weight_bits: int
    ) -> LayerCost:
        """The same as `layer_ms`, for whoever adds it to others.

        Raises:
            PluginError: naming the model and the layer, when it fails or gives no finite time for that layer.
        """
        place = f"latency model {self.name}, layer {layer.name}"
        with plugin_code(place):
            found = cast("object", self.layer_ms(layer, in_bits, out_bits, weight_bits))
        if not isinstance(found, LayerCost):
            raise PluginError(f"layer_ms should return a LayerCost, found {found!r}", place=place)
        if found.layer != layer.name:
            raise PluginError(f"the cost is said to be that of {found.layer}", place=place)
        _check_time(found.ms, place)
        return found

    def checked_call_ms(self, problem: LatencyProblem) -> float:
        """The same as `call_ms`.

        Raises:
            PluginError: naming the model, when it fails or gives no finite time.
        """
        place = f"latency model {self.name}, call_ms"
        with plugin_code(place):
            found = self.call_ms(problem)
        _check_time(found, place)
        return found

    def layer_costs(self, problem: LatencyProblem, plan: PrecisionPlan) -> LatencyTable:
        """The cost of every layer and their sum.

        Args:
            problem: the network.
            plan: the widths; a tensor that is not in it has no codes.

        Raises:
            PluginError: see `checked_ms`.
        """
        activations, weights = plan.activations, plan.weights
        costs = tuple(
            self.checked_ms(
                work,
                {tensor.name: activations.get(tensor.name, tensor.bits) for tensor in work.inputs},
                max(activations.get(tensor.name, tensor.bits) for tensor in work.outputs),
                weights.get(name, work.parameter_bits),
            )
            for name, work in problem.works.items()
        )
        call = self.checked_call_ms(problem)
        stated = problem.target.latency.stated_error if problem.target.latency else None
        total = math.fsum((*(cost.ms for cost in costs), call))
        return LatencyTable(layers=costs, call_ms=call, total_ms=total, stated_error=stated)


def _check_time(ms: object, place: str) -> None:
    if not (isinstance(ms, (int, float)) and math.isfinite(ms) and ms >= 0):
        raise PluginError(f"expected a finite time of at least 0 ms, found {ms!r}", place=place)
