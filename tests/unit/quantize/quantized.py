"""Quantized networks in text form, held against the rules of devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from lowtide.diagnostics import Diagnostics
from lowtide.ir import Graph, layers, parse_graph
from lowtide.plugin import discover
from lowtide.precision import PrecisionPlan, precision_classes
from lowtide.quantize.findings import Legal
from lowtide.quantize.legal import legalize
from lowtide.quantize.operands import mac_operands
from lowtide.quantize.solve import SolveRequest
from lowtide.runtime import Session, dequantize, to_model
from lowtide.target import Target, load_target, place, scale_rule
from unit.quantize.solving import Options

REGISTRY = discover()
WITH_BIAS = """
input %x: float32[1, 2, 2, 2] ~ {x}
const %w: float32[2, 2, 1, 1] ~ {w} = [1, 2, 3, 4]
const %b: float32[{count}]{bias}
%y: float32[1, 2, 2, 2] ~ int8(scale=0.5) = Conv(%x, %w, %b)
return %y
"""

TDA4VM = load_target("tda4vm", REGISTRY)
AM68A = load_target("am68a", REGISTRY)


def network(body: str) -> Graph:
    """A graph of these lines."""
    return parse_graph(f'graph "n" {{\n{body}\n}}')


def request(graph: Graph, target: Target = AM68A, number: int | None = None, **more: Any) -> SolveRequest:
    """The rules of a device for a graph, with widths as its codes have them."""
    notes, options = Diagnostics(), more.pop("options", Options())
    placement = place(graph, target, options, notes)
    bits: dict[str, int] = {}
    for group in precision_classes(graph, target, placement):
        known = {name: graph.values[name].type.quant for name in group.tensors}
        widest = max((quant.bits for quant in known.values() if quant), default=8)
        bits |= {name: quant.bits if quant else widest for name, quant in known.items()}
    weights: dict[str, int] = {}
    for layer in layers(graph):
        operands = mac_operands(layer.nodes[0])
        quant = operands.weights.type.quant if operands else None
        weights[layer.name] = quant.bits if quant else 8
    return SolveRequest(
        target=target,
        rule=scale_rule(target, target.default_scale_type if number is None else number),
        placement=placement,
        plan=PrecisionPlan(bits, weights),
        ranges=more.pop("ranges", {}),
        diagnostics=notes,
        **more,
    )


def held(
    body: str, target: Target = AM68A, number: int | None = None, *, convert: bool = False, **more: Any
) -> tuple[Graph, Legal]:
    """A network after the rules of a device."""
    graph = network(body)
    return graph, legalize(graph, request(graph, target, number, **more), convert=convert)


def said(legal: Legal) -> list[tuple[str, str, str]]:
    """Code, tensor and action of all findings."""
    return [(found.code, found.tensor, found.action) for found in legal.findings]


def outputs(graph: Graph, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """What a graph computes with its codes."""
    return list(Session(to_model(graph, quantized=True)).run(dict(feeds)).values())


def feeds(graph: Graph, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Random numbers for all inputs."""
    generator = np.random.default_rng(seed)
    return {
        value.name: (generator.standard_normal(value.type.static_shape) * 3).astype(np.float32)
        for value in graph.inputs
    }


def codes(graph: Graph, name: str) -> NDArray[Any]:
    """The stored codes of a constant."""
    constant = graph.values[name].constant
    assert constant is not None
    return constant.array()


def real(graph: Graph, name: str) -> NDArray[Any]:
    """The numbers that a constant stands for."""
    quant = graph.values[name].type.quant
    data = codes(graph, name)
    return data if quant is None else dequantize(data, quant)


def with_bits(target: Target, *bits: int) -> Target:
    """A device with these widths alone."""
    return attrs.evolve(target, bits=bits)


def biased(bias: str, *, x: str = "int8(scale=0.5)", w: str = "int8(scale=0.5)", count: int = 2) -> str:
    """A convolution of 8-bit numbers with a bias."""
    return WITH_BIAS.format(x=x, w=w, count=count, bias=bias)
