from __future__ import annotations

import numpy as np
import pytest

from lowtide.errors import PassError
from lowtide.ir import Array, Constant, Graph, QuantParams, Value
from lowtide.options import CompileOptions
from lowtide.passes import PassContext
from lowtide_plugins.passes.batch_norm import FoldBatchNorm
from lowtide_plugins.passes.input_normalization import FoldInputNormalization
from unit.passes_builtin.equivalence import Builder, check, deviation, execute, ops, reasons, run_passes

CHANNELS = 4


def linear(build: Builder, op: str, source: Value, group: int = 1) -> Value:
    """A linear node with 4 input and 4 output channels, and a bias where there can be one."""
    bias = build.weights(CHANNELS)
    match op:
        case "Conv" | "ConvTranspose":
            weights = build.weights(CHANNELS, CHANNELS // group, 3, 3)
            return build.node(op, source, weights, bias, group=group)
        case "Gemm":
            return build.node(op, source, build.weights(CHANNELS, CHANNELS), bias, alpha=0.5, beta=2.0)
        case _:
            return build.node(op, source, build.weights(CHANNELS, CHANNELS))


def source(build: Builder, op: str) -> Value:
    return build.input(2, CHANNELS, 5, 5) if op.startswith("Conv") else build.input(3, CHANNELS)


LINEAR = [
    ("Conv", 1),
    ("Conv", 2),
    ("Conv", 4),
    ("ConvTranspose", 1),
    ("ConvTranspose", 2),
    ("Gemm", 1),
    ("MatMul", 1),
]


@pytest.mark.parametrize(("op", "group"), LINEAR)
def test_batch_normalization_behind_a_linear_node_is_folded(op: str, group: int) -> None:
    build = Builder()
    graph = build.done(build.batch_norm(linear(build, op, source(build, op), group), CHANNELS))
    check(graph, "fold-batch-norm,prune", bound=1e-5)
    assert ops(graph) == ["Gemm" if op == "MatMul" else op]


@pytest.mark.parametrize(("op", "group"), [entry for entry in LINEAR if entry[0] != "ConvTranspose"])
def test_batch_normalization_before_a_linear_node_is_folded(op: str, group: int) -> None:
    build = Builder()
    graph = build.done(linear(build, op, build.batch_norm(source(build, op), CHANNELS), group))
    check(graph, "fold-batch-norm,prune", bound=1e-5)
    assert "BatchNormalization" not in ops(graph)


def test_leading_normalization_stays_when_that_is_switched_off() -> None:
    build = Builder()
    graph = build.done(linear(build, "Conv", build.batch_norm(source(build, "Conv"), CHANNELS)))
    said = reasons(check(graph, "fold-batch-norm{leading=false}"))
    assert ops(graph) == ["BatchNormalization", "Conv"]
    assert said == ["no convolution or matrix product stands before it."]


def test_an_offset_does_not_go_ahead_into_a_transposed_convolution() -> None:
    build = Builder()
    graph = build.done(linear(build, "ConvTranspose", build.batch_norm(source(build, "Conv"), CHANNELS)))
    said = reasons(check(graph, "fold-batch-norm"))
    assert ops(graph) == ["BatchNormalization", "ConvTranspose"]
    assert "the offset would have to be zero" in said[0]


def test_a_factor_before_a_padded_convolution_is_folded() -> None:
    build = Builder()
    scaled = build.node("Mul", build.input(1, CHANNELS, 5, 5), build.weights(CHANNELS, 1, 1))
    graph = build.done(
        build.node("Conv", scaled, build.weights(CHANNELS, 2, 3, 3), group=2, pads=(1, 1, 1, 1))
    )
    check(graph, "fold-scale-shift", bound=1e-5)
    assert ops(graph) == ["Conv"]


def test_a_factor_before_a_transposed_convolution_is_folded() -> None:
    build = Builder()
    scaled = build.node("Mul", build.input(1, CHANNELS, 5, 5), build.weights(CHANNELS, 1, 1))
    graph = build.done(build.node("ConvTranspose", scaled, build.weights(CHANNELS, 2, 3, 3), group=2))
    check(graph, "fold-scale-shift", bound=1e-5)
    assert ops(graph) == ["ConvTranspose"]


def test_training_mode_is_refused() -> None:
    build = Builder()
    convolved = linear(build, "Conv", source(build, "Conv"))
    normalized = build.batch_norm(convolved, CHANNELS)
    assert normalized.producer is not None
    build.graph.set_attribute(normalized.producer, "training_mode", 1)
    build.graph.set_outputs([normalized])
    assert reasons(run_passes(build.graph, "fold-batch-norm")) == [
        "it is in training mode; the model would have to be exported for inference."
    ]


def test_quantized_weights_are_left_alone() -> None:
    build = Builder()
    convolved = linear(build, "Conv", source(build, "Conv"))
    graph = build.done(build.batch_norm(convolved, CHANNELS))
    weights = graph.nodes[0].value(1)
    codes = np.ones(weights.type.static_shape, np.int8)
    graph.set_constant(weights, Constant.of(codes), weights.type.with_quant(QuantParams("int8", 0.5)))
    said = reasons(run_passes(graph, "fold-batch-norm{leading=false}"))
    assert "would have to be float constants" in said[0]
    assert np.array_equal(weights.constant.array() if weights.constant else [], codes)


def test_a_quantized_tensor_between_two_nodes_keeps_them_apart() -> None:
    build = Builder()
    convolved = linear(build, "Conv", source(build, "Conv"))
    graph = build.done(build.batch_norm(convolved, CHANNELS))
    graph.retype(convolved, convolved.type.with_quant(QuantParams("int8", 0.5)))
    said = reasons(run_passes(graph, "fold-batch-norm{leading=false}"))
    assert "its rounding would be lost" in said[0]


def test_weights_that_two_nodes_share_change_for_one_of_them_only() -> None:
    build = Builder()
    source, weights = build.input(1, CHANNELS, 5, 5), build.weights(CHANNELS, CHANNELS, 3, 3)
    first = build.batch_norm(build.node("Conv", source, weights), CHANNELS)
    graph = build.done(first, build.node("Conv", source, weights))
    check(graph, "fold-batch-norm,prune", bound=1e-5)
    assert ops(graph) == ["Conv", "Conv"]


def test_a_normalization_that_would_overflow_is_refused() -> None:
    build = Builder()
    convolved = build.node("Conv", build.input(1, 1, 2, 2), build.constant(np.full((1, 1, 1, 1), 1e30)))
    huge, zero, one = (build.constant([entry]) for entry in (1e30, 0.0, 1.0))
    graph = build.done(build.node("BatchNormalization", convolved, huge, zero, zero, one))
    said = reasons(run_passes(graph, "fold-batch-norm"))
    assert "would overflow" in said[0]
    assert len(graph) == 2


@pytest.mark.parametrize("rank", [2, 3])
def test_a_factor_goes_into_a_matrix_product_of_any_rank_but_an_offset_needs_a_bias(rank: int) -> None:
    build = Builder()
    product = build.node("MatMul", build.input(*(2,) * (rank - 1), CHANNELS), build.weights(CHANNELS, 3))
    scaled = build.node("Mul", product, build.weights(3))
    graph = build.done(build.node("Add", scaled, build.weights(3)))
    check(graph, "fold-scale-shift", bound=1e-5)
    assert ops(graph) == (["Gemm"] if rank == 2 else ["MatMul", "Add"])


@pytest.mark.parametrize("shape", [(), (1,), (CHANNELS, 1, 1), (1, CHANNELS, 1, 1)])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_every_spelling_of_a_channel_constant_is_folded(op: str, shape: tuple[int, ...]) -> None:
    build = Builder()
    convolved = linear(build, "Conv", source(build, "Conv"))
    graph = build.done(build.node(op, convolved, build.constant(build.random.uniform(0.5, 2, shape))))
    check(graph, "fold-scale-shift", bound=1e-5)
    assert ops(graph) == ["Conv"]


def test_a_constant_that_widens_the_result_is_refused() -> None:
    build = Builder()
    convolved = build.node("Conv", build.input(1, 2, 4, 4), build.weights(1, 2, 1, 1))
    graph = build.done(build.node("Add", convolved, build.weights(3, 1, 1)))
    assert "one number for each output channel" in reasons(check(graph, "fold-scale-shift"))[0]


def test_a_constant_in_the_middle_of_the_network_is_not_moved_ahead() -> None:
    build = Builder()
    scaled = build.node("Mul", build.node("Relu", source(build, "Conv")), build.weights(CHANNELS, 1, 1))
    graph = build.done(linear(build, "Conv", scaled))
    check(graph, "fold-scale-shift")
    assert ops(graph) == ["Relu", "Mul", "Conv"]


def normalized_reference(
    graph: Graph, pixels: Array, mean: list[float], scale: list[float]
) -> dict[str, Array]:
    shape = (1, -1, 1, 1)
    return execute(
        graph,
        {
            "x": (pixels - np.reshape(mean, shape).astype(np.float32))
            * np.reshape(scale, shape).astype(np.float32)
        },
    )


@pytest.mark.parametrize("pads", [0, 1])
def test_the_network_takes_raw_pixels_afterwards(pads: int) -> None:
    build = Builder()
    convolved = build.node("Conv", build.input(1, 3, 6, 6), build.weights(2, 3, 3, 3), pads=(pads,) * 4)
    graph = build.done(build.node("Relu", convolved))
    pixels = np.random.default_rng(1).integers(0, 256, (1, 3, 6, 6)).astype(np.float32)
    wanted = normalized_reference(graph, pixels, [123.675, 116.28, 103.53], [0.0171, 0.0175, 0.0174])
    text = 'fold-input-normalization{mean="123.675,116.28,103.53" scale="0.0171, 0.0175, 0.0174"}'
    runs = run_passes(graph, text)
    assert deviation(wanted, execute(graph, {"x": pixels})) < 1e-5
    assert ops(graph) == (["Sub", "Conv", "Relu"] if pads else ["Conv", "Relu"])
    assert [said.split(":")[0] for said in reasons(runs)] == (
        ["Sub of the input normalization stays a layer"] if pads else []
    )
    assert not run_passes(graph, text)[0].outcome.changed


@pytest.mark.parametrize(
    "option", ['mean="1,2"', 'mean="a"', 'scale="nan"', "mean=1 input=y", 'mean="1,2" scale="1,2,3"']
)
def test_a_normalization_that_does_not_fit_the_input_is_an_error(option: str) -> None:
    build = Builder()
    graph = build.done(build.node("Relu", build.input(1, 3, 2, 2)))
    with pytest.raises(PassError):
        run_passes(graph, f"fold-input-normalization{{{option}}}")


def test_without_mean_and_scale_the_input_stays() -> None:
    build = Builder()
    graph = build.done(build.node("Relu", build.input(1, 3, 2, 2)))
    assert not run_passes(graph, 'fold-input-normalization,fold-input-normalization{mean="0" scale="1"}')[
        1
    ].outcome.changed


def test_the_options_of_the_compile_say_mean_and_scale_when_the_pass_does_not() -> None:
    options = CompileOptions(input_mean=(10.0, 20.0, 30.0), input_scale=(0.5,), input_optimization=True)
    build = Builder()
    graph = build.done(build.node("Conv", build.input(1, 3, 4, 4), build.weights(2, 3, 1, 1)))
    pixels = np.random.default_rng(1).integers(0, 256, (1, 3, 4, 4)).astype(np.float32)
    wanted = normalized_reference(graph, pixels, [10.0, 20.0, 30.0], [0.5])
    outcome = FoldInputNormalization().run(graph, PassContext(options=options))
    assert outcome.changed
    assert deviation(wanted, execute(graph, {"x": pixels})) < 1e-5


def test_the_option_for_leading_normalization_is_obeyed() -> None:
    build = Builder()
    graph = build.done(linear(build, "Conv", build.batch_norm(source(build, "Conv"), CHANNELS)))
    context = PassContext(options=CompileOptions(pre_batchnorm_fold=False))
    assert not FoldBatchNorm().run(graph, context).changed
