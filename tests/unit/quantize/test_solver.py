from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from lowtide.calibrate import Range
from lowtide.errors import QuantizationError
from lowtide.ir import AttributeValue, Constant, DType, Graph, TensorType, Value, parse_graph
from lowtide.runtime import Session, to_model
from support import needs_integer_kernels
from unit.quantize.solving import Options, quant, solved


def network(seed: int = 0, channels: int = 8) -> Graph:
    """conv+relu -> depthwise conv -> conv, added to the first, pooled, dense, softmax."""
    generator = np.random.default_rng(seed)
    graph = Graph("net")
    value = graph.add_input("x", TensorType(DType.FLOAT32, (1, 3, 8, 8)))

    def weights(name: str, *shape: int) -> Value:
        return graph.add_constant(
            name, Constant.of(generator.standard_normal(shape).astype(np.float32) * 0.3)
        )

    def conv(name: str, source: Value, out: int, inside: int, kernel: int, *, group: int = 1) -> Value:
        pads: dict[str, AttributeValue] = {"pads": (kernel // 2,) * 4, "group": group}
        operands = [source, weights(f"{name}/w", out, inside, kernel, kernel), weights(f"{name}/b", out)]
        return graph.add_node(
            "Conv", operands, [(name, TensorType(DType.FLOAT32, (1, out, 8, 8)))], pads
        ).output

    first = conv("c1", value, channels, 3, 3)
    relu = graph.add_node("Relu", [first], [("r1", first.type)], layer="r1").output
    graph.nodes[0].layer = "r1"
    depth = conv("c2", relu, channels, 1, 3, group=channels)
    third = conv("c3", depth, channels, channels, 1)
    total = graph.add_node("Add", [third, relu], [("a", third.type)]).output
    pooled = graph.add_node(
        "GlobalAveragePool", [total], [("p", TensorType(DType.FLOAT32, (1, channels, 1, 1)))]
    ).output
    flat = graph.add_node("Flatten", [pooled], [("f", TensorType(DType.FLOAT32, (1, channels)))]).output
    dense = graph.add_node(
        "Gemm",
        [flat, weights("d/w", 5, channels), weights("d/b", 5)],
        [("d", TensorType(DType.FLOAT32, (1, 5)))],
        {"transB": 1},
    ).output
    soft = graph.add_node("Softmax", [dense], [("s", dense.type)]).output
    graph.set_outputs([dense, soft])
    return graph


def sqnr(graph: Graph, fixed: Graph, feeds: list[dict[str, NDArray[Any]]]) -> float:
    one, two = Session(to_model(graph, quantized=False)), Session(to_model(fixed, quantized=True))
    pairs = [(one.run(feed)["d"], two.run(feed)["d"]) for feed in feeds]
    noise = sum(float(((a - b) ** 2).sum()) for a, b in pairs)
    return 10 * math.log10(sum(float((a**2).sum()) for a, _ in pairs) / noise)


@pytest.mark.parametrize(
    ("target", "number", "bits", "least"),
    [
        ("generic", 4, 8, 25),
        ("am68a", 4, 8, 25),
        ("am68a", 0, 8, 15),
        ("tda4vm", 1, 8, 15),
        ("tda4vm", 0, 8, 12),
        ("am68a", 4, 16, 65),
        ("tda4vm", 1, 16, 60),
        ("tda4vm", 0, 16, 55),
    ],
)
def test_the_quantized_network_stays_close_to_the_float_one(
    target: str, number: int, bits: int, least: float
) -> None:
    graph = network()
    fixed, feeds, _ = solved(graph, target, number, bits=bits)
    assert sqnr(graph, fixed, feeds) > least


@needs_integer_kernels
@pytest.mark.parametrize(("target", "number"), [("generic", 4), ("tda4vm", 1)])
def test_the_model_runs_on_the_default_session_of_onnx_runtime_within_a_few_steps(
    target: str, number: int
) -> None:
    fixed, feeds, _ = solved(network(), target, number)
    model = to_model(fixed, quantized=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ours = Session(model)
    for feed in feeds:
        difference = np.abs(np.asarray(session.run(None, feed)[0]) - ours.run(feed)["d"]).max()
        assert difference <= 3 * quant(fixed, "d").scale[0]


def test_shift_only_outputs_are_accumulators_times_a_power_of_two() -> None:
    fixed, _, _ = solved(network(), "tda4vm", 0)
    for source, weights, result in (
        ("x", "c1/w", "r1"),
        ("r1", "c2/w", "c2"),
        ("c2", "c3/w", "c3"),
        ("f", "d/w", "d"),
    ):
        accumulator = quant(fixed, source).scale[0] * quant(fixed, weights).scale[0]
        shift = math.log2(quant(fixed, result).scale[0] / accumulator)
        assert shift == pytest.approx(round(shift), abs=1e-5)
        assert round(shift) >= 0


def test_power_of_two_scales_are_powers_of_two_everywhere() -> None:
    fixed, _, _ = solved(network(), "tda4vm", 1)
    for value in fixed.values.values():
        found = value.type.quant
        if found is not None:
            assert all(math.frexp(scale)[0] == 0.5 for scale in found.scale), value.name


def test_only_operators_that_take_zero_points_get_them_on_the_devices() -> None:
    fixed, _, _ = solved(network(), "am68a", 4)
    assert quant(fixed, "x").is_symmetric  # a network input
    assert not quant(fixed, "c2").is_symmetric  # between two convolutions
    assert quant(fixed, "a").is_symmetric  # read by a pool
    everywhere, _, _ = solved(network(), "generic", 4)
    assert not quant(everywhere, "x").is_symmetric


def test_weights_have_a_scale_per_channel_where_the_rule_says_so() -> None:
    assert len(quant(solved(network(), "am68a", 4)[0], "c1/w").scale) == 8
    assert len(quant(solved(network(), "tda4vm", 1)[0], "c1/w").scale) == 1
    channel_wise, _, _ = solved(network(), "tda4vm", 0, channel_wise=True)
    assert len(quant(channel_wise, "c1/w").scale) == 1
    depthwise = quant(channel_wise, "c2/w").scale
    assert len(depthwise) == 8
    ratios = [math.log2(max(depthwise) / scale) for scale in depthwise]
    assert all(ratio == pytest.approx(round(ratio), abs=1e-5) and round(ratio) <= 8 for ratio in ratios)


def test_values_inside_a_layer_have_no_codes_and_softmax_writes_none() -> None:
    fixed, _, _ = solved(network(), "am68a", 4)
    assert fixed.values["c1"].type.quant is None
    assert fixed.values["s"].type.quant is None


def test_operators_that_only_move_codes_share_them() -> None:
    fixed, _, _ = solved(network(), "am68a", 4)
    assert quant(fixed, "p") == quant(fixed, "f")


CONCAT = """graph "c" {
  input %x: float32[1, 2, 4, 4]
  input %y: float32[1, 2, 4, 4]
  %a: float32[1, 2, 4, 4] = Relu(%x)
  %b: float32[1, 2, 4, 4] = Sigmoid(%y)
  %c: float32[1, 4, 4, 4] = Concat(%a, %b) {axis=1}
  return %c
}"""


def test_concatenated_tensors_share_the_wider_range() -> None:
    fixed, _, _ = solved(parse_graph(CONCAT), "am68a", 1)
    assert quant(fixed, "a") == quant(fixed, "b") == quant(fixed, "c")


def test_under_shift_only_arithmetic_concatenated_tensors_keep_their_own_scales() -> None:
    fixed, _, _ = solved(parse_graph(CONCAT), "am68a", 0)
    assert quant(fixed, "b").scale[0] < quant(fixed, "c").scale[0]


def test_layers_on_the_host_have_no_codes() -> None:
    fixed, _, _ = solved(network(), "am68a", 4, options=Options(deny_list_layer_type=("Gemm",)))
    assert fixed.values["d/w"].type.quant is None
    assert fixed.values["d"].type.quant is None or fixed.values["s"].producer is not None
    assert quant(fixed, "p") is not None


def test_a_tensor_without_a_range_is_named() -> None:
    with pytest.raises(QuantizationError, match="r1"):
        solved(network(), "am68a", 4, ranges={"x": Range(-1, 1)})


def test_a_dead_channel_does_not_take_the_precision_of_the_others() -> None:
    graph = network()
    weights, bias = graph.values["c1/w"], graph.values["c1/b"]
    assert weights.constant is not None
    assert bias.constant is not None
    dead, shifted = weights.constant.array().copy(), bias.constant.array().copy()
    before = quant(solved(graph, "am68a", 4)[0], "c1/w").scale
    dead[3], shifted[3] = 1e-30, 1.0
    graph.set_constant(weights, Constant.of(dead))
    graph.set_constant(bias, Constant.of(shifted))
    fixed, feeds, notes = solved(graph, "am68a", 4)
    after = quant(fixed, "c1/w").scale
    assert [s for i, s in enumerate(after) if i != 3] == [s for i, s in enumerate(before) if i != 3]
    assert any(note.code == "LT851" for note in notes)
    assert sqnr(graph, fixed, feeds) > 25
    codes = fixed.values["c1/b"].constant
    assert codes is not None
    assert np.abs(codes.array().astype(np.int64)).max() < 2**31 - 1


def test_weights_that_two_layers_share_are_copied() -> None:
    graph = parse_graph("""graph "s" {
  input %x: float32[1, 2, 4, 4]
  const %w: float32[2, 2, 1, 1] = [1, -2, 3, 0.5]
  %a: float32[1, 2, 4, 4] = Conv(%x, %w)
  %b: float32[1, 2, 4, 4] = Conv(%a, %w)
  return %b
}""")
    fixed, _, _ = solved(graph, "am68a", 4)
    weights = [node.value(1) for node in fixed]
    assert weights[0] is not weights[1]
    assert all(value.type.quant is not None for value in weights)


def test_a_bias_that_needs_more_than_32_bits_stays_float_and_that_is_said() -> None:
    graph = network()
    bias = graph.values["c1/b"]
    graph.set_constant(bias, Constant.of(np.full(8, 1e6, np.float32)))
    fixed, _, notes = solved(graph, "am68a", 4, bits=16)
    assert fixed.values["c1/b"].type.quant is None
    assert any(note.code == "LT852" for note in notes)


def test_a_bias_that_its_format_cannot_hold_saturates_or_raises_the_weight_scale() -> None:
    graph = network()
    graph.set_constant(graph.values["c1/b"], Constant.of(np.full(8, 500, np.float32)))
    clipped, _, notes = solved(graph, "tda4vm", 1, clip_bias=True)
    assert any(note.code == "LT853" for note in notes)
    raised, _, notes = solved(graph, "tda4vm", 1)
    assert quant(raised, "c1/w").scale[0] > quant(clipped, "c1/w").scale[0]
    assert not any(note.code == "LT853" for note in notes)


def test_infinite_weights_are_refused_by_name() -> None:
    graph = network()
    graph.set_constant(graph.values["d/w"], Constant.of(np.full((5, 8), np.inf, np.float32)))
    with pytest.raises(QuantizationError, match="d/w"):
        solved(graph, "am68a", 4, ranges={name: Range(-1, 1) for name in graph.values})


def test_solving_twice_gives_the_same_graph() -> None:
    assert solved(network(), "tda4vm", 0)[0] == solved(network(), "tda4vm", 0)[0]
