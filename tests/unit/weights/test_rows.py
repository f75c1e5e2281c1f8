"""Weights that have no row for each output."""

from __future__ import annotations

import numpy as np
import pytest

from lowtide.passes import Pass
from lowtide_plugins.weights.clip import ClipWeights
from lowtide_plugins.weights.reconstruct import Reconstruct
from lowtide_plugins.weights.rounding import RoundWeights
from unit.weights.benches import Bench, Maker

STEPS: tuple[Pass, ...] = (
    Reconstruct(),
    RoundWeights(),
    ClipWeights(),
    ClipWeights(method="mse"),
)


@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("shape", [(16,), (4, 16, 8), (1, 4, 16, 8)])
def test_products_with_other_than_one_matrix_are_refused_and_stay(step: Pass, shape: tuple[int, ...]) -> None:
    make = Maker(np.random.default_rng(5))
    x = make.input(*(shape[:-2] or (1,)), 6, 16)
    made = make.node("MatMul", [x, make.constant(make.generator.normal(size=shape))])
    bench = Bench(make.done(made))
    before = bench.graph.clone()
    outcome = bench.run(step)
    assert not outcome.changed
    assert bench.graph == before
    reasons = [refusal.reason for refusal in outcome.refusals]
    assert reasons == [f"MatMul with weights of {len(shape)} dimensions; expected 2."]


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_transposed_convolutions_are_refused(step: Pass) -> None:
    make = Maker(np.random.default_rng(5))
    weights = make.constant(np.random.default_rng(6).normal(size=(4, 3, 2, 2)))
    up = make.node("ConvTranspose", [make.input(1, 4, 4, 4), weights], kernel_shape=(2, 2), strides=(2, 2))
    outcome = Bench(make.done(up), "am68a", 4).run(step)
    assert not outcome.changed
    (refusal,) = outcome.refusals
    assert "ConvTranspose" in refusal.reason
    assert "it would have to be a Conv or a product" in refusal.reason


def test_convolutions_along_a_line_can_be_clipped_and_nothing_else() -> None:
    make = Maker(np.random.default_rng(5))
    weights = make.generator.normal(size=(4, 3, 5))
    weights[0, 0, 0] = 100.0
    line = make.node("Conv", [make.input(1, 3, 16), make.constant(weights)], kernel_shape=(5,))
    graph = make.done(line)
    assert Bench(graph, "generic").run(ClipWeights()).counters == {"clipped": 1}
    for step in (Reconstruct(), RoundWeights()):
        (refusal,) = Bench(graph, "generic").run(step).refusals
        assert refusal.reason == "Conv with weights of 3 dimensions; expected 4."
