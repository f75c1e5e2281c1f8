"""Scaling of channels through x * sigmoid(x)."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lowtide.errors import PassError
from lowtide.ir import Constant, Graph, Value, print_graph, verify
from lowtide.passes import PassContext, PassOutcome
from lowtide.runtime import Session, to_model
from lowtide.target import Placement
from lowtide_plugins.weights.gates import EqualizeGates, gates_of
from unit.weights.benches import Bench, Maker


def silu(make: Maker, x: Value) -> Value:
    gate = make.node("Sigmoid", [x])
    return make.layer(gate, make.node("Mul", [x, gate]))


def gated(seed: int, spread: float, *, blocks: int = 2) -> Graph:
    """Pointwise and depthwise layers with SiLU; channels between them differ by up to e^(2 spread)."""
    make = Maker(np.random.default_rng(seed))
    x = make.input(1, 3, 8, 8)
    for _ in range(blocks):
        first = make.conv(x, 8)
        x = silu(make, first)
        second = make.conv(x, 8, 3, depthwise=True)
        sizes: NDArray[np.float32] = np.exp(make.generator.uniform(-spread, spread, 8)).astype(np.float32)
        sizes = sizes.reshape(-1, 1, 1, 1)
        scale(make, first, 1, sizes)
        scale(make, first, 2, sizes.ravel())
        scale(make, second, 1, np.reciprocal(sizes))
        x = silu(make, second)
    return make.done(make.conv(x, 4))


def scale(make: Maker, value: Value, operand: int, factors: NDArray[np.float32]) -> None:
    assert value.producer is not None
    known = value.producer.value(operand)
    assert known.constant is not None
    make.graph.set_constant(known, Constant.of(known.constant.array() * factors))


def equalized(graph: Graph, step: EqualizeGates | None = None) -> tuple[Graph, PassOutcome]:
    made = graph.clone()
    outcome = (step or EqualizeGates()).run(made, PassContext(frames=Bench(graph).frames))
    verify(made)
    return made, outcome


def difference(first: Graph, second: Graph) -> float:
    """Of the output over the frames, by the largest element."""
    worst = 0.0
    sessions = [Session(to_model(graph, quantized=False)) for graph in (first, second)]
    for feed in Bench(first).feeds:
        (real,), (made,) = (list(session.run(feed).values()) for session in sessions)
        worst = max(worst, float(np.abs(real - made).max() / np.abs(real).max()))
    return worst


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.floats(0.0, 4.0), st.sampled_from([0.0, 3.0, 12.0]))
def test_the_float_network_computes_the_same(seed: int, spread: float, gain: float) -> None:
    graph = gated(seed, spread)
    made, outcome = equalized(graph, EqualizeGates(gain=gain))
    assert outcome.changed is (print_graph(made) != print_graph(graph))
    assert difference(graph, made) < 1e-4


def test_channels_of_very_different_size_lose_far_less_to_rounding() -> None:
    graph = gated(4, 3.0)
    made, outcome = equalized(graph)
    assert outcome.counters["gates"] > 0
    assert Bench(made).noise() < Bench(graph).noise() / 4
    assert Bench(made, "am68a", 4).noise() < Bench(graph, "am68a", 4).noise() / 2


def test_factors_are_powers_of_two_whose_inverses_the_gate_multiplies_with() -> None:
    graph = gated(4, 3.0)
    made, _ = equalized(graph)
    found = [node for node in made if node.output.name.endswith("_gate")]
    spreads: list[float] = []
    for node in found:
        constant = node.value(1).constant
        assert constant is not None
        factors = constant.array()
        assert factors.shape == (1, 8, 1, 1)
        np.testing.assert_array_equal(np.log2(factors), np.round(np.log2(factors)))
        spreads.append(float(factors.max() / factors.min()))
    assert max(spreads) >= 16


def test_a_gate_whose_channels_are_alike_stays_one_layer_and_the_pass_says_why() -> None:
    graph = gated(4, 0.0)
    made, outcome = equalized(graph)
    assert print_graph(made) == print_graph(graph)
    assert len(outcome.refusals) == len(gates_of(graph)) == 4
    assert all("less than 12 dB" in refusal.reason for refusal in outcome.refusals)


def test_what_something_else_reads_or_the_network_returns_is_not_split() -> None:
    make = Maker(np.random.default_rng(1))
    first = make.conv(make.input(1, 3, 8, 8), 8, spread=3.0)
    returned = make.conv(silu(make, first), 8, spread=3.0)
    x = silu(make, returned)
    read = make.conv(x, 8, spread=3.0)
    x = make.node("Add", [silu(make, read), read])
    graph = make.done(make.conv(x, 4), returned)
    assert [gate.source for gate in gates_of(graph)] == [first]


def test_a_gate_on_the_host_is_left_alone() -> None:
    graph = gated(4, 3.0)
    bench = Bench(graph)
    placed = bench.request.placement
    away = Placement(tuple(attrs.evolve(entry, device="host") for entry in placed.assignments))
    for placement, changed in ((placed, True), (away, False)):
        made = graph.clone()
        outcome = EqualizeGates().run(made, PassContext(frames=bench.frames, placement=placement))
        assert outcome.changed is changed


def test_a_network_without_gates_is_not_run() -> None:
    make = Maker(np.random.default_rng(1))
    graph = make.done(make.conv(make.input(1, 3, 8, 8), 4))

    class NoFrames:
        """Fails when asked for anything."""

    assert not EqualizeGates().run(graph, PassContext(frames=NoFrames())).changed  # type: ignore[arg-type]  # none of its methods is to be called


def test_no_data_and_options_out_of_range_are_named() -> None:
    graph = gated(0, 1.0)
    with pytest.raises(PassError, match="calibration frames"):
        EqualizeGates().run(graph, PassContext())
    for step, words in (
        (EqualizeGates(limit=0.5), r"limit: expected at least 1, found 0\.5"),
        (EqualizeGates(gain=-1.0), r"gain: expected at least 0, found -1\.0"),
        (EqualizeGates(iterations=0), "iterations: expected at least 1, found 0"),
    ):
        with pytest.raises(PassError, match=f"equalize-gates, {words}"):
            equalized(graph, step)
