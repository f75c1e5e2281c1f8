"""Rounding that makes up for the error of one weight with those that follow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lowtide
from lowtide.errors import PassError
from lowtide.ir import Array, parse_graph
from lowtide.plugin import discover
from lowtide_plugins.weights.moments import sample, sample_results, second_moments
from lowtide_plugins.weights.rounding import RoundWeights, round_steps
from support import CALIBRATION, MODEL
from unit.weights.benches import Bench, separable

REGISTRY = discover()
PLAIN = "use calibrator minmax"


def energy(error: Array, matrix: Array) -> Array:
    return np.asarray(np.einsum("gok,gkl,gol->go", error, matrix, error))


def moments_of(generator: np.random.Generator, groups: int, size: int) -> Array:
    mixing = generator.normal(size=(groups, size, size)) + 2
    vectors = generator.normal(size=(groups, 4 * size, size)) @ mixing
    return np.asarray(np.matmul(vectors.transpose(0, 2, 1), vectors))


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 5), st.integers(1, 80))
def test_no_output_is_worse_than_with_nearest_codes(seed: int, groups: int, outputs: int, size: int) -> None:
    generator = np.random.default_rng(seed)
    steps = generator.normal(scale=40, size=(groups, outputs, size))
    matrix = moments_of(generator, groups, size)
    codes = round_steps(steps, matrix, -128, 127, 0.0)
    nearest = np.clip(np.floor(np.abs(steps) + 0.5) * np.sign(steps), -128, 127)
    assert (energy(codes - steps, matrix) <= energy(nearest - steps, matrix) * (1 + 1e-6) + 1e-6).all()
    assert np.array_equal(codes, np.rint(codes))
    assert codes.min() >= -128
    assert codes.max() <= 127


def test_weights_whose_inputs_go_together_make_up_for_each_other() -> None:
    generator = np.random.default_rng(0)
    steps = generator.normal(scale=30, size=(1, 16, 64))
    matrix = moments_of(generator, 1, 64)
    codes = round_steps(steps, matrix, -128, 127, 0.01)
    gain = energy(np.rint(steps) - steps, matrix).sum() / energy(codes - steps, matrix).sum()
    assert gain > 10


def test_inputs_that_have_nothing_to_do_with_each_other_leave_nearest_codes() -> None:
    steps = np.random.default_rng(1).normal(scale=30, size=(2, 3, 20))
    codes = round_steps(steps, np.stack([np.eye(20)] * 2), -128, 127, 0.01)
    assert np.array_equal(codes, np.rint(steps))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(2)
    steps, matrix = generator.normal(scale=20, size=(1, 4, 150)), moments_of(generator, 1, 150)
    whole = round_steps(steps, matrix, -128, 127, 0.01)
    monkeypatch.setattr("lowtide_plugins.weights.rounding.BLOCK", 7)
    assert np.mean(round_steps(steps, matrix, -128, 127, 0.01) != whole) < 0.02


@pytest.mark.parametrize(
    "attributes",
    [
        "kernel_shape=[3, 3], pads=[1, 1, 1, 1]",
        "kernel_shape=[3, 3], strides=[2, 2], pads=[0, 1, 1, 0]",
        "kernel_shape=[3, 3], dilations=[2, 2], pads=[2, 2, 2, 2]",
        "kernel_shape=[3, 3], group=4",
    ],
)
def test_samples_are_what_a_convolution_multiplies(attributes: str) -> None:
    group = 4 if "group" in attributes else 1
    graph = parse_graph(f"""graph "g" {{
  input %x: float32[1, 4, 9, 9]
  const %w: float32[4, {4 // group}, 3, 3] = [{", ".join(["0.5"] * (144 // group))}]
  %y: float32[1, 4, ?, ?] = Conv(%x, %w) {{{attributes}}}
  return %y
}}
""")
    from lowtide.runtime import Session, to_model

    generator = np.random.default_rng(3)
    data = generator.normal(size=(1, 4, 9, 9)).astype(np.float32)
    weights = generator.normal(size=(4, 4 // group, 3, 3)).astype(np.float32)
    node = graph.nodes[0]
    from lowtide.ir import Constant

    graph.set_constant(node.value(1), Constant.of(weights))
    (result,) = Session(to_model(graph, quantized=False)).run({"x": data}).values()
    vectors = sample(node, data, 10**6, 0)
    rows = weights.reshape(group, 4 // group, -1)
    made = np.einsum("grk,gok->gor", vectors, rows).reshape(result.shape)
    assert np.abs(made - result).max() < 1e-4
    for frame in range(5):
        few = np.einsum("grk,gok->rgo", sample(node, data, 7, frame), rows).reshape(-1, 4)
        assert len(few) == 7
        assert np.abs(few - sample_results(node, result, 7, frame)).max() < 1e-4


@given(st.integers(1, 500), st.integers(1, 64))
def test_many_frames_are_looked_at_everywhere_and_each_in_as_many_places(size: int, rows: int) -> None:
    graph = parse_graph("""graph "g" {
  input %x: float32[?, 1]
  const %w: float32[1, 1] = [1.0]
  %y: float32[?, 1] = MatMul(%x, %w)
  return %y
}
""")
    numbers = np.arange(size, dtype=np.float32)[:, np.newaxis]
    found = [sample_results(graph.nodes[0], numbers, rows, frame) for frame in range(2 * size)]
    assert {len(places) for places in found} == {min(rows, size)}
    step = max(1, size // rows)
    assert {float(place) for places in found for place in places[:, 0]} >= set(range(min(rows, size) * step))


def test_a_rounded_network_is_nearer_to_the_float_one_where_scales_are_coarse() -> None:
    def noise(weights: str) -> float:
        options = {
            "weights": weights,
            "recipe": PLAIN,
            "quantization_scale_type": 1,
            "channel_wise_quantization": 1,
        }
        result = lowtide.compile(
            MODEL, target="tda4vm", data=str(CALIBRATION), options=options, registry=REGISTRY
        )
        return result.report.outputs[0].sqnr_db

    assert noise("round-weights,correct-bias") > noise("correct-bias") + 0.5


def test_scales_stay_and_a_second_run_changes_nothing() -> None:
    def compiled(weights: str) -> lowtide.CompileResult:
        options = {"weights": weights, "recipe": PLAIN}
        return lowtide.compile(
            MODEL, target="am68a", data=str(CALIBRATION), options=options, registry=REGISTRY
        )

    once, twice, plain = compiled("round-weights"), compiled("round-weights,round-weights"), compiled("")
    assert once.graph == twice.graph
    assert [run.counters["rounded"] for run in twice.report.passes if run.stage == "weights"][1] == 0
    scales = [
        {value.name: value.type for value in result.graph.constants if value.type.quant}
        for result in (once, plain)
    ]
    assert scales[0] == scales[1]


def test_moments_do_not_depend_on_frames_in_flight() -> None:
    options = {"recipe": PLAIN}
    result = lowtide.compile(MODEL, target="am68a", data=str(CALIBRATION), options=options, registry=REGISTRY)
    from lowtide.compiler.run import input_specs
    from lowtide.data import open_data
    from lowtide.quantize.operands import mac_operands

    layers = [(node, found) for node in result.reference if (found := mac_operands(node)) is not None]
    frames = open_data(str(CALIBRATION), input_specs(result.reference)).select(6)
    first, second = (second_moments(result.reference, layers, frames, rows=16) for _ in range(2))
    assert first.keys() == {node.name for node, _ in layers}
    for name, moments in first.items():
        assert np.array_equal(moments.matrix, second[name].matrix)
        assert moments.count == second[name].count > 0


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (RoundWeights(frames=0), "frames: expected at least 1, found 0"),
        (RoundWeights(rows=0), "rows: expected at least 1, found 0"),
        (RoundWeights(damp=-0.5), r"damp: expected at least 0, found -0\.5"),
        (RoundWeights(damp=float("nan")), "damp: expected at least 0, found nan"),
        (RoundWeights(most=0), "most: expected at least 1, found 0"),
    ],
)
def test_options_out_of_range_are_named(step: RoundWeights, words: str) -> None:
    with pytest.raises(PassError, match=f"round-weights, {words}"):
        Bench(separable(0)).run(step)
