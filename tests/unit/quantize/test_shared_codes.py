from __future__ import annotations

import numpy as np
import pytest

from lowtide.calibrate import Range
from lowtide.diagnostics import Diagnostics
from lowtide.errors import QuantizationError
from lowtide.ir import Constant, DType, Graph, parse_graph, print_graph
from lowtide.plugin import discover
from lowtide.precision import PrecisionPlan, quantized_values
from lowtide.quantize.solve import SolveRequest, solve, tied_tensors
from lowtide.runtime import dequantize
from lowtide.target import load_target, place, scale_rule
from unit.quantize.solving import Options, quant, solved

RULES = [("generic", 0), ("generic", 1), ("generic", 4), ("tda4vm", 0), ("tda4vm", 1), ("am68a", 4)]

MOVING = """graph "moving" {
  input %x: float32[1, 2, 8, 8]
  const %w: float32[4, 2, 1, 1] = [1, -0.5, 0.25, 2, -1, 1, 0.5, 0.5]
  const %shape: int64[2] = [1, 64]
  %c: float32[1, 4, 8, 8] = Conv(%x, %w)
  %m: float32[1, 4, 4, 4] = MaxPool(%c) {kernel_shape=[2, 2], strides=[2, 2]}
  %r: float32[1, 64] = Reshape(%m, %shape)
  %t: float32[64, 1] = Transpose(%r) {perm=[1, 0]}
  return %t
}"""


def mac_ratio(graph: Graph, result: str) -> float:
    return float(
        np.log2(quant(graph, result).scale[0] / quant(graph, "x").scale[0] / quant(graph, "w").scale[0])
    )


@pytest.mark.parametrize(("target", "number"), RULES)
def test_a_chain_that_only_moves_codes_has_one_pair_of_scale_and_zero_point(target: str, number: int) -> None:
    fixed, _, _ = solved(parse_graph(MOVING), target, number)
    assert quant(fixed, "c") == quant(fixed, "m") == quant(fixed, "r") == quant(fixed, "t")


def test_a_max_pool_takes_the_scale_that_the_accumulator_before_it_allows() -> None:
    fixed, _, _ = solved(parse_graph(MOVING), "tda4vm", 0)
    assert mac_ratio(fixed, "t") == pytest.approx(round(mac_ratio(fixed, "t")), abs=1e-6)


@pytest.mark.parametrize(("target", "number"), [entry for entry in RULES if entry[1]])
def test_tied_tensors_cover_the_widest_range_among_them(target: str, number: int) -> None:
    ranges = {name: Range(-1.0, 1.0) for name in ("x", "c", "r", "t")} | {"m": Range(-7.0, 3.0)}
    fixed, _, _ = solved(parse_graph(MOVING), target, number, ranges=ranges)
    low, high = quant(fixed, "c").range
    step = quant(fixed, "c").scale[0]
    assert low - step / 2 <= -7.0
    assert high + step >= 3.0


def test_tensors_of_different_widths_are_not_tied() -> None:
    graph, target = parse_graph(MOVING), load_target("generic", discover())
    placement = place(graph, target, Options(), Diagnostics())
    widths = {"x": 8, "c": 8, "m": 16, "r": 16, "t": 16}
    request = SolveRequest(
        target=target,
        rule=scale_rule(target, 4),
        placement=placement,
        plan=PrecisionPlan(widths, dict.fromkeys(("c", "m", "r", "t"), 8)),
        ranges=dict.fromkeys(widths, Range(-1.0, 3.0)),
    )
    sets = tied_tensors(graph, request, quantized_values(graph, target, placement)).sets()
    assert sorted(sets.values()) == [("c",), ("m", "r", "t"), ("x",)]
    solve(graph, request)
    assert {name: quant(graph, name).bits for name in widths} == widths


RESIDUAL = """graph "residual" {
  input %x: float32[1, 2, 4, 4]
  const %w: float32[2, 2, 1, 1] = [3, -2, 1, 1.5]
  const %one: float32[] = [1.0]
  %a: float32[1, 2, 4, 4] = Conv(%x, %w)
  %s: float32[1, 2, 4, 4] = Add(%x, %a)
  %p: float32[1, 2, 4, 4] = Mul(%s, %one)
  return %p
}"""


@pytest.mark.parametrize(("target", "number"), RULES)
def test_the_operands_of_an_addition_keep_their_own_scales(target: str, number: int) -> None:
    fixed, _, _ = solved(parse_graph(RESIDUAL), target, number)
    assert quant(fixed, "x").scale < quant(fixed, "a").scale
    assert quant(fixed, "x").scale < quant(fixed, "s").scale


@pytest.mark.parametrize(("target", "number"), RULES)
def test_a_constant_operand_of_one_stays_exactly_one(target: str, number: int) -> None:
    fixed, _, _ = solved(parse_graph(RESIDUAL), target, number)
    name = next(node for node in fixed if node.op == "Mul").value(1).name
    value = fixed.values[name]
    assert value.constant is not None
    assert value.type.quant is not None
    assert float(dequantize(value.constant.array(), value.type.quant)) == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("number", [0, 1, 4])
def test_no_constant_operand_saturates(number: int) -> None:
    graph = parse_graph(RESIDUAL)
    entries = np.array([0.999, -0.7, 0.3, 0.0], np.float32)
    graph.set_constant(graph.values["one"], Constant.of(entries))
    fixed, _, _ = solved(graph, "generic", number)
    value = fixed.values["one"]
    assert value.constant is not None
    assert value.type.quant is not None
    back = dequantize(value.constant.array(), value.type.quant)
    assert np.abs(back - entries).max() <= value.type.quant.scale[0] * 0.5 + 1e-7


