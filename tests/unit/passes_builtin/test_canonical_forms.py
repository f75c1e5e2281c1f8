from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unit.passes_builtin.equivalence import Builder, check, ops, reasons, run_passes


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("window", [(7, 3, 2), (8, 3, 2), (6, 2, 2), (6, 4, 3)])
@pytest.mark.parametrize("op", ["Conv", "MaxPool", "AveragePool"])
def test_computed_padding_becomes_the_same_explicit_padding(
    op: str, window: tuple[int, int, int], mode: str
) -> None:
    size, kernel, stride = window
    build = Builder()
    operands = [build.input(1, 2, size, size + 1)]
    if op == "Conv":
        operands.append(build.weights(2, 2, kernel, kernel))
    made = build.node(op, *operands, auto_pad=mode, strides=(stride, stride), kernel_shape=(kernel, kernel))
    graph = build.done(made)
    check(graph, "decompose")
    assert "auto_pad" not in graph.nodes[0].attributes


def test_computed_padding_counts_dilation() -> None:
    # ONNX Runtime does not execute this, so the sizes of the definition stand for it.
    build = Builder()
    weights = build.weights(1, 1, 3, 3)
    made = build.node("Conv", build.input(1, 1, 9, 9), weights, auto_pad="SAME_UPPER", dilations=(2, 1))
    graph = build.done(made)
    run_passes(graph, "decompose,infer-shapes")
    assert graph.nodes[0].attributes["pads"] == (2, 1, 2, 1)
    assert graph.nodes[0].output.type.shape == (1, 1, 9, 9)


def test_a_window_that_skips_elements_needs_no_padding() -> None:
    build = Builder()
    made = build.node(
        "Conv", build.input(1, 1, 5, 5), build.weights(1, 1, 1, 1), auto_pad="SAME_UPPER", strides=(3, 3)
    )
    graph = build.done(made)
    check(graph, "decompose")
    assert graph.nodes[0].attributes["pads"] == (0, 0, 0, 0)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "NOTSET"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (4, 2), (2, 2), (3, 1)])
def test_computed_padding_of_transposed_convolutions_becomes_explicit(
    kernel: int, stride: int, mode: str
) -> None:
    build = Builder()
    size: dict[str, tuple[int, ...]] = {} if mode != "NOTSET" else {"output_shape": (5 * stride, 5 * stride)}
    weights = build.weights(2, 2, kernel, kernel)
    made = build.node(
        "ConvTranspose", build.input(1, 2, 5, 5), weights, auto_pad=mode, strides=(stride, stride), **size
    )
    graph = build.done(made)
    check(graph, "decompose")
    assert not {"auto_pad", "output_shape"} & set(graph.nodes[0].attributes)


def test_computed_padding_of_an_unknown_size_is_refused() -> None:
    build = Builder()
    graph = build.graph
    source = build.input(1, 1, 4, 4)
    graph.set_outputs([build.node("MaxPool", source, auto_pad="SAME_UPPER", kernel_shape=(2, 2))])
    graph.retype(source, source.type.__class__(source.type.dtype, (1, 1, None, 4)))
    assert "not static" in reasons(run_passes(graph, "decompose"))[0]


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("bias", [None, (), (3,), (1, 3), (1,)])
def test_gemm_is_brought_into_one_form(trans_a: int, trans_b: int, bias: tuple[int, ...] | None) -> None:
    build = Builder()
    source = build.input(*((4, 2) if trans_a else (2, 4)))
    weights = build.weights(*((3, 4) if trans_b else (4, 3)))
    constant = [] if bias is None else [build.constant(build.random.normal(0, 1, bias))]
    graph = build.done(
        build.node("Gemm", source, weights, *constant, transA=trans_a, transB=trans_b, alpha=0.5, beta=-2.0)
    )
    check(graph, "decompose,prune", bound=1e-5)
    gemm = graph.nodes[-1]
    assert dict(gemm.attributes) == {"transB": 1}
    assert gemm.value(1).type.shape == (3, 4)
    assert bias is None or gemm.value(2).type.shape == (3,)


