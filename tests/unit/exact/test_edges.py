"""Edges of exact execution that random layers seldom reach."""

from __future__ import annotations

import numpy as np
import pytest

from lowtide.exact import ExactSession, find_profile
from lowtide.ir import Graph, QuantParams, parse_graph
from lowtide.runtime import dequantize
from unit.exact.random_layers import difference


def network(body: str) -> Graph:
    return parse_graph(f'graph "n" {{\n{body}\n}}')


@pytest.mark.parametrize("arithmetic", ["shift", "multiplier", "float32", "tflite"])
@pytest.mark.parametrize(("low", "high", "code"), [(-9.0, -5.0, 0), (300.0, 400.0, 255)])
def test_limits_beyond_the_codes_give_the_nearest_code(
    arithmetic: str, low: float, high: float, code: int
) -> None:
    graph = network(f"""
input %x: float32[1, 1, 2, 2] ~ int8(scale=1)
const %w: float32[1, 1, 1, 1] ~ int8(scale=1) = [1]
const %low: float32[] = [{low}]
const %high: float32[] = [{high}]
%c: float32[1, 1, 2, 2] = Conv(%x, %w) layer "y"
%y: float32[1, 1, 2, 2] ~ uint8(scale=1) = Clip(%c, %low, %high) layer "y"
return %y
""")
    session = ExactSession(graph, find_profile(arithmetic), codes=["y"])
    _, codes = session.run_codes({"x": np.array([[[[-128, -1], [0, 127]]]], np.float32)})
    assert codes["y"].tolist() == [[[[code, code], [code, code]]]]


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16"])
def test_codes_that_are_fed_give_the_codes_that_their_numbers_give(kind: str) -> None:
    graph = network(f"""
input %x: float32[1, 2, 3, 3] ~ {kind}(scale=0.5, zero=3)
const %w: float32[2, 2, 1, 1] ~ int8(scale=0.25) = [4, -7, 9, 1]
%y: float32[1, 2, 3, 3] ~ {kind}(scale=1.5, zero=1) = Conv(%x, %w)
return %y
""")
    quant = graph.inputs[0].type.quant
    assert quant is not None
    codes = np.arange(-8, 10).astype(quant.dtype.numpy).reshape(1, 2, 3, 3)
    profile = find_profile("multiplier")
    plain, wanted = ExactSession(graph, profile, codes=["y"]).run_codes({"x": dequantize(codes, quant)})
    fed = ExactSession(graph, profile, codes=["y"], fed={"x"}, outputs=()).run_codes({"x": codes})
    assert fed[0] == {}
    assert fed[1]["y"].dtype == quant.dtype.numpy
    np.testing.assert_array_equal(fed[1]["y"], wanted["y"])
    np.testing.assert_array_equal(dequantize(fed[1]["y"], QuantParams(quant.dtype, 1.5, 1)), plain["y"])


@pytest.mark.parametrize("arithmetic", ["shift", "multiplier", "float32", "tflite"])
@pytest.mark.parametrize(
    "call", ["MatMul(%a, %b)", "Max(%a, %b)", "Min(%a, %b)", "Div(%a, %b)", "Softmax(%a) {axis = -1}"]
)
def test_numbers_at_an_input_are_rounded_to_its_codes_before_anything_reads_them(
    call: str, arithmetic: str
) -> None:
    graph = network(f"""
input %a: float32[1, 4, 4] ~ int8(scale=0.5, zero=-3)
input %b: float32[1, 4, 4] ~ uint8(scale=0.25, zero=7)
%y: float32[1, 4, 4] ~ int8(scale=0.125) = {call}
return %y
""")
    generator = np.random.default_rng(8)
    feeds = {name: generator.uniform(0.3, 9, (1, 4, 4)).astype(np.float32) for name in "ab"}
    codes = {
        "a": (np.rint(feeds["a"] / 0.5) - 3).astype(np.int8),
        "b": (np.rint(feeds["b"] / 0.25) + 7).astype(np.uint8),
    }
    profile = find_profile(arithmetic)
    _, plain = ExactSession(graph, profile, codes=["y"]).run_codes(feeds)
    _, fed = ExactSession(graph, profile, codes=["y"], fed={"a", "b"}).run_codes(codes)
    np.testing.assert_array_equal(plain["y"], fed["y"])


@pytest.mark.parametrize("arithmetic", ["shift", "multiplier"])
def test_wide_sums_are_within_one_code_of_real_numbers(arithmetic: str) -> None:
    graph = network("""
input %a: float32[1, 4, 32, 32] ~ int16(scale=0.00123)
input %b: float32[1, 4, 32, 32] ~ uint16(scale=0.00071)
%y: float32[1, 4, 32, 32] ~ int16(scale=0.00219) = Add(%a, %b)
return %y
""")
    generator = np.random.default_rng(3)
    a = generator.integers(-(2**15), 2**15, (1, 4, 32, 32))
    b = generator.integers(0, 2**16, (1, 4, 32, 32))
    scales = {name: graph.values[name].type.quant for name in "aby"}
    step = {name: quant.scale[0] for name, quant in scales.items() if quant is not None}
    feeds = {"a": (a * step["a"]).astype(np.float32), "b": (b * step["b"]).astype(np.float32)}
    _, codes = ExactSession(graph, find_profile(arithmetic), codes=["y"]).run_codes(feeds)
    real = np.clip((a * step["a"] + b * step["b"]) / step["y"], -(2**15), 2**15 - 1)
    assert np.abs(codes["y"] - real).max() <= 0.51


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize("arithmetic", ["shift", "multiplier", "float32"])
def test_sums_far_beyond_24_bits_keep_their_last_bit(arithmetic: str, kind: str) -> None:
    weights = ", ".join(["127", "-1"] * 600)
    graph = network(f"""
input %x: float32[1, 1200] ~ {kind}(scale=1)
const %w: float32[1, 1200] ~ int8(scale=1) = [{weights}]
%y: float32[1, 1] ~ int16(scale=512) = Gemm(%x, %w) {{transB=1}}
return %y
""")
    assert [difference(graph, arithmetic, seed) for seed in range(6)] == [""] * 6


@pytest.mark.parametrize("arithmetic", ["shift", "multiplier", "float32"])
def test_a_matrix_with_a_scale_per_channel_is_multiplied_as_integers(arithmetic: str) -> None:
    graph = network("""
input %x: float32[4, 5] ~ uint8(scale=1)
const %w: float32[5, 2] ~ int8(scale=[0.25, 0.125], axis=1) = [127, 126, 127, 127, 126, 125, 124, 1, 2, 3]
%y: float32[4, 2] ~ int16(scale=2) = MatMul(%x, %w)
return %y
""")
    # Sums that end in one half of a code are many, and only integers round them as the device does.
    assert [difference(graph, arithmetic, seed) for seed in range(20)] == [""] * 20
