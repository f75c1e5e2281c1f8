"""What only a broken pass can bring about; all that the text form can say is in ``tests/golden/ir``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lowtide.errors import GraphError
from lowtide.ir import Constant, Graph, TensorType, verify

F32 = TensorType("float32", [1])


def chain() -> Graph:
    graph = Graph()
    relu = graph.add_node("Relu", [graph.add_input("x", F32)], [("y", F32)])
    graph.set_outputs([graph.add_node("Neg", [relu.output], [("z", F32)]).output])
    return graph


def reverse(graph: Graph) -> None:
    graph._nodes.reverse()


def forget_use(graph: Graph) -> None:
    graph.values["y"]._uses.clear()


def invent_use(graph: Graph) -> None:
    graph.values["x"]._uses.update(graph.values["y"]._uses)


def forget_producer(graph: Graph) -> None:
    graph.values["y"]._producer = None


def make_result_constant(graph: Graph) -> None:
    graph.values["y"]._constant = Constant.of(np.zeros(1, np.float32))


def misfile(graph: Graph) -> None:
    graph.values["x"]._name = "other"


def orphan(graph: Graph) -> None:
    graph._values["stray"] = type(graph.values["x"])("stray", F32)


def return_foreign(graph: Graph) -> None:
    graph._outputs = [chain().outputs[0]]


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (reverse, "reads y before it is made"),
        (forget_use, "y does not know that it is read"),
        (invent_use, "the list of uses is wrong"),
        (forget_producer, "y does not know its maker"),
        (make_result_constant, "y does not know its maker"),
        (misfile, "filed under another name"),
        (orphan, "nothing makes this value"),
        (return_foreign, "returns a value that it does not have"),
    ],
)
def test_a_broken_structure_is_found(breakage: Callable[[Graph], None], message: str) -> None:
    graph = chain()
    verify(graph)
    breakage(graph)
    with pytest.raises(GraphError, match=message):
        verify(graph)


def test_unknown_names_come_with_the_nearest_known_ones() -> None:
    graph = chain()
    x = graph.inputs[0]
    node = graph.add_node("Softmax", [x], [("s", F32)], {"axes": 1})
    with pytest.raises(GraphError, match="did you mean axis"):
        verify(graph)
    graph.remove(node)
    graph.add_node("Relo", [x], [("r", F32)])
    with pytest.raises(GraphError, match="did you mean Relu"):
        verify(graph)
