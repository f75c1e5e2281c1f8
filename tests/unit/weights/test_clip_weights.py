"""Outliers among weights given up for a finer scale."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lowtide.errors import PassError
from lowtide.ir import Array, Constant, Graph
from lowtide.passes import PassContext
from lowtide.quantize.legal import legalize
from lowtide.quantize.operands import mac_operands
from lowtide.runtime import dequantize
from lowtide_plugins.weights.clip import ClipWeights, vendor_limit
from unit.weights.benches import Bench, separable


@pytest.mark.parametrize(
    ("weights", "limit"),
    [
        ([1.0, 1.0, 1.0, 40.0], 16 * (1 - 8 / 128)),  # 16 medians are a power of two already
        ([1.5, -1.5, 1.5, 40.0], 32 * (1 - 8 / 128)),
        ([1.0, 1.0, 1.0, 14.0], math.inf),  # not above 15
        ([2.0, 2.0, 2.0, 31.0], math.inf),  # not above 16 medians
        ([0.0, 0.0, 0.0, 40.0], math.inf),
    ],
)
def test_the_rule_of_the_vendor_in_numbers(weights: list[float], limit: float) -> None:
    assert vendor_limit(np.array(weights)) == limit


def with_outlier(size: float) -> Graph:
    graph = separable(0, spread=0.2)
    weights = graph.nodes[2].value(1)
    assert weights.constant is not None
    array = np.clip(weights.constant.array(), -1.0, 1.0).copy()
    array[3, 0, 1, 1] = size
    graph.set_constant(weights, Constant.of(array))
    return graph


def real_and_stored(bench: Bench, at: int) -> tuple[Array, Array, float]:
    operands = mac_operands(bench.graph.nodes[at])
    twin = mac_operands(bench.reference.nodes[at])
    assert operands is not None
    assert twin is not None
    assert twin.weights.constant is not None
    assert operands.weights.constant is not None
    assert operands.weights.type.quant is not None
    stored = dequantize(operands.weights.constant.array(), operands.weights.type.quant)
    return twin.weights.constant.array(), stored, operands.weights.type.quant.scale[0]


def test_an_outlier_saturates_at_the_power_of_two_above_the_limit_of_the_vendor() -> None:
    bench = Bench(with_outlier(100.0))
    outcome = bench.run(ClipWeights())
    assert outcome.counters == {"clipped": 1}
    real, stored, scale = real_and_stored(bench, 2)
    expected = 2.0 ** math.ceil(math.log2(vendor_limit(real)))
    assert scale * 128 == expected
    assert stored.max() == scale * 127
    kept = np.abs(real) < expected - scale
    assert np.abs(stored - real)[kept].max() <= scale / 2 * 1.001
    assert legalize(bench.graph, bench.request, convert=False).refused == ()


def test_tensors_without_outliers_stay() -> None:
    bench = Bench(with_outlier(1.0))
    before = bench.graph.clone()
    assert not bench.run(ClipWeights()).changed
    assert bench.graph == before


@pytest.mark.parametrize(("target", "number"), [("tda4vm", 0), ("tda4vm", 1), ("am68a", 4)])
def test_the_search_never_raises_the_squared_error(target: str, number: int) -> None:
    before, after = (Bench(separable(5), target, number) for _ in range(2))
    after.run(ClipWeights(method="mse"))
    for at, node in enumerate(before.graph.nodes):
        if node.op == "Conv":
            errors = [
                np.square(stored - real).sum()
                for real, stored, _ in (real_and_stored(after, at), real_and_stored(before, at))
            ]
            bias_step = 0.05 * errors[1]  # the split format of biases takes part in the choice
            assert errors[0] <= errors[1] + bias_step
    assert legalize(after.graph, after.request, convert=False).refused == ()


def test_unknown_methods_and_floats_are_named() -> None:
    with pytest.raises(PassError, match="clip-weights, method: expected vendor or mse, found 'mes'"):
        Bench(separable(0)).run(ClipWeights(method="mes"))
    with pytest.raises(PassError, match="clip-weights, halvings: expected at least 0, found -1"):
        Bench(separable(0)).run(ClipWeights(halvings=-1))
    with pytest.raises(PassError, match="needs a quantized graph"):
        ClipWeights().run(Graph(), PassContext())
