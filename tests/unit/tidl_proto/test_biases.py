"""Biases in the proto."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

import lowtide
from lowtide.ir import Array, Graph, parse_graph
from lowtide.plugin import discover
from lowtide_plugins.tidl_proto.build import build
from lowtide_plugins.tidl_proto.records import LayerParams

REGISTRY = discover()


def compiled_graph(
    graph: Graph, frames: Array, options: Mapping[str, object], target: str = "tda4vm"
) -> lowtide.CompileResult:
    return lowtide.compile(graph, target=target, data={"x": frames}, options=options, registry=REGISTRY)


def biased(bias: float) -> Graph:
    return parse_graph(f"""
    graph "n" {{
    input %x: float32[1, 1, 2, 2]
    const %w: float32[2, 1, 1, 1] = [1.0, 0.5]
    const %b: float32[2] = [{bias!r}, 1.0]
    %y: float32[1, 2, 2, 2] = Conv(%x, %w, %b)
    return %y
    }}
    """)


def first_bias(options: Mapping[str, object], steps: int) -> tuple[LayerParams, list[float]]:
    """The layer of a network with a bias of this bias in 1/64, and the codes that the file says."""
    frames = np.linspace(0, 255, 4, dtype=np.float32).reshape(1, 1, 1, 2, 2)
    (net,) = build(compiled_graph(biased(steps / 64), frames, options))
    layer = net.layers[1]
    return layer, [value * layer.bias[0].scale[0] for value in layer.bias[0].value]


@pytest.mark.parametrize("steps", [100, 11_000, 22_200, 22_230, 22_260, 32_000])
def test_biases_of_8_bit_layers_are_8_bit_codes_of_the_multiplier_that_was_used(steps: int) -> None:
    _, found = first_bias({"quantization_scale_type": 1, "accuracy_level": 0}, steps)
    assert found == pytest.approx(np.round(found), abs=1e-6)
    assert 64 < max(found) <= 127


def test_biases_beside_16_bits_are_whole_steps_of_the_accumulator() -> None:
    layer, found = first_bias({"tensor_bits": 16, "accuracy_level": 0}, 22_230)
    assert layer.bit_depth == 2
    assert found == pytest.approx(np.round(found), abs=1e-3)
    assert max(found) > 255 * 127


def test_a_bias_too_large_for_codes_has_the_scales_of_the_accumulator() -> None:
    frames = np.full((1, 1, 1, 2, 2), 1e-4, np.float32)
    (net,) = build(compiled_graph(biased(9.0), frames, {"tensor_bits": 16, "accuracy_level": 0}, "am68a"))
    data, layer = net.layers[:2]
    wanted = [data.outputs[0].scale[0] * scale for scale in layer.weights[0].scale]
    assert layer.bias[0].scale == pytest.approx(wanted, rel=1e-6)
    assert layer.bias[0].value == pytest.approx((9.0, 1.0))
