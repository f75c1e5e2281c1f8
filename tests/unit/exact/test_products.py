"""Random layers and networks beside the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from lowtide.exact import ExactSession, find_profile
from lowtide.exact.product import product_of, reach_of
from lowtide.ir import Constant, DType, Graph, QuantParams, TensorType
from lowtide.ir.shapes import infer_types
from lowtide.quantize.operands import mac_operands
from unit.exact.random_layers import difference, layers, networks


@settings(max_examples=100)
@given(layers())
def test_a_layer_gives_what_integers_of_any_size_give(case: tuple[Graph, str, int]) -> None:
    assert difference(*case) == ""


@settings(max_examples=40)
@given(networks())
def test_a_network_gives_what_integers_of_any_size_give(case: tuple[Graph, str, int]) -> None:
    assert difference(*case) == ""


@pytest.mark.parametrize("shape", [(16,), (4, 16, 8), (1, 3, 16, 8), (2, 5, 16, 8)])
def test_every_matrix_of_weights_is_shifted_as_integers_are(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(len(shape))
    x = generator.integers(-128, 128, (*shape[:-2], 6, 16))
    w = generator.integers(-128, 128, shape)
    w[..., -1] = 127  # a column that reaches further than the others
    graph, codes = Graph("g"), QuantParams(DType.INT8, 1.0, 0)
    source = graph.add_input("x", TensorType(DType.FLOAT32, x.shape, codes))
    known = TensorType(DType.FLOAT32, shape, codes)
    weights = graph.add_constant("w", Constant.of(w.astype(np.int8)), known)
    made = TensorType(DType.FLOAT32, None, QuantParams(DType.INT8, 2.0**11, 0))
    graph.set_outputs([graph.add_node("MatMul", [source, weights], [("y", made)]).output])
    infer_types(graph)
    session = ExactSession(graph, find_profile("shift"))
    (found,) = session.run({"x": x.astype(np.float32)}).values()
    # Ties go up: floor(sum / 2^11 + 1/2) in integers.
    wanted = np.clip((x @ w + (1 << 10)) >> 11, -128, 127)
    assert np.unique(wanted).size > 3
    assert np.array_equal(found, wanted * 2.0**11)


def test_the_bound_of_several_matrices_is_that_of_the_one_that_reaches_furthest() -> None:
    graph, codes = Graph("g"), QuantParams(DType.INT8, 1.0, 0)
    w = np.array([[[1, -2], [3, 4]], [[5, 1], [-6, 0]]])
    source = graph.add_input("x", TensorType(DType.FLOAT32, (1, 2), codes))
    known = TensorType(DType.FLOAT32, w.shape, codes)
    weights = graph.add_constant("w", Constant.of(w.astype(np.int8)), known)
    node = graph.add_node("MatMul", [source, weights], [("y", TensorType(DType.FLOAT32, None))])
    operands = mac_operands(node)
    assert operands is not None
    product = product_of(node, operands, "x")
    # 5 and -6 of the second matrix, -2 and 4 of the first, with the ends of the codes.
    assert reach_of(node, w, (-128, 127)).tolist() == [5 * 127 + 6 * 128, 2 * 127 + 4 * 128]
    assert product.bound == 5 * 127 + 6 * 128
    assert product.bias.shape == (2,)
