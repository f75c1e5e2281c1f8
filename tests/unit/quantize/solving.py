"""Solves graphs for a device, with ranges measured on random frames."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from lowtide.calibrate import Range
from lowtide.diagnostics import Diagnostics
from lowtide.ir import Graph, QuantParams
from lowtide.plugin import discover
from lowtide.precision import PrecisionPlan, precision_classes
from lowtide.quantize.solve import SolveRequest, solve
from lowtide.runtime import Session, to_model
from lowtide.target import Target, load_target, place, scale_rule

REGISTRY = discover()


@attrs.frozen
class Options:
    deny_list_layer_type: tuple[str, ...] = ()
    deny_list_layer_name: tuple[str, ...] = ()
    allow_list_layer_name: tuple[str, ...] = ()
    max_num_subgraphs: int | None = None
    tensor_bits: int = 8
    meta_layers_names_list: str = ""
    post_processing: str = "host"


def ranges_of(graph: Graph, feeds: list[dict[str, NDArray[Any]]]) -> dict[str, Range]:
    names = [v.name for node in graph for v in node.outputs if v.type.dtype.is_float]
    session = Session(to_model(graph, quantized=False, outputs=names))
    found: dict[str, list[NDArray[Any]]] = {}
    for feed in feeds:
        for name, array in {**session.run(feed), **feed}.items():
            found.setdefault(name, []).append(array)
    return {name: Range(float(np.min(a)), float(np.max(a))) for name, a in found.items()}


def request_for(
    graph: Graph,
    target: Target | str,
    number: int,
    *,
    bits: int = 8,
    options: Options | None = None,
    feeds: list[dict[str, NDArray[Any]]],
    **more: Any,
) -> SolveRequest:
    """What the solver needs for a graph, every tensor of one width, with the ranges of the frames."""
    device = load_target(target, REGISTRY) if isinstance(target, str) else target
    notes = Diagnostics()
    placement = place(graph, device, options or Options(tensor_bits=bits), notes)
    classes = precision_classes(graph, device, placement)
    plan = PrecisionPlan(
        {tensor: bits for group in classes for tensor in group.tensors},
        {a.layer: bits for a in placement.assignments if a.device == "accelerator"},
    )
    return SolveRequest(
        target=device,
        rule=scale_rule(device, number),
        placement=placement,
        plan=plan,
        ranges=more.pop("ranges", None) or ranges_of(graph, feeds),
        diagnostics=notes,
        **more,
    )


def solved(
    graph: Graph, target: Target | str, number: int, **more: Any
) -> tuple[Graph, list[dict[str, NDArray[Any]]], Diagnostics]:
    generator = np.random.default_rng(0)
    feeds = [
        {v.name: generator.standard_normal(v.type.static_shape).astype(np.float32) for v in graph.inputs}
        for _ in range(4)
    ]
    request = request_for(graph, target, number, feeds=feeds, **more)
    fixed = graph.clone()
    solve(fixed, request)
    return fixed, feeds, request.diagnostics


def quant(graph: Graph, name: str) -> QuantParams:
    found = graph.values[name].type.quant
    assert found is not None
    return found
