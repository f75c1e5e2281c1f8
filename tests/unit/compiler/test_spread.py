from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

import lowtide
from lowtide.compiler.spread import MOST_CHANNELS, weight_spread
from lowtide.ir import Constant, Graph, Layer, QuantParams, TensorType, layers
from support import CALIBRATION, MODEL


def convolution(weights: NDArray[np.generic], quant: QuantParams | None = None) -> Layer:
    graph = Graph("small")
    outputs, inputs = weights.shape[:2]
    x = graph.add_input("x", TensorType("float32", [1, inputs, 4, 4]))
    w = graph.add_constant("w", Constant.of(weights), TensorType("float32", weights.shape, quant))
    node = graph.add_node("Conv", [x, w], [("y", TensorType("float32", [1, outputs, 4, 4]))])
    graph.set_outputs([node.output])
    return layers(graph)[0]


def test_float_weights_have_no_scale() -> None:
    weights = np.array([[-3.0, 1.0], [0.5, 0.25]], np.float32).reshape(2, 2, 1, 1)
    found = weight_spread(convolution(weights))
    assert found is not None
    assert (found.channels, found.largest, found.scale) == (2, (3.0, 0.5), ())


@pytest.mark.parametrize(
    ("scale", "largest"), [((0.5,), (63.5, 1.0)), ((0.5, 2.0), (63.5, 4.0))], ids=["tensor", "channel"]
)
def test_codes_are_shown_as_the_numbers_they_stand_for(
    scale: Sequence[float], largest: tuple[float, ...]
) -> None:
    codes = np.array([[-127, 3], [2, 0]], np.int8).reshape(2, 2, 1, 1)
    quant = QuantParams("int8", scale, 0, 0 if len(scale) > 1 else None)
    found = weight_spread(convolution(codes, quant))
    assert found is not None
    assert (found.largest, found.scale) == (largest, tuple(scale))


def test_many_channels_are_joined_into_runs_that_keep_their_largest() -> None:
    weights = np.zeros((1000, 1, 1, 1), np.float32)
    weights[0], weights[999] = 5.0, -7.0
    found = weight_spread(convolution(weights))
    assert found is not None
    assert (found.channels, len(found.largest)) == (1000, MOST_CHANNELS)
    assert (found.largest[0], found.largest[-1], sum(found.largest)) == (5.0, 7.0, 12.0)


def test_layers_name_what_they_read_and_only_those_with_weights_have_a_spread() -> None:
    report = lowtide.compile(MODEL, target="tda4vm", data=str(CALIBRATION), frames=2).report
    known = {entry.name for entry in report.inputs} | {layer.name for layer in report.layers}
    assert report.layers[0].inputs == ("image",)
    assert all(layer.inputs and set(layer.inputs) <= known for layer in report.layers)
    assert {layer.name for layer in report.layers if layer.weights} == {
        layer.name for layer in report.layers if layer.weight_bits
    }
