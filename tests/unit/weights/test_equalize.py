"""Scaling of channels between layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import lowtide
from lowtide.compiler.run import input_specs
from lowtide.data import open_data
from lowtide.errors import PassError
from lowtide.ir import Constant, Graph, Value, print_graph, verify
from lowtide.passes import PassContext, PassOutcome
from lowtide.runtime import Session, to_model
from lowtide_plugins.weights.channels import channel_groups
from lowtide_plugins.weights.equalize import Equalize
from support import CALIBRATION, MODEL
from unit.weights.benches import Bench, Maker, separable

Numbers = NDArray[Any]


def frames_of(graph: Graph, count: int = 6) -> Numbers:
    shape = graph.inputs[0].type.static_shape
    return np.random.default_rng(5).normal(0.2, 1.0, (count, *shape)).astype(np.float32)


def equalize(graph: Graph, step: Equalize | None = None) -> tuple[Graph, PassOutcome]:
    made = graph.clone()
    frames = open_data(frames_of(graph), input_specs(graph))
    outcome = (step or Equalize()).run(made, PassContext(frames=frames))
    verify(made)
    return made, outcome


def difference(first: Graph, second: Graph) -> float:
    """Of the outputs over the frames that were learned from, by the largest output."""
    sessions = [Session(to_model(graph, quantized=False)) for graph in (first, second)]
    worst = 0.0
    for frame in frames_of(first):
        one, two = (list(session.run({"x": frame}).values()) for session in sessions)
        for real, made in zip(one, two, strict=True):
            worst = max(worst, float(np.abs(real - made).max() / max(np.abs(real).max(), 1e-6)))
    return worst


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    """Chains of the layers that carry factors, and of some that do not."""
    make = Maker(np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    x = make.conv(make.input(1, 3, 8, 8), 4, 3, spread=1.0)
    for _ in range(draw(st.integers(1, 5))):
        match draw(
            st.sampled_from(["point", "deep", "relu", "clip", "add", "pool", "sigmoid", "pad", "leaky"])
        ):
            case "point":
                x = make.conv(x, 4, spread=1.5)
            case "deep":
                x = make.conv(x, 4, 3, spread=2.0, depthwise=True)
            case "relu":
                x = make.node("Relu", [x])
            case "clip":
                x = make.clip(x, draw(st.sampled_from([0.5, 2.0, 6.0])))
            case "add":
                x = make.node("Add", [x, make.conv(x, 4, 3)])
            case "pool":
                x = make.node("AveragePool", [x], kernel_shape=(3, 3), pads=(1, 1, 1, 1))
            case "sigmoid":
                x = make.node("Sigmoid", [x])
            case "leaky":
                x = make.node("LeakyRelu", [x], alpha=0.1)
            case _:
                pads = make.graph.add_constant(
                    make.graph.fresh_name("pads"), Constant.of(np.array([0, 0, 1, 0, 0, 0, 0, 1], np.int64))
                )
                x = make.node("Pad", [x, pads])
    x = make.node("GlobalAveragePool", [make.conv(x, 6, 3)])
    flat = make.node("Flatten", [x])
    weights = make.constant(make.generator.normal(size=(6, 3)))
    return make.done(make.node("Gemm", [flat, weights]))


@settings(max_examples=40)
@given(networks())
def test_the_float_network_computes_the_same(graph: Graph) -> None:
    made, _ = equalize(graph)
    assert difference(graph, made) < 1e-4


def test_uneven_channels_lose_less_to_rounding() -> None:
    make = Maker(np.random.default_rng(3))
    x = make.input(1, 8, 8, 8)
    first = make.node("Relu", [make.conv(x, 16, spread=2.5)])
    graph = make.done(make.conv(first, 8))
    before = Bench(graph)
    after = Bench(equalize(graph)[0])
    assert after.noise() < before.noise() / 2


def test_channels_at_the_limit_of_a_clip_stay_and_others_are_not_scaled_beyond_it() -> None:
    graph = separable(11, high=1.5, spread=2.0)
    made, outcome = equalize(graph)
    assert outcome.counters["channels"] > 0
    names = [node.output.name for node in graph if node.op == "Clip"]
    tops: list[Numbers] = []
    for network in (graph, made):
        session = Session(to_model(network, quantized=False, outputs=names))
        runs = [session.run({"x": frame}) for frame in frames_of(graph)]
        tops.append(
            np.stack([np.max([run[name][0].max(axis=(1, 2)) for run in runs], axis=0) for name in names])
        )
    reached = tops[0] >= 1.5
    assert reached.any()
    np.testing.assert_allclose(tops[1][reached], 1.5)
    assert tops[1].max() <= 1.5


def test_all_tensors_of_a_residual_chain_have_one_factor() -> None:
    make = Maker(np.random.default_rng(2))
    x = make.conv(make.input(1, 3, 6, 6), 5, spread=1.0)
    for _ in range(2):
        branch = make.node("Relu", [make.conv(x, 7)])
        x = make.node("Add", [x, make.conv(branch, 5, spread=1.0)])
    graph = make.done(make.conv(x, 2))
    groups = channel_groups(graph)
    assert sorted(group.channels for group in groups) == [5, 7, 7]
    (chain,) = [group for group in groups if group.channels == 5]
    assert (len(chain.producers), len(chain.consumers)) == (3, 3)


def _between(op: str) -> Graph:
    make = Maker(np.random.default_rng(1))
    first = make.conv(make.input(1, 3, 6, 6), 4, spread=1.0)
    middle: Value = make.node(op, [first]) if op else first
    last = make.conv(middle, 2)
    return make.done(last, first) if not op else make.done(last)


@pytest.mark.parametrize("op", ["Sigmoid", "Tanh", "HardSwish", ""])
def test_nothing_moves_through_what_does_not_scale_or_is_returned(op: str) -> None:
    graph = _between(op)
    made, outcome = equalize(graph)
    assert not outcome.changed
    assert made == graph


def test_weights_that_two_products_share_are_scaled_for_each() -> None:
    make = Maker(np.random.default_rng(4))
    x = make.conv(make.input(1, 3, 4, 4), 3, spread=1.5)
    shared = make.constant(make.generator.normal(size=(3, 3, 1, 1)))
    first = make.node("Relu", [make.node("Conv", [x, shared], kernel_shape=(1, 1))])
    graph = make.done(make.node("Conv", [first, shared], kernel_shape=(1, 1)))
    made, outcome = equalize(graph)
    assert outcome.changed
    assert difference(graph, made) < 1e-4


def test_a_channel_that_never_fires_and_one_of_zeros_do_no_harm() -> None:
    graph = separable(6)
    weights, bias = graph.nodes[2].value(1), graph.nodes[2].value(2)
    assert weights.constant is not None
    assert bias.constant is not None
    wild, shut = weights.constant.array().copy(), bias.constant.array().copy()
    wild[1], shut[2] = 0.0, -1000.0
    graph.set_constant(weights, Constant.of(wild))
    graph.set_constant(bias, Constant.of(shut))
    made, _ = equalize(graph)
    assert difference(graph, made) < 1e-4
    assert all(np.isfinite(v.constant.array()).all() for v in made.constants if v.constant is not None)


def compiled(target: str, recipe: str) -> lowtide.CompileResult:
    options = {"recipe": f"use calibrator minmax{recipe}"}
    return lowtide.compile(MODEL, target=target, data=str(CALIBRATION), options=options)


def test_a_network_with_dead_channels_gains_where_a_tensor_has_one_scale() -> None:
    (before,), (after,) = (
        compiled("tda4vm", recipe).report.outputs for recipe in ("", "; use condition equalize")
    )
    assert after.sqnr_db > before.sqnr_db + 5


def test_where_all_channels_have_scales_nothing_is_scaled_and_the_report_says_why() -> None:
    before, after = (compiled("am68a", recipe) for recipe in ("", "; use condition equalize"))
    assert print_graph(after.graph) == print_graph(before.graph)
    (ran,) = (found for found in after.report.passes if found.text == "equalize")
    assert ran.refusals
    assert all("a scale for each channel" in refusal for refusal in ran.refusals)


def test_no_data_and_options_out_of_range_are_named() -> None:
    graph = separable(0)
    with pytest.raises(PassError, match="calibration frames"):
        Equalize().run(graph, PassContext())
    for step, words in (
        (Equalize(limit=0.5), r"limit: expected at least 1, found 0\.5"),
        (Equalize(margin=1.0), r"margin: expected at least 0 and below 1, found 1\.0"),
        (Equalize(iterations=0), "iterations: expected at least 1, found 0"),
        (Equalize(frames=0), "frames: expected at least 1, found 0"),
    ):
        with pytest.raises(PassError, match=f"equalize, {words}"):
            equalize(graph, step)
