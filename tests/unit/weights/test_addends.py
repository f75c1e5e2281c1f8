"""Products that make up for what they are added to has lost."""

from __future__ import annotations

import numpy as np
import pytest

from lowtide.exact import ExactSession, find_profile
from lowtide.exact.codes import binary
from lowtide.ir import DType, Graph, QuantParams
from lowtide.runtime import Session, to_model
from lowtide_plugins.weights.addends import addends_of, tie_bias
from lowtide_plugins.weights.reconstruct import Reconstruct
from unit.weights.benches import Bench, Maker


def residual(seed: int, blocks: int = 8) -> Graph:
    """A stem, and blocks that each add two convolutions to what they read."""
    make = Maker(np.random.default_rng(seed))
    x = make.conv(make.input(1, 3, 8, 8), 8, 3)
    x = make.layer(x, make.node("Relu", [x]))
    for _ in range(blocks):
        first = make.conv(x, 8, 3)
        inner = make.layer(first, make.node("Relu", [first]))
        branch = make.layer(make.conv(inner, 8, 3))
        total = make.node("Add", [branch, x])
        x = make.layer(total, make.node("Relu", [total]))
    return make.done(x)


@pytest.mark.parametrize(("target", "number"), [("tda4vm", 0), ("tda4vm", 1), ("am68a", 4)])
def test_means_do_not_drift_along_a_chain_of_sums(target: str, number: int) -> None:
    ratios: list[float] = []
    for seed in range(8):
        bench = Bench(residual(seed), target, number)
        plain = bench.graph.clone()
        bench.run(Reconstruct(sums=False))
        without = drift(bench)
        bench.graph = plain
        bench.run(Reconstruct())
        ratios.append(drift(bench) / without)
    assert np.exp(np.mean(np.log(ratios))) < 0.6


def drift(bench: Bench) -> float:
    """The mean over channels of the squared mean error of the output."""
    plain = Session(to_model(bench.reference, quantized=False))
    exact = ExactSession(bench.graph, bench.device.profile)
    errors = [
        next(iter(exact.run(feed).values())).astype(np.float64) - next(iter(plain.run(feed).values()))
        for feed in bench.feeds
    ]
    return float(np.square(np.mean(errors, axis=(0, 1, 3, 4))).mean())


def test_of_two_products_that_are_added_the_later_one_makes_up_for_the_earlier() -> None:
    make = Maker(np.random.default_rng(0))
    x = make.input(1, 4, 4, 4)
    first, second = make.layer(make.conv(x, 4)), make.layer(make.conv(x, 4))
    bench = Bench(make.done(make.layer(make.node("Add", [second, first]))))
    found = addends_of(bench.graph, {first.name, second.name}, bench.device)
    assert [(name, addend.other.name) for name, addend in found.items()] == [(second.name, first.name)]


def test_a_product_that_is_read_elsewhere_or_spread_over_a_sum_keeps_its_own_target() -> None:
    make = Maker(np.random.default_rng(0))
    x = make.input(1, 4, 4, 4)
    twice, pooled = make.layer(make.conv(x, 4)), make.node("GlobalAveragePool", [x])
    spread = make.layer(make.conv(make.layer(pooled), 4))
    one, other = make.node("Add", [twice, x]), make.node("Add", [x, spread])
    bench = Bench(make.done(make.layer(one), make.layer(other), twice))
    assert addends_of(bench.graph, {twice.name, spread.name}, bench.device) == {}


@pytest.mark.parametrize(
    "scales", [(1.0, 1.0), (0.5, 1.0), (1.0, 0.25), (2.0, 1.0), (0.5, 0.125), (0.3137, 1.0)]
)
def test_what_rounding_is_expected_to_add_is_what_sums_of_codes_gain_on_average(
    scales: tuple[float, float],
) -> None:
    first, second, made = (QuantParams(DType.INT8, scale) for scale in (*scales, 1.0))
    profile = find_profile("shift")
    add = binary("Add", first, second, made, profile)
    assert add is not None
    codes = np.random.default_rng(0).integers(-32, 32, (2, 200_000))
    gained = add(codes[0], codes[1]) - codes[0] * scales[0] - codes[1] * scales[1]
    assert tie_bias(first, second, made, profile) == pytest.approx(gained.mean(), abs=4e-3)


def test_a_device_whose_ties_go_both_ways_is_expected_to_add_nothing() -> None:
    quants = [QuantParams(DType.INT8, scale) for scale in (0.5, 1.0, 1.0)]
    assert tie_bias(quants[0], quants[1], quants[2], find_profile("float32")) == 0.0
