"""Weights and biases that make up for the errors in front of them."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from lowtide.errors import DataError, PassError
from lowtide.ir import Constant, Graph, verify
from lowtide.passes import PassContext
from lowtide.quantize.legal import legalize
from lowtide.quantize.numbers import quantize
from lowtide.quantize.operands import mac_operands
from lowtide.quantize.solve import solve
from lowtide_plugins.weights.bias import CorrectBias
from lowtide_plugins.weights.reconstruct import Reconstruct
from lowtide_plugins.weights.rounding import RoundWeights
from unit.weights.benches import Bench, Maker, separable

RULES = [("tda4vm", 0), ("tda4vm", 1), ("am68a", 4)]


def with_dead_channel() -> Graph:
    """Channel 3 of the first depthwise layer has large weights and never activates."""
    reference = separable(4, spread=0.0)
    weights, bias = reference.nodes[2].value(1), reference.nodes[2].value(2)
    assert weights.constant is not None
    assert bias.constant is not None
    wild, shut = weights.constant.array().copy(), bias.constant.array().copy()
    wild[3], shut[3] = wild[3] * 60, -5000.0
    reference.set_constant(weights, Constant.of(wild))
    reference.set_constant(bias, Constant.of(shut))
    return reference


@pytest.mark.parametrize(("target", "number"), RULES)
def test_a_network_with_uneven_channels_is_nearer_to_float_than_by_rounding_and_correcting(
    target: str, number: int
) -> None:
    gains: list[float] = []
    for seed in range(2):
        bench = Bench(separable(seed), target, number)
        plain = bench.graph.clone()
        bench.run(RoundWeights())
        bench.run(CorrectBias())
        simple = bench.noise()
        bench.graph = plain
        bench.run(Reconstruct())
        gains.append(10 * np.log10(simple / bench.noise()))
    assert np.mean(gains) > 0.3


def test_least_squares_absorb_what_layers_in_front_have_lost() -> None:
    ratios: list[float] = []
    for seed in range(3):
        bench = Bench(separable(seed))
        plain = bench.graph.clone()
        bench.run(Reconstruct(least_squares=False))
        without = bench.noise()
        bench.graph = plain
        bench.run(Reconstruct())
        ratios.append(bench.noise() / without)
    assert np.exp(np.mean(np.log(ratios))) < 0.95


@pytest.mark.parametrize(("target", "number"), RULES)
def test_the_device_can_hold_what_it_chooses(target: str, number: int) -> None:
    bench = Bench(separable(1), target, number)
    bench.run(Reconstruct())
    verify(bench.graph)
    assert legalize(bench.graph, bench.request, convert=False).refused == ()


@pytest.mark.parametrize("number", [0, 1])
def test_scales_fall_by_powers_of_two_where_requantization_shifts(number: int) -> None:
    bench = Bench(with_dead_channel(), "tda4vm", number, channel_wise=True)
    before = {v.name: v.type.quant for v in bench.graph.constants if v.type.quant is not None}
    bench.run(Reconstruct())
    fallen = 0
    for node in bench.graph:
        operands = mac_operands(node)
        assert operands is None or operands.weights.type.quant is not None
        if operands is None or operands.weights.type.quant is None:
            continue
        old = before[operands.weights.name]
        assert old is not None
        ratios = np.log2(np.array(old.scale) / np.array(operands.weights.type.quant.scale))
        np.testing.assert_allclose(ratios, np.rint(ratios), atol=1e-5)
        assert (ratios > -0.5).all()
        assert np.log2(max(operands.weights.type.quant.scale) / min(operands.weights.type.quant.scale)) < 8.5
        fallen += int((ratios > 0.5).any())
    assert fallen > 0


def test_activations_keep_their_scales() -> None:
    bench = Bench(separable(0))
    before = {v.name: v.type for node in bench.graph for v in node.outputs}
    bench.run(Reconstruct())
    assert {v.name: v.type for node in bench.graph for v in node.outputs} == before


def test_a_second_run_changes_nothing() -> None:
    bench = Bench(separable(0))
    assert bench.run(Reconstruct()).changed
    once = bench.graph.clone()
    assert not bench.run(Reconstruct()).changed
    assert bench.graph == once


def test_layers_in_front_of_another_range_are_not_fitted_again_and_nothing_else_changes() -> None:
    bench, known = Bench(separable(2)), dict[object, object]()
    output = bench.reference.outputs[0].name
    whole = bench.request.ranges[output]
    narrow = attrs.evolve(whole, min=whole.min / 4, max=whole.max / 4)
    other = attrs.evolve(bench.request, ranges={**bench.request.ranges, output: narrow})
    made: list[Graph] = []
    for keeps in (known, {}):
        graph = bench.reference.clone()
        solve(graph, other)
        if keeps is known:
            Reconstruct().run(bench.graph, attrs.evolve(bench.context(), known=known))
            assert len(known) == 6
        Reconstruct().run(graph, attrs.evolve(bench.context(), request=other, known=keeps))
        made.append(graph)
    assert len(known) == 7
    assert made[0] == made[1]


def test_results_of_a_few_runs_are_kept() -> None:
    bench, known = Bench(separable(2)), dict[object, object]({"of another pass": 1})
    for rounds in range(6):
        Reconstruct(rounds=rounds).run(bench.graph.clone(), attrs.evolve(bench.context(), known=known))
    assert len(known) == 1 + 4 * 6


def test_values_in_files_give_the_same_codes_as_values_in_memory() -> None:
    one, two = Bench(separable(3)), Bench(separable(3))
    one.run(Reconstruct())
    two.run(Reconstruct(memory=0))
    assert one.graph == two.graph


def test_without_any_of_its_steps_it_rounds_to_the_nearest() -> None:
    bench = Bench(separable(0))
    bench.run(Reconstruct(least_squares=False, scales=False, feedback=False))
    for node in bench.graph:
        operands, twin = mac_operands(node), mac_operands(bench.reference.values[node.output.name].producer)  # type: ignore[arg-type]
        if operands is None or twin is None:
            continue
        assert operands.weights.type.quant is not None
        assert operands.weights.constant is not None
        assert twin.weights.constant is not None
        real = twin.weights.constant.array()
        nearest = quantize(real, operands.weights.type.quant, half="away")
        assert np.array_equal(operands.weights.constant.array(), nearest)


def test_matrix_products_without_a_bias_are_reconstructed_too() -> None:
    make = Maker(np.random.default_rng(5))
    x = make.input(12, 16)
    hidden = make.node("MatMul", [x, make.constant(np.random.default_rng(6).normal(size=(16, 20)))])
    last = make.node("MatMul", [hidden, make.constant(np.random.default_rng(7).normal(size=(20, 4)))])
    bench = Bench(make.done(last), "am68a", 4)
    before = bench.noise()
    assert bench.run(Reconstruct()).counters["reconstructed"] == 2
    assert bench.noise() < before


def test_what_it_cannot_choose_is_refused_with_the_reason() -> None:
    make = Maker(np.random.default_rng(5))
    x = make.input(1, 4, 4, 4)
    weights = make.constant(np.random.default_rng(6).normal(size=(4, 3, 2, 2)))
    up = make.node("ConvTranspose", [x, weights], kernel_shape=(2, 2), strides=(2, 2))
    bench = Bench(make.done(up), "am68a", 4)
    outcome = bench.run(Reconstruct())
    assert not outcome.changed
    assert ["ConvTranspose" in refusal.reason for refusal in outcome.refusals] == [True]
    assert "limit is 2" in Bench(separable(0)).run(Reconstruct(most=2)).refusals[0].reason


def test_channels_that_never_activate_do_not_set_the_scale() -> None:
    bench = Bench(with_dead_channel())
    before = bench.noise()
    bench.run(Reconstruct())
    assert bench.noise() < before / 10


@pytest.mark.parametrize(
    ("step", "place"),
    [
        (Reconstruct(frames=0), "frames"),
        (Reconstruct(rows=0), "rows"),
        (Reconstruct(damp=-0.5), "damp"),
        (Reconstruct(damp=float("nan")), "damp"),
        (Reconstruct(halvings=-1), "halvings"),
    ],
)
def test_options_out_of_range_are_named(step: Reconstruct, place: str) -> None:
    with pytest.raises(PassError, match=f"reconstruct, {place}: expected at least"):
        Bench(separable(0)).run(step)


def test_it_needs_a_quantized_graph_and_frames() -> None:
    with pytest.raises(PassError, match="calibration frames"):
        Reconstruct().run(Graph(), PassContext())
    bench = Bench(separable(0))
    context = bench.context()
    from lowtide.compiler.run import input_specs
    from lowtide.data import open_data

    context.frames = open_data(list, input_specs(bench.reference))
    with pytest.raises(DataError, match="there are no frames"):
        Reconstruct().run(bench.graph, context)
