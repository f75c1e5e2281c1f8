"""The latency of a network on a device, by the model that the device names."""

from __future__ import annotations

from typing import Any

import attrs

from lowtide.errors import TargetError, UnsupportedByTargetError, nearest, noted
from lowtide.ir import Graph
from lowtide.latency.api import LatencyModel, LatencyProblem, LatencyTable
from lowtide.passes.text import option_types
from lowtide.plugin import LatencyModelSpec, Registry, plugin_code
from lowtide.precision import PrecisionPlan
from lowtide.target import LatencyData, Placement, Target


def estimate(
    graph: Graph, target: Target, placement: Placement, plan: PrecisionPlan, registry: Registry
) -> LatencyTable:
    """What every layer of a prepared and placed graph costs with the widths of a plan.

    For many plans keep a `LatencyProblem` and call `LatencyModel.layer_costs`.

    Raises:
        UnsupportedByTargetError: when the device has no latency model.
        UnknownNameError: when nobody provides the model that it names.
        TargetError: when its options are not those of the model.
    """
    return latency_model(target, registry).layer_costs(LatencyProblem(graph, target, placement), plan)


def latency_model(target: Target, registry: Registry) -> LatencyModel:
    """The model that a device names, with the options of the device.

    Raises:
        UnsupportedByTargetError: when the device has no latency model.
        UnknownNameError: when nobody provides the model that it names.
        TargetError: when its options are not those of the model.
    """
    data = target.latency
    if data is None:
        raise UnsupportedByTargetError(
            "the device has no latency model, so nothing can be said about time",
            place=target.name,
            hint="choose another target, or extend this one with a [latency] table",
        )
    with noted(f"in target {target.name}: latency.model"):
        kind: type[LatencyModel] = registry.load(LatencyModelSpec, data.model)
    _check_options(kind, data, target.name)
    try:
        with plugin_code(f"latency model {data.model}", passing=(ValueError,)):
            return kind(**dict(data.options))
    except ValueError as error:  # what validators raise
        raise TargetError(str(error), place=f"target {target.name}: latency.options") from error


def _check_options(kind: type[LatencyModel], data: LatencyData, target: str) -> None:
    types = option_types(kind)
    for key, value in data.options.items():
        place = f"target {target}: latency.options.{key}"
        if key not in types:
            raise TargetError(f"{data.model} has no such option", place=place, hint=nearest(key, types))
        if type(value) not in types[key] and not (float in types[key] and type(value) is int):
            wanted = " or ".join(one.__name__ for one in types[key])
            raise TargetError(f"expected {wanted}, found {value!r}", place=place)
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(kind)
    missing = [f.name for f in fields if f.default is attrs.NOTHING and f.name not in data.options]
    if missing:
        place = f"target {target}: latency.options.{missing[0]}"
        raise TargetError(f"{data.model} needs this option", place=place)
