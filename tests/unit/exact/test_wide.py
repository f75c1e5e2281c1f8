"""Sums that one float32 convolution does not hold: parts, sections of rows, and what they are made of."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from lowtide.exact import ExactSession, accumulate, requantize
from lowtide.exact.builder import Builder
from lowtide.exact.lower import Lowering
from lowtide.exact.profile import find_profile
from lowtide.ir import Graph, layers, parse_graph
from unit.exact.random_layers import difference

ARITHMETIC = ("shift", "multiplier")


def convolution(*, channels: int, group: int, size: int, bits: int = 16, relu: bool = True) -> Graph:
    """A convolution of 16-bit codes on a plane of 9 by 5."""
    generator = np.random.default_rng(channels + size)
    most = (1 << (bits - 1)) - 1
    shape = (channels, channels // group, size, size)
    weights = generator.integers(-most, most, shape, endpoint=True).reshape(-1)
    numbers = ", ".join(map(str, weights))
    biases = ", ".join(map(str, generator.integers(-(2**30), 2**30, channels)))
    plane, scale = f"float32[1, {channels}, 9, 5]", 2.0 ** (bits - 3)
    last = f'%y: {plane} ~ uint16(scale={scale}) = Relu(%c) layer "y"' if relu else ""
    made = "%c" if relu else "%y"
    kind = "" if relu else f" ~ int16(scale={scale})"
    pads = ", ".join([str(size // 2)] * 4)
    return parse_graph(f"""graph "n" {{
input %x: {plane} ~ uint16(scale=1)
const %w: float32[{", ".join(map(str, shape))}] ~ int{bits}(scale=1) = [{numbers}]
const %b: float32[{channels}] ~ int32(scale=1) = [{biases}]
{made}: {plane}{kind} = Conv(%x, %w, %b) {{group={group}, pads=[{pads}]}} layer "y"
{last}
return %y
}}""")


def operators(graph: Graph, arithmetic: str) -> Counter[str]:
    """The operators that execute a graph; depthwise convolutions of one weight apart, as ``planes``."""
    b = Builder()
    lowering = Lowering(b, find_profile(arithmetic), frozenset())
    b.real[graph.inputs[0]] = graph.inputs[0].name
    for layer in layers(graph):
        lowering.layer(layer)
    found: Counter[str] = Counter()
    for node in b.steps:
        assert isinstance(node, onnx.NodeProto)
        weights = b.constants.get(node.input[1]) if node.op_type == "Conv" else None
        planes = weights is not None and weights[0].size == 1
        found["planes" if planes else node.op_type] += 1
    return found


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize("arithmetic", ARITHMETIC)
@pytest.mark.parametrize("section", [1, 20, 1 << 16])
def test_sections_of_rows_change_no_code(
    monkeypatch: pytest.MonkeyPatch, section: int, arithmetic: str, group: int, size: int, *, relu: bool
) -> None:
    monkeypatch.setattr(requantize, "SECTION", section)
    graph = convolution(channels=4, group=group, size=size, relu=relu)
    assert [difference(graph, arithmetic, seed) for seed in range(2)] == ["", ""]


def test_numbers_in_float64_are_computed_in_sections_where_there_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = convolution(channels=4, group=1, size=1)
    assert "Split" not in operators(graph, "multiplier")
    monkeypatch.setattr(requantize, "SECTION", 20)
    found = operators(graph, "multiplier")
    assert (found["Split"], found["MatMul"], found["Concat"]) == (1, 9, 1)


def test_two_sums_of_three_convolutions_are_enough_for_16_bit_depthwise_layers() -> None:
    found = operators(convolution(channels=4, group=4, size=3), "multiplier")
    assert (found["Conv"], found["Cast"]) == (3, 4)


def test_weights_of_8_bits_are_not_cut_into_digits() -> None:
    assert operators(convolution(channels=4, group=4, size=3, bits=8), "multiplier")["Conv"] == 2


@pytest.mark.parametrize("group", [1, 4])
def test_without_two_sums_codes_are_the_same(monkeypatch: pytest.MonkeyPatch, group: int) -> None:
    monkeypatch.setattr(accumulate, "SHORT", ())
    graph = convolution(channels=4, group=group, size=3)
    assert operators(graph, "multiplier")["Conv"] == 4
    assert difference(graph, "multiplier", 1) == ""


def test_shifts_of_wide_sums_stay_in_float32_convolutions() -> None:
    found = operators(convolution(channels=4, group=4, size=3), "shift")
    assert set(found) <= {"Add", "Clip", "Conv", "Div", "Relu", "Round", "planes"}


def test_equal_constants_are_held_once_and_zeros_keep_their_sign() -> None:
    b, pair = Builder(), np.array([1, 2])
    assert b.constant(pair) == b.constant(pair.astype(np.float64))
    names = [b.constant(pair), b.constant(pair[None]), b.constant(pair, np.float64)]
    assert len({*names, b.constant(0.0), b.constant(-0.0), b.constant(np.zeros(1))}) == 6
    assert [b.constants[name].shape for name in names] == [(2,), (1, 2), (2,)]


def test_codes_that_python_makes_leave_as_integers() -> None:
    graph = parse_graph("""graph "n" {
input %q: int8[1, 3]
const %s: float32[] = [0.1]
const %z: int8[] = [3]
const %t: float32[] = [0.00390625]
const %u: int8[] = [-128]
%x: float32[1, 3] ~ int8(scale=0.1, zero=3) = DequantizeLinear(%q, %s, %z)
%p: float32[1, 3] ~ int8(scale=0.00390625, zero=-128) = Softmax(%x) {axis=1}
%y: int8[1, 3] = QuantizeLinear(%p, %t, %u)
return %y
}""")
    found = ExactSession(graph, find_profile("tflite")).run({"q": np.array([[3, 13, 23]], np.int8)})["y"]
    real = np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()
    assert found.dtype == np.int8
    assert np.abs(found - (real * 256 - 128)).max() <= 1
