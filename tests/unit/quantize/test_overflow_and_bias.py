from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lowtide.calibrate import Range
from lowtide.diagnostics import Diagnostics
from lowtide.errors import QuantizationError
from lowtide.ir import AttributeValue, Constant, DType, Graph, TensorType, Value, verify
from lowtide.ir.shapes import infer_types
from lowtide.plugin import discover
from lowtide.precision import PrecisionPlan
from lowtide.quantize.operands import by_output_channel, mac_operands
from lowtide.quantize.solve import SolveRequest
from lowtide.quantize.weights import requantize_bias
from lowtide.runtime import Session, dequantize, to_model
from lowtide.target import Placement, load_target, scale_rule
from unit.quantize.solving import quant, solved

Numbers = NDArray[Any]


def random(seed: int, *shape: int) -> Numbers:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def linear(
    op: str,
    inputs: tuple[int, ...],
    weights: Numbers,
    bias: Numbers | None = None,
    **attributes: AttributeValue,
) -> Graph:
    """One node ``y = op(x, w, b)``."""
    graph = Graph("one")
    operands: list[Value | None] = [graph.add_input("x", TensorType(DType.FLOAT32, inputs))]
    operands.append(graph.add_constant("w", Constant.of(weights)))
    if bias is not None:
        operands.append(graph.add_constant("b", Constant.of(bias)))
    made = graph.add_node(op, operands, [("y", TensorType(DType.FLOAT32, None))], attributes)
    graph.set_outputs(made.outputs)
    infer_types(graph)
    return graph


def codes(graph: Graph, name: str) -> Numbers:
    constant = graph.values[name].constant
    assert constant is not None
    return constant.array().astype(np.int64)


def real(graph: Graph, name: str) -> Numbers:
    value = graph.values[name]
    assert value.constant is not None
    array = value.constant.array()
    return array if value.type.quant is None else dequantize(array, value.type.quant)


def worst_sum(graph: Graph) -> int:
    """The largest magnitude that any accumulator of the node can have, bias included, counted out in full."""
    node = graph.nodes[0]
    zero = quant(graph, "x").zero_point[0]
    dtype = quant(graph, "x").dtype
    rows = by_output_channel(node, codes(graph, "w"))
    ends = np.array([dtype.min - zero, dtype.max - zero])
    highest = np.maximum(rows * ends[0], rows * ends[1]).sum(axis=1)
    lowest = np.minimum(rows * ends[0], rows * ends[1]).sum(axis=1)
    bias = codes(graph, "b") if "b" in graph.values else 0
    return int(max(np.abs(highest + bias).max(), np.abs(lowest + bias).max()))


# --- overflow ---


@pytest.mark.parametrize(("target", "number"), [("am68a", 4), ("tda4vm", 1), ("tda4vm", 0)])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4, 1e9])
def test_no_accumulator_of_32_bits_can_overflow(target: str, number: int, size: float) -> None:
    graph = linear("Conv", (1, 3, 4, 4), random(1, 4, 3, 3, 3), random(2, 4) * np.float32(size))
    fixed, _, _ = solved(graph, target, number)
    assert worst_sum(fixed) < 2**31


def test_a_sum_of_many_products_is_kept_from_overflowing_by_its_weight_scale() -> None:
    graph = linear("Gemm", (1, 70_000), np.ones((2, 70_000), np.float32), np.zeros(2, np.float32), transB=1)
    fixed, _, notes = solved(graph, "am68a", 1)
    assert worst_sum(fixed) < 2**31
    assert [note.code for note in notes] == ["LT851"]
    mantissa, _ = math.frexp(quant(fixed, "w").scale[0])
    assert mantissa == 0.5  # raised, and still a power of two


def test_only_the_channel_whose_bias_overflows_is_raised() -> None:
    bias = np.array([0.1, 1e9, 0.1, 0.1], np.float32)
    plain = linear("Conv", (1, 3, 4, 4), random(1, 4, 3, 3, 3), np.full(4, 0.1, np.float32))
    large = linear("Conv", (1, 3, 4, 4), random(1, 4, 3, 3, 3), bias)
    before, after = (quant(solved(graph, "am68a", 4)[0], "w").scale for graph in (plain, large))
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True, True]
    assert after[1] > before[1]


def test_layers_with_16_bit_operands_have_wide_accumulators_and_are_left_alone() -> None:
    graph = linear("Gemm", (1, 70_000), np.ones((2, 70_000), np.float32), np.zeros(2, np.float32), transB=1)
    fixed, _, notes = solved(graph, "am68a", 1, bits=16)
    assert not list(notes)
    assert quant(fixed, "w").scale == (2.0**-15,)


# --- channels without weights ---


