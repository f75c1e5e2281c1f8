"""Runs a pipeline on a graph and checks what holds for every prepare pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.random import Generator

import lowtide_plugins.passes
from lowtide.ir import Array, Constant, DType, Graph, Node, TensorType, Value, print_graph, verify
from lowtide.ir.shapes import infer_types
from lowtide.passes import PassContext, PassRun, parse_pipeline, run_pipeline
from lowtide.plugin import Provider, Registry
from lowtide.runtime import Session, to_model

PREPARE = (
    "infer-shapes,fold-constants,infer-shapes,decompose,remove-identity,merge-transposes,merge-reshapes,"
    "merge-pads,decompose,fold-batch-norm,fold-scale-shift,fold-constants,remove-identity,prune,infer-shapes,"
    "fuse-layers"
)


def registry() -> Registry:
    made = Registry()
    made.add_plugin(lowtide_plugins.passes, Provider("lowtide", "0", "passes"))
    return made


def run_passes(graph: Graph, pipeline: str) -> tuple[PassRun, ...]:
    return run_pipeline(graph, parse_pipeline(pipeline, registry()), PassContext())


def execute(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    return Session(to_model(graph, quantized=False), optimize=False).run(feeds)


def random_feeds(graph: Graph, seed: int) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {
        value.name: random.normal(0.3, 1, value.type.static_shape).astype(value.type.dtype.numpy)
        for value in graph.inputs
    }


def deviation(expected: Mapping[str, Array], found: Mapping[str, Array]) -> float:
    """The largest difference of any output, relative to the largest number of that output."""
    assert list(expected) == list(found)
    worst = 0.0
    for name, exact in expected.items():
        assert exact.shape == found[name].shape
        assert exact.dtype == found[name].dtype
        largest = float(np.abs(exact).max(initial=1e-30))
        worst = max(worst, float(np.abs(exact.astype(np.float64) - found[name]).max(initial=0)) / largest)
    return worst


def check(
    graph: Graph, pipeline: str, *, seed: int = 0, bound: float = 1e-4, settles: bool = True
) -> tuple[PassRun, ...]:
    """Outputs are kept, the graph is valid, its types are what ONNX infers, a second run changes nothing."""
    infer_types(graph)
    feeds = random_feeds(graph, seed)
    before = execute(graph, feeds)
    runs = run_passes(graph, pipeline)
    assert deviation(before, execute(graph, feeds)) < bound
    verify(graph)
    assert infer_types(graph.clone()) == 0
    if not settles:
        return runs
    settled = print_graph(graph)
    again = run_passes(graph, pipeline)
    assert print_graph(graph) == settled
    assert not [run.text for run in again if run.outcome.changed]
    return runs


class Builder:
    """Graphs in a few words: values by name, constants by array or shape of random numbers."""

    def __init__(self, seed: int = 0) -> None:
        self.graph = Graph("test")
        self.random: Generator = np.random.default_rng(seed)

    def input(self, *shape: int, name: str = "x") -> Value:
        return self.graph.add_input(name, TensorType(DType.FLOAT32, shape))

    def constant(
        self,
        data: Array | Sequence[float] | Sequence[Sequence[float]] | float,
        dtype: str = "float32",
        name: str = "c",
    ) -> Value:
        return self.graph.add_constant(self.graph.fresh_name(name), Constant.of(np.asarray(data, dtype)))

    def ints(self, *entries: int) -> Value:
        return self.constant(np.array(entries), "int64")

    def weights(self, *shape: int) -> Value:
        return self.constant(self.random.normal(0, 1, shape), name="w")

    def node(self, op: str, *operands: Value | None, **attributes: float | str | tuple[int, ...]) -> Value:
        name = self.graph.fresh_name(op.lower())
        return self.add(op, operands, name, attributes).output

    def add(
        self,
        op: str,
        operands: Sequence[Value | None],
        name: str,
        attributes: Mapping[str, int | float | str | tuple[int, ...]],
    ) -> Node:
        unknown = TensorType(DType.FLOAT32, None)
        return self.graph.add_node(op, list(operands), [(name, unknown)], attributes)

    def batch_norm(self, value: Value, channels: int) -> Value:
        parts = [self.random.normal(1, 0.3, channels) for _ in range(3)]
        variance = self.random.uniform(0.5, 2, channels)
        return self.node("BatchNormalization", value, *(self.constant(part) for part in (*parts, variance)))

    def done(self, *outputs: Value) -> Graph:
        self.graph.set_outputs(outputs)
        infer_types(self.graph)
        return self.graph


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph]


def reasons(runs: Sequence[PassRun]) -> list[str]:
    return [refusal.reason for run in runs for refusal in run.outcome.refusals]