def test_operands_that_say_how_and_not_what_keep_their_type() -> None:
    fixed, _, _ = solved(parse_graph(MOVING), "generic", 4)
    assert fixed.values["shape"].type.dtype is DType.INT64
    assert fixed.values["shape"].type.quant is None


def test_a_device_without_zero_points_at_one_reader_gives_the_tensor_none() -> None:
    graph = parse_graph("""graph "mixed" {
  input %x: float32[1, 2, 4, 4]
  const %w: float32[2, 2, 1, 1] = [1, -2, 3, 0.5]
  %a: float32[1, 2, 4, 4] = Conv(%x, %w)
  %b: float32[1, 2, 4, 4] = Conv(%a, %w)
  %c: float32[1, 2, 4, 4] = Conv(%b, %w)
  %s: float32[1, 2, 4, 4] = Sigmoid(%a)
  return %c, %s
}""")
    fixed, _, _ = solved(graph, "am68a", 4)
    assert quant(fixed, "a").is_symmetric  # Sigmoid has no zero points there
    assert not quant(fixed, "b").is_symmetric
    assert not quant(solved(graph, "generic", 4)[0], "a").is_symmetric


def test_a_product_of_two_activations_has_no_zero_points_where_a_constant_is_asked_for() -> None:
    graph = parse_graph("""graph "attention" {
  input %x: float32[1, 4, 4]
  input %y: float32[1, 4, 4]
  const %w: float32[4, 4] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
  %a: float32[1, 4, 4] = MatMul(%x, %w)
  %b: float32[1, 4, 4] = MatMul(%a, %w)
  %c: float32[1, 4, 4] = MatMul(%b, %y)
  return %c
}""")
    fixed, _, _ = solved(graph, "am68a", 4)
    assert not quant(fixed, "a").is_symmetric
    assert quant(fixed, "b").is_symmetric
    assert quant(fixed, "y").is_symmetric


def test_tensors_between_layers_of_the_host_stay_float() -> None:
    graph = parse_graph("""graph "host" {
  input %x: float32[1, 2, 4, 4]
  const %w: float32[2, 2, 1, 1] = [1, -2, 3, 0.5]
  %a: float32[1, 2, 4, 4] = Tanh(%x)
  %b: float32[1, 2, 4, 4] = Sigmoid(%a)
  %c: float32[1, 2, 4, 4] = Conv(%b, %w)
  %d: float32[1, 2, 4, 4] = Tanh(%c)
  return %d
}""")
    fixed, _, _ = solved(graph, "am68a", 4, options=Options(deny_list_layer_type=("Tanh", "Sigmoid")))
    held = {name for name, value in fixed.values.items() if value.type.quant is not None}
    assert held == {"b", "c", "w"}  # what crosses the border, and the weights


@pytest.mark.parametrize("broken", [Range(1.0, -1.0), Range(0.0, float("inf")), Range(float("nan"), 1.0)])
def test_an_impossible_range_is_refused_by_name(broken: Range) -> None:
    ranges = {name: Range(-1.0, 1.0) for name in ("x", "c", "m", "r", "t")} | {"m": broken}
    with pytest.raises(QuantizationError, match="LT801 m: expected finite"):
        solved(parse_graph(MOVING), "generic", 4, ranges=ranges)


@pytest.mark.parametrize(("target", "number"), RULES)
def test_the_result_does_not_depend_on_the_order_in_which_ranges_come(target: str, number: int) -> None:
    names = ["x", "c", "m", "r", "t"]
    ranges = {name: Range(-1.0 - at, 2.0 + at) for at, name in enumerate(names)}
    backwards = dict(reversed(ranges.items()))
    one, other = (
        solved(parse_graph(MOVING), target, number, ranges=given)[0] for given in (ranges, backwards)
    )
    assert print_graph(one) == print_graph(other)


DEPTHWISE = """graph "depthwise" {
  input %x: float32[1, 3, 4, 4]
  const %w: float32[3, 1, 1, 1] = [1, 0.3, 0.0001]
  %c: float32[1, 3, 4, 4] = Conv(%x, %w) {group=3}
  return %c
}"""


@pytest.mark.parametrize("number", [0, 1])
def test_channel_scales_under_shifts_are_at_most_2_to_the_8_apart(number: int) -> None:
    fixed, _, _ = solved(parse_graph(DEPTHWISE), "generic", number, channel_wise=True)
    scales = quant(fixed, "w").scale
    # 0.3 is between 1/4 and 1/2, so one shift is left; 0.0001 would take 13.
    assert [scales[0] / scale for scale in scales] == [1.0, 2.0, 256.0]


def test_no_channel_has_to_shift_its_accumulator_to_the_left() -> None:
    ranges = {"x": Range(-1.0, 1.0), "c": Range(-1e-6, 1e-6)}
    fixed, _, _ = solved(parse_graph(DEPTHWISE), "generic", 0, channel_wise=True, ranges=ranges)
    accumulators = [quant(fixed, "x").scale[0] * scale for scale in quant(fixed, "w").scale]
    assert quant(fixed, "c").scale[0] == pytest.approx(max(accumulators), rel=1e-6)