@pytest.mark.parametrize(("target", "number"), [("generic", 4), ("am68a", 4), ("tda4vm", 1), ("tda4vm", 0)])
@pytest.mark.parametrize("dead", [[1], [0, 1, 2, 3]])
def test_a_channel_of_zeros_keeps_an_exact_bias(target: str, number: int, dead: list[int]) -> None:
    weights, bias = random(1, 4, 3, 3, 3), np.array([0.3, -0.3, 0.7, 0.01], np.float32)
    weights[dead] = 0
    fixed, _, _ = solved(linear("Conv", (1, 3, 4, 4), weights, bias), target, number)
    step = max(quant(fixed, "b").scale)
    multiplier = 255 if target == "tda4vm" else 1
    assert np.abs(real(fixed, "b") - bias).max() <= min(step * multiplier, 0.01)


def test_a_channel_of_zeros_does_not_change_the_others() -> None:
    weights, bias = random(1, 4, 3, 3, 3), random(2, 4)
    without = quant(solved(linear("Conv", (1, 3, 4, 4), weights, bias), "am68a", 4)[0], "w").scale
    weights = weights.copy()
    weights[2] = 0
    found = quant(solved(linear("Conv", (1, 3, 4, 4), weights, bias), "am68a", 4)[0], "w").scale
    assert [found[at] for at in (0, 1, 3)] == [without[at] for at in (0, 1, 3)]
    assert found[2] == min(found[at] for at in (0, 1, 3))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("target", "number"), [("am68a", 4), ("tda4vm", 1), ("tda4vm", 0)])
def test_the_tiniest_weights_and_inputs_still_give_scales_that_float32_holds(
    target: str, number: int, bits: int
) -> None:
    graph = linear("Conv", (1, 3, 4, 4), random(1, 4, 3, 3, 3) * np.float32(1e-37), np.zeros(4, np.float32))
    ranges = {"x": Range(-1e-20, 1e-20), "y": Range(-1e-30, 1e-30)}
    fixed, _, _ = solved(graph, target, number, bits=bits, ranges=ranges)
    tiny = float(np.finfo(np.float32).tiny)
    assert all(min(quant(fixed, name).scale) >= tiny for name in ("x", "w", "b", "y"))


# --- forms of weights and biases ---


@pytest.mark.parametrize("group", [1, 2, 4])
def test_transposed_convolutions_with_groups_keep_their_bias(group: int) -> None:
    bias = random(2, 3 * group)
    graph = linear("ConvTranspose", (1, 8, 4, 4), random(1, 8, 3, 3, 3), bias, group=group)
    fixed, feeds, _ = solved(graph, "generic", 4)
    found = quant(fixed, "w")
    assert found.axis == (1 if group == 1 else None)
    assert quant(fixed, "b").dtype is DType.INT32
    assert codes(fixed, "b").shape == bias.shape
    one, two = Session(to_model(graph, quantized=False)), Session(to_model(fixed, quantized=True))
    for feed in feeds:
        a, b = one.run(feed)["y"], two.run(feed)["y"]
        assert float((a**2).sum() / ((a - b) ** 2).sum()) > 10**2.5


def test_the_reach_of_a_grouped_transposed_convolution_counts_the_inputs_of_the_group() -> None:
    weights = np.zeros((4, 3, 1, 1), np.float32)
    weights[:2, 0] = 1.0  # two inputs of the first group feed output 0
    weights[2:, 2] = 0.5  # two inputs of the second group feed output 5
    graph = linear("ConvTranspose", (1, 4, 2, 2), weights, group=2)
    rows = by_output_channel(graph.nodes[0], weights)
    assert np.abs(rows).sum(axis=1).tolist() == [2, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("op", "inputs", "shape", "attributes", "axis"),
    [
        ("Conv", (1, 4, 5, 5), (6, 4, 3, 3), {}, 0),
        ("Conv", (1, 4, 5, 5), (6, 2, 3, 3), {"group": 2}, 0),
        ("ConvTranspose", (1, 4, 5, 5), (4, 6, 3, 3), {}, 1),
        ("Gemm", (2, 4), (6, 4), {"transB": 1}, 0),
        ("Gemm", (2, 4), (4, 6), {}, 1),
        ("MatMul", (2, 4), (4, 6), {}, 1),
        ("MatMul", (3, 2, 4), (3, 4, 6), {}, None),
        ("MatMul", (2, 4), (4,), {}, None),
    ],
)
def test_scales_lie_along_the_output_channels(
    op: str,
    inputs: tuple[int, ...],
    shape: tuple[int, ...],
    attributes: dict[str, AttributeValue],
    axis: int | None,
) -> None:
    weights = random(1, *shape)
    fixed, _, _ = solved(linear(op, inputs, weights, None, **attributes), "generic", 4)
    found = quant(fixed, "w")
    assert found.axis == axis
    others = None if axis is None else tuple(at for at in range(len(shape)) if at != axis)
    expected = np.atleast_1d(np.abs(weights).max(axis=others)) / 127
    np.testing.assert_allclose(found.scale, expected, rtol=1e-6)
    verify(fixed)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["Conv", "ConvTranspose", "Gemm", "MatMul"]))
