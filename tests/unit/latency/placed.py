"""Small placed networks, and models with round figures."""

from __future__ import annotations

from functools import cache

from latency_nets.net import Net
from lowtide.diagnostics import Diagnostics
from lowtide.ir import Graph
from lowtide.latency import LatencyProblem
from lowtide.options import CompileOptions
from lowtide.plugin import Registry, discover
from lowtide.target import load_target, place
from lowtide_plugins.latency.roofline import Roofline

ROUND = Roofline(
    clock_ghz=1.0,
    array=64,
    depthwise_rate=64.0,
    vector_rate=32.0,
    function_rate=4.0,
    on_chip_kb=1024.0,
    on_chip_gbps=64.0,
    ddr_gbps=10.0,
    layer_us=0.0,
    host_gops=1.0,
)


@cache
def installed() -> Registry:
    return discover()


def problem(graph: Graph, target: str = "am68a", **options: object) -> LatencyProblem:
    device = load_target(target, installed())
    placement = place(graph, device, CompileOptions(**options), Diagnostics())  # type: ignore[arg-type]
    return LatencyProblem(graph, device, placement)


def mixed() -> Graph:
    """One of everything that the built-in model tells apart."""
    net = Net("mixed", 32)
    x = net.conv(net.input, 16, 3)
    x = net.add(net.conv(net.depthwise(x), 16, act=False), x)
    y = net.sigmoid(net.pool(x, 3, 1))
    z = net.concat([x, net.upsample(net.conv(y, 24, 3, 2, group=8), 2)])
    return net.done(net.classifier(z, 10), net.argmax(z))
