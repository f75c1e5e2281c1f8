"""Biases against what the quantized network reads."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from lowtide.errors import PassError
from lowtide.exact import ExactSession
from lowtide.ir import Array, Graph
from lowtide.options import CompileOptions
from lowtide.passes import PassContext
from lowtide.quantize.operands import mac_operands
from lowtide.runtime import Session, dequantize, to_model
from lowtide_plugins.weights.calibrate_bias import CalibrateBias
from unit.weights.benches import Bench, Maker, separable

ITERATIVE = CalibrateBias(method="iterative", iterations=40, factor=0.5)


def mean_error(bench: Bench) -> float:
    """The largest mean error of an output channel over frames and positions, by the power of the outputs."""
    plain = Session(to_model(bench.reference, quantized=False))
    exact = ExactSession(bench.graph, bench.device.profile)
    errors: list[Array] = []
    power = 0.0
    for feed in bench.feeds:
        (real,), (made,) = plain.run(feed).values(), exact.run(feed).values()
        errors.append((made - real).mean(axis=(0, 2, 3)))
        power += float(np.square(real).mean()) / len(bench.feeds)
    return float(np.abs(np.mean(errors, axis=0)).max() / np.sqrt(power))


@pytest.mark.parametrize("step", [CalibrateBias(), ITERATIVE], ids=["sequential", "iterative"])
def test_the_mean_error_of_the_outputs_goes(step: CalibrateBias) -> None:
    bench = Bench(separable(1))
    before, noise = mean_error(bench), bench.noise()
    outcome = bench.run(step)
    assert outcome.counters["calibrated"] > 0
    assert mean_error(bench) < before * 0.6
    assert bench.noise() < noise


def test_the_closed_form_takes_out_all_of_the_mean_error_up_to_a_step_of_the_output() -> None:
    bench = Bench(separable(2), "am68a", 4)
    bench.run(CalibrateBias(rows=64))
    assert mean_error(bench) < 0.01


def test_it_touches_nothing_but_biases() -> None:
    bench = Bench(separable(0))
    before = bench.graph.clone()
    bench.run(CalibrateBias())
    for node in bench.graph:
        operands = mac_operands(node)
        if operands is not None:
            twin = before.values[operands.weights.name]
            assert (operands.weights.constant, operands.weights.type) == (twin.constant, twin.type)


def test_a_second_run_of_the_closed_form_changes_nothing() -> None:
    bench = Bench(separable(0))
    assert bench.run(CalibrateBias()).changed
    assert not bench.run(CalibrateBias()).changed


def test_iterations_and_factor_come_from_the_options_unless_the_pass_has_its_own() -> None:
    options = attrs.evolve(CompileOptions(), calibration_iterations=3, bias_calibration_factor=0.25)
    graphs: list[Graph] = []
    for step, given in (
        (CalibrateBias(method="iterative"), options),
        (CalibrateBias(method="iterative", iterations=3, factor=0.25), None),
        (CalibrateBias(method="iterative", iterations=4, factor=0.25), options),
    ):
        bench = Bench(separable(0))
        bench.run(step, given)
        graphs.append(bench.graph)
    assert graphs[0] == graphs[1]
    assert graphs[0] != graphs[2]


def test_the_factor_is_halved_when_all_frames_have_been_seen() -> None:
    """With one frame each iteration is an epoch, so at most twice the first step is ever made."""
    make = Maker(np.random.default_rng(0))
    graph = make.done(make.conv(make.input(1, 4, 4, 4), 4, spread=2.0))
    moved: list[Array] = []
    for iterations in (1, 30):
        bench = Bench(graph, "am68a", 4, frames=1)
        before = _bias(bench)
        bench.run(CalibrateBias(method="iterative", iterations=iterations, factor=0.2))
        moved.append(np.abs(_bias(bench) - before).sum())
    assert 1.3 < moved[1] / moved[0] < 2.05


def _bias(bench: Bench) -> Array:
    value = bench.graph.nodes[0].value(2)
    assert value.constant is not None
    assert value.type.quant is not None
    return dequantize(value.constant.array(), value.type.quant)


def test_what_has_no_bias_to_correct_is_refused() -> None:
    make = Maker(np.random.default_rng(5))
    x = make.input(2, 8)
    graph = make.done(make.node("MatMul", [x, make.constant(make.generator.normal(size=(8, 3)))]))
    for step in (CalibrateBias(), ITERATIVE):
        outcome = Bench(graph, "am68a", 4).run(step)
        assert not outcome.changed
        assert "no bias operand" in outcome.refusals[0].reason


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (CalibrateBias(method="sequental"), "method: expected sequential or iterative, found 'sequental'"),
        (CalibrateBias(method="iterative", iterations=0), "iterations: expected at least 1"),
        (CalibrateBias(method="iterative", factor=1.5), "factor: expected above 0 and at most 1"),
        (CalibrateBias(rows=0), "rows: expected at least 1"),
        (CalibrateBias(batch=0), "batch: expected at least 1"),
        (CalibrateBias(rounds=-1), "rounds: expected at least 0"),
        (CalibrateBias(memory=-1), "memory: expected at least 0"),
    ],
)
def test_options_out_of_range_are_named(step: CalibrateBias, words: str) -> None:
    with pytest.raises(PassError, match=words):
        Bench(separable(0)).run(step)


def test_it_needs_a_quantized_graph_and_frames() -> None:
    with pytest.raises(PassError, match="calibration frames"):
        CalibrateBias().run(Graph(), PassContext())
