from __future__ import annotations

import math

import numpy as np
import pytest

from latency_nets.net import Net
from lowtide.ir import AttributeValue, Constant, Graph, TensorType
from lowtide.latency import LayerWork
from lowtide.latency.work import matrix_work
from unit.latency.placed import mixed, problem


def only(net: Net) -> LayerWork:
    (work,) = problem(net.graph).works.values()
    return work


@pytest.mark.parametrize(("group", "kernel", "stride"), [(1, 3, 1), (2, 3, 2), (4, 1, 1), (8, 5, 2)])
def test_a_convolution_multiplies_once_for_each_tap_of_each_output(
    group: int, kernel: int, stride: int
) -> None:
    net = Net("n", (20, 12), 8)
    y = net.conv(net.input, 16, kernel, stride, group=group)
    net.done(y)
    taps = 8 // group * kernel**2
    assert only(net).macs == math.prod(y.type.static_shape) * taps
    assert only(net).parameters == 16 * taps + 16


def one_node(
    op: str, shapes: list[tuple[int, ...]], out: tuple[int, ...], constants: int, **attributes: AttributeValue
) -> Graph:
    graph = Graph()
    first = len(shapes) - constants
    values = [
        graph.add_input(f"x{n}", TensorType("float32", shape)) for n, shape in enumerate(shapes[:first])
    ]
    values += [
        graph.add_constant(f"w{n}", Constant.of(np.zeros(shape, np.float32)))
        for n, shape in enumerate(shapes[first:])
    ]
    made = graph.add_node(op, values, [("y", TensorType("float32", out))], attributes)
    graph.set_outputs([made.output])
    return graph


def test_a_transposed_convolution_multiplies_once_for_each_tap_of_each_input() -> None:
    graph = one_node("ConvTranspose", [(1, 8, 5, 7), (8, 6, 2, 2)], (1, 6, 10, 14), 1, strides=(2, 2))
    found = matrix_work(graph.nodes[0])
    assert found is not None
    assert found.macs == 8 * 5 * 7 * 6 * 4


@pytest.mark.parametrize(
    ("left", "right", "out"),
    [
        ((5, 7), (7, 3), (5, 3)),
        ((2, 5, 7), (7, 3), (2, 5, 3)),
        ((2, 5, 7), (2, 7, 3), (2, 5, 3)),
        ((4, 2, 5, 7), (4, 2, 7, 3), (4, 2, 5, 3)),
        ((5, 7), (7,), (5,)),
        ((7,), (7, 3), (3,)),
    ],
)
def test_a_matrix_product_multiplies_depth_times_for_each_output(
    left: tuple[int, ...], right: tuple[int, ...], out: tuple[int, ...]
) -> None:
    assert np.matmul(np.zeros(left), np.zeros(right)).shape == out
    for constants in (0, 1):
        found = matrix_work(one_node("MatMul", [left, right], out, constants).nodes[0])
        assert found is not None
        assert found.macs == math.prod(out) * left[-1]


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_counts_the_dimension_that_both_operands_share(transposed: int) -> None:
    left = (7, 5) if transposed else (5, 7)
    found = matrix_work(one_node("Gemm", [left, (7, 3)], (5, 3), 1, transA=transposed).nodes[0])
    assert found is not None
    assert (found.rows, found.depth, found.columns) == (3, 7, 5)


def test_depthwise_products_are_told_from_grouped_ones() -> None:
    net = Net("n", 8, 16)
    net.done(net.conv(net.depthwise(net.input), 32, 3, group=8))
    deep, grouped = problem(net.graph).works.values()
    assert deep.matrices[0].depthwise
    assert not grouped.matrices[0].depthwise


def test_a_view_has_nothing_to_do_and_a_window_looks_at_all_its_elements() -> None:
    net = Net("n", 8, 4)
    y = net.pool(net.input, 3, 1)
    net.done(net.flat(y))
    pool, view = problem(net.graph).works.values()
    assert pool.vector_ops == math.prod(y.type.static_shape) * 9
    assert (view.macs, view.vector_ops, view.function_ops) == (0, 0, 0)


def test_functions_are_counted_apart_and_indices_are_comparisons() -> None:
    net = Net("n", 8, 4)
    y = net.sigmoid(net.input)
    net.done(net.argmax(y))
    function, index = problem(net.graph).works.values()
    assert (function.function_ops, function.vector_ops) == (256, 0)
    assert (index.function_ops, index.vector_ops) == (0, 256)


def test_tensors_between_host_and_accelerator_are_borders_and_ends_of_the_network_are_none() -> None:
    found = problem(mixed(), deny_list_layer_type=("Sigmoid",)).works
    host = [work for work in found.values() if work.host]
    assert [work.op for work in host] == ["Sigmoid"]
    touching = {tensor.name for tensor in (*host[0].inputs, *host[0].outputs)}
    for work in found.values():
        for tensor in (*work.inputs, *work.outputs):
            assert tensor.border == (not work.host and tensor.name in touching)


def test_dimensions_that_only_a_run_tells_count_once_and_are_said() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType("float32", (None, 4, 8, 8)))
    graph.set_outputs([graph.add_node("Relu", [x], [("y", x.type)]).output])
    (work,) = problem(graph).works.values()
    assert not work.static
    assert work.inputs[0].elements == 256
