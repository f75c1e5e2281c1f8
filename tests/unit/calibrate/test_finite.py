from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lowtide.calibrate.finite import POINTWISE, WINDOWED, watch_points
from lowtide.ir import Constant, DType, Graph, TensorType, Value
from lowtide.ir.shapes import infer_types
from lowtide.runtime import Session, to_model

SHAPE = (1, 16, 7, 6)

CARRIERS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "Add": ([1.0], {}),
    "BatchNormalization": ([np.ones(16)] * 4, {}),
    "Clip": ([0.0, 6.0], {}),
    "Concat": ([np.ones(SHAPE)], {"axis": 1}),
    "Flatten": ([], {}),
    "GlobalAveragePool": ([], {}),
    "Identity": ([], {}),
    "Mul": ([0.0], {}),
    "Relu": ([], {}),
    "Reshape": ([np.array([16, 42])], {}),
    "Squeeze": ([np.array([0])], {}),
    "Sub": ([1.0], {}),
    "Transpose": ([], {"perm": (0, 2, 3, 1)}),
    "Unsqueeze": ([np.array([0])], {}),
    "AveragePool": ([], {"kernel_shape": (3, 2), "strides": (2, 2)}),
    "Conv": ([np.zeros((16, 16, 3, 3))], {"pads": (0, 0, 0, 1), "strides": (2, 2)}),
}


def one_node(op: str, operands: list[Any], attributes: dict[str, Any]) -> Graph:
    graph = Graph(op)
    read: list[Value | None] = [graph.add_input("x", TensorType(DType.FLOAT32, SHAPE))]
    for position, data in enumerate(operands):
        array = np.asarray(data)
        kept = array if array.dtype.kind == "i" else array.astype(np.float32)
        read.append(graph.add_constant(f"k{position}", Constant.of(kept)))
    node = graph.add_node(op, read, [("y", TensorType(DType.FLOAT32, None))], attributes)
    graph.set_outputs([node.output])
    infer_types(graph)
    return graph


def test_every_operator_that_is_relied_on_is_tried() -> None:
    assert set(CARRIERS) == POINTWISE | WINDOWED


@pytest.mark.conformance
@pytest.mark.parametrize("op", sorted(CARRIERS))
def test_onnx_runtime_lets_nan_pass_from_every_position(op: str) -> None:
    session = Session(to_model(one_node(op, *CARRIERS[op]), quantized=False))
    for position in np.ndindex(*SHAPE[2:]):
        frame = np.ones(SHAPE, np.float32)
        frame[(0, 5, *position)] = np.nan
        assert np.isnan(session.run({"x": frame})["y"]).any(), position


def chain(op: str, attributes: dict[str, Any], *operands: Value) -> Graph:
    graph = Graph("chain")
    x = graph.add_input("x", TensorType(DType.FLOAT32, SHAPE))
    weights = graph.add_constant("w", Constant.of(np.ones((16, 16, 3, 3), np.float32)))
    first = graph.add_node("Abs", [x], [("a", TensorType(DType.FLOAT32, None))])
    read = [first.output, *([weights] if op == "Conv" else []), *operands]
    second = graph.add_node(op, read, [("b", TensorType(DType.FLOAT32, None))], attributes)
    graph.set_outputs([first.output, second.output])
    infer_types(graph)
    return graph


@pytest.mark.parametrize(
    ("op", "attributes", "lost"),
    [
        ("Relu", {}, False),
        ("MaxPool", {"kernel_shape": (1, 1)}, True),
        ("Conv", {"pads": (1, 1, 1, 1)}, False),
        ("Conv", {"strides": (2, 2)}, True),  # six columns, of which windows cover five
        ("Conv", {"strides": (4, 4), "pads": (1, 1, 1, 1)}, True),
        ("Conv", {"dilations": (2, 2)}, True),
        ("AveragePool", {"kernel_shape": (7, 6)}, False),
        ("AveragePool", {"kernel_shape": (2, 2), "strides": (2, 2)}, True),
        ("AveragePool", {"kernel_shape": (3, 2), "strides": (2, 2)}, False),
    ],
)
def test_a_tensor_is_watched_where_its_reader_may_lose_nan(
    op: str, attributes: dict[str, Any], *, lost: bool
) -> None:
    found = watch_points(chain(op, attributes), seen={"b"}, reduced={"a"})
    assert found == ({"a"} if lost else set())


def test_the_last_reduced_tensor_is_watched() -> None:
    assert watch_points(chain("Relu", {}), seen=set(), reduced={"a", "b"}) == {"b"}


def test_a_tensor_with_one_reader_that_keeps_nan_need_not_be_watched(network: Graph) -> None:
    whole = {"mean", "flat", "scores", "prob"}
    reduced = {"r1", "c2", "pooled", "sum", "gated"}
    # MaxPool loses what c2 has; Sigmoid is not relied on.
    assert watch_points(network, whole, reduced) == {"c2", "sum"}