def test_a_gemm_whose_bias_differs_by_row_is_refused() -> None:
    build = Builder()
    graph = build.done(
        build.node("Gemm", build.input(2, 4), build.weights(4, 3), build.weights(2, 3), alpha=0.5)
    )
    assert "same for every row" in reasons(check(graph, "decompose"))[0]


def test_a_gemm_of_two_tensors_is_refused() -> None:
    build = Builder()
    graph = build.done(build.node("Gemm", build.input(2, 4), build.input(4, 3, name="z"), alpha=0.5))
    assert "float constants" in reasons(check(graph, "decompose"))[0]


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axes", [(2, 3), (-1, -2)])
def test_a_spatial_mean_is_a_pool(axes: tuple[int, ...], keep: int) -> None:
    build = Builder()
    graph = build.done(build.node("ReduceMean", build.input(2, 3, 4, 5), build.ints(*axes), keepdims=keep))
    check(graph, "decompose,prune")
    assert ops(graph)[0] == "GlobalAveragePool"


@pytest.mark.parametrize("axes", [(1, 2, 3), (3,), (0, 1)])
def test_a_mean_over_other_axes_stays(axes: tuple[int, ...]) -> None:
    build = Builder()
    graph = build.done(build.node("ReduceMean", build.input(2, 3, 4, 5), build.ints(*axes)))
    check(graph, "decompose")
    assert ops(graph) == ["ReduceMean"]


LIMIT = st.sampled_from([-2.0, -0.5, 0.0, 0.5, 1.0, 6.0])


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["Relu", "Max", "Min", "Clip"]), LIMIT, LIMIT, st.booleans()),
        min_size=1,
        max_size=4,
    )
)
def test_clamps_one_after_the_other_are_one_clamp(chain: list[tuple[str, float, float, bool]]) -> None:
    build = Builder()
    value = build.input(2, 8)
    for op, low, high, first in chain:
        limits = (
            [build.constant(low)]
            if op != "Clip"
            else [build.constant(min(low, high)), build.constant(max(low, high))]
        )
        operands = [value] if op == "Relu" else [value, *limits]
        value = build.node(op, *(operands[::-1] if first and op in {"Max", "Min"} else operands))
    graph = build.done(value)
    check(graph, "decompose,prune")
    assert len(graph) == 1


def test_a_limit_of_higher_rank_is_no_clamp() -> None:
    build = Builder()
    graph = build.done(build.node("Max", build.input(2), build.constant([[0.0]])))
    check(graph, "decompose")
    assert ops(graph) == ["Max"]


def test_a_ramp_that_others_read_stays_written_out() -> None:
    build = Builder()
    source = build.input(8)
    ramp = build.node(
        "Clip", build.node("Add", source, build.constant(3.0)), build.constant(0.0), build.constant(6.0)
    )
    graph = build.done(build.node("Mul", source, build.node("Mul", ramp, build.constant(1 / 6))), ramp)
    check(graph, "decompose")
    assert "HardSwish" not in ops(graph)


@pytest.mark.parametrize("factor", [1 / 6, 0.2])
def test_only_a_sixth_makes_a_hard_sigmoid(factor: float) -> None:
    build = Builder()
    source = build.input(8)
    ramp = build.node(
        "Clip", build.node("Add", source, build.constant(3.0)), build.constant(0.0), build.constant(6.0)
    )
    graph = build.done(build.node("Mul", ramp, build.constant(factor)))
    check(graph, "decompose,prune")
    assert ops(graph) == (["HardSigmoid"] if math.isclose(factor, 1 / 6) else ["Add", "Clip", "Mul"])


def test_integers_are_not_divided_by_multiplying() -> None:
    build = Builder()
    seven = build.constant(np.array([7, 7]), "int64")
    source = build.graph.add_input("n", seven.type)
    made = build.graph.add_node("Div", [source, seven], [("q", seven.type)])
    build.graph.set_outputs(made.outputs)
    run_passes(build.graph, "decompose")
    assert ops(build.graph) == ["Div"]