def test_the_rows_of_weights_are_what_each_output_sums_up(seed: int, op: str) -> None:
    generator = np.random.default_rng(seed)
    group = int(generator.integers(1, 3)) if op.startswith("Conv") else 1
    per_group = int(generator.integers(1, 3))
    channels = 2 * group
    shape = {"Conv": (per_group * group, 2, 2, 2), "ConvTranspose": (channels, per_group, 2, 2)}
    weights = generator.integers(-4, 5, shape.get(op, (channels, 3))).astype(np.float32)
    inputs = (1, channels, 2, 2) if op.startswith("Conv") else (1, channels)
    graph = linear(op, inputs, weights, None, **({"group": group} if op.startswith("Conv") else {}))
    ones = np.ones(inputs, np.float32)
    result = Session(to_model(graph, quantized=False)).run({"x": ones})["y"]
    # Of an input of ones every output is the sum of its row; the middle of a transposed one sees all of it.
    seen = result[0, :, 1, 1] if op == "ConvTranspose" else result.reshape(-1)
    np.testing.assert_array_equal(by_output_channel(graph.nodes[0], weights).sum(axis=1), seen)


@pytest.mark.parametrize("shape", [(), (1,), (6,), (1, 6)])
def test_a_bias_of_any_shape_that_fits_the_channels_gets_codes(shape: tuple[int, ...]) -> None:
    bias = random(3, *shape) if shape else np.array(0.5, np.float32)
    graph = linear("Gemm", (2, 4), random(1, 6, 4), bias, transB=1)
    fixed, _, _ = solved(graph, "generic", 4)
    expected = np.broadcast_to(bias.reshape(-1), (6,))
    np.testing.assert_allclose(real(fixed, "b"), expected, atol=max(quant(fixed, "b").scale))


def test_a_product_whose_bias_differs_by_row_is_no_layer_of_weights_and_bias() -> None:
    graph = linear("Gemm", (6, 4), random(1, 6, 4), random(2, 6, 1), transB=1)
    assert mac_operands(graph.nodes[0]) is None


def test_shared_biases_get_the_codes_of_each_layer() -> None:
    graph = linear("Conv", (1, 2, 4, 4), random(1, 2, 2, 1, 1), random(2, 2))
    again = graph.add_constant("w2", Constant.of(random(3, 2, 2, 1, 1) * np.float32(40)))
    second = graph.add_node(
        "Conv", [graph.values["y"], again, graph.values["b"]], [("z", graph.values["y"].type)]
    )
    graph.set_outputs(second.outputs)
    fixed, _, _ = solved(graph, "am68a", 4)
    biases = [node.value(2) for node in fixed]
    assert biases[0] is not biases[1]
    for value in biases:
        np.testing.assert_allclose(
            real(fixed, value.name), real(graph, "b"), atol=max(quant(fixed, value.name).scale) / 2
        )


def test_bias_codes_are_steps_of_the_accumulator_rounded_away_from_zero() -> None:
    graph = linear("Conv", (1, 2, 4, 4), random(1, 3, 2, 1, 1), random(2, 3))
    fixed, _, _ = solved(graph, "am68a", 4)
    steps = np.array(quant(fixed, "x").scale[0]) * np.array(quant(fixed, "w").scale)
    expected = np.trunc(real(graph, "b") / steps + np.copysign(0.5, real(graph, "b")))
    np.testing.assert_array_equal(codes(fixed, "b"), expected)
    np.testing.assert_allclose(quant(fixed, "b").scale, steps, rtol=1e-6)


# --- replacing biases ---


def request() -> SolveRequest:
    target = load_target("generic", discover())
    return SolveRequest(
        target=target,
        rule=scale_rule(target, 4),
        placement=Placement(()),
        plan=PrecisionPlan({}, {}),
        ranges={},
        diagnostics=Diagnostics(),
    )


def test_a_layer_without_a_bias_gets_one() -> None:
    fixed, feeds, _ = solved(linear("Conv", (1, 2, 4, 4), random(1, 3, 2, 1, 1)), "generic", 4)
    wanted = np.array([0.5, -0.25, 0.125])
    requantize_bias(fixed, fixed.nodes[0], wanted, request())
    verify(fixed)
    name = fixed.nodes[0].value(2).name
    np.testing.assert_allclose(real(fixed, name), wanted, atol=max(quant(fixed, name).scale))
    Session(to_model(fixed, quantized=True)).run(feeds[0])


def test_a_matmul_has_no_operand_for_a_bias() -> None:
    fixed, _, _ = solved(linear("MatMul", (2, 4), random(1, 4, 6)), "generic", 4)
    with pytest.raises(QuantizationError, match=r"y.*have a bias"):
        requantize_bias(fixed, fixed.nodes[0], np.zeros(6), request())


def test_a_float_layer_has_no_codes_to_replace() -> None:
    graph = linear("Conv", (1, 2, 4, 4), random(1, 3, 2, 1, 1))
    with pytest.raises(QuantizationError, match="not quantized"):
        requantize_bias(graph, graph.nodes[0], np.zeros(3), request())
