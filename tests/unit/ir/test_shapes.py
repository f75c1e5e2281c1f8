"""Shape inference is ONNX's own and never forgets what was known."""

from __future__ import annotations

import numpy as np
import pytest

from lowtide.errors import GraphError
from lowtide.ir import Constant, Graph, QuantParams, TensorType
from lowtide.ir.shapes import SMALL_CONSTANT, infer_types

UNKNOWN = TensorType("float32", None)


def test_shapes_follow_from_inputs_attributes_and_small_constants() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType("float32", [1, 3, 8, 8]))
    w = graph.add_constant("w", Constant.of(np.zeros((4, 3, 3, 3), np.float32)))
    shape = graph.add_constant("shape", Constant.of(np.array([1, -1])))
    conv = graph.add_node("Conv", [x, w], [("c", UNKNOWN)], {"strides": (2, 2)})
    flat = graph.add_node("Reshape", [conv.output, shape], [("f", UNKNOWN)])
    best = graph.add_node("ArgMax", [flat.output], [("best", UNKNOWN)], {"axis": 1})
    graph.set_outputs([best.output])
    assert infer_types(graph) == 3
    assert (conv.output.type.shape, flat.output.type.shape) == ((1, 4, 3, 3), (1, 36))
    assert best.output.type == TensorType("int64", [1, 1])
    assert infer_types(graph) == 0


def test_constants_without_data_and_large_ones_lend_their_shape() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType("float32", [1, 2000]))
    large = graph.add_constant("large", Constant.of(np.zeros((2000, 5), np.float32)))
    assert large.constant is not None
    assert large.constant.nbytes > SMALL_CONSTANT
    absent = graph.add_constant("absent", Constant.by_digest(large.type.dtype, (5, 3), "0" * 64))
    first = graph.add_node("MatMul", [x, large], [("a", UNKNOWN)])
    second = graph.add_node("MatMul", [first.output, absent], [("b", UNKNOWN)])
    infer_types(graph)
    assert second.output.type.shape == (1, 3)


def test_quantization_stays_and_quantized_constants_count_as_real_numbers() -> None:
    graph = Graph()
    quant = QuantParams("int8", 0.5)
    x = graph.add_input("x", TensorType("float32", [1, 2], quant))
    codes = Constant.of(np.ones((1, 2), np.int8))
    c = graph.add_constant("c", codes, TensorType("float32", [1, 2], quant))
    add = graph.add_node("Add", [x, c], [("y", UNKNOWN.with_quant(quant))])
    infer_types(graph)
    assert add.output.type == TensorType("float32", [1, 2], quant)


def test_a_dimension_that_onnx_leaves_open_keeps_what_was_known() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType("float32", [4]))
    shape = graph.add_input("shape", TensorType("int64", [2]))
    known = TensorType("float32", [2, 2])
    reshape = graph.add_node("Reshape", [x, shape], [("y", known)])
    nonzero = graph.add_node("NonZero", [x], [("n", TensorType("int64", [1, 3]))])
    assert infer_types(graph) == 0
    assert (reshape.output.type, nonzero.output.type.shape) == (known, (1, 3))


def test_a_whole_number_serves_as_a_float_attribute() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType("float32", [2]))
    leaky = graph.add_node("LeakyRelu", [x], [("y", UNKNOWN)], {"alpha": 1})
    infer_types(graph)
    assert leaky.output.type.shape == (2,)


def test_a_contradiction_names_the_graph() -> None:
    graph = Graph("net")
    x = graph.add_input("x", TensorType("float32", [2, 3]))
    graph.add_node("MatMul", [x, x], [("y", UNKNOWN)])
    with pytest.raises(GraphError, match="shape inference failed") as caught:
        infer_types(graph)
    assert caught.value.place == "net"
