"""Every mutator keeps its invariant, and refuses what would break it without leaving a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lowtide.errors import GraphError
from lowtide.ir import Constant, Graph, Location, Node, QuantParams, TensorType, Use, print_graph, verify

F32 = TensorType("float32", [1, 2])
INT8 = QuantParams("int8", 0.5)


def chain() -> tuple[Graph, Node, Node]:
    """X -> Relu -> y -> Add(y, c) -> z."""
    graph = Graph("chain")
    x = graph.add_input("x", F32)
    c = graph.add_constant("c", Constant.of(np.ones((1, 2), np.float32)))
    relu = graph.add_node("Relu", [x], [("y", F32)])
    add = graph.add_node("Add", [relu.output, c], [("z", F32)])
    graph.set_outputs([add.output])
    return graph, relu, add


def test_uses_list_every_operand_that_reads_a_value() -> None:
    graph, relu, add = chain()
    square = graph.add_node("Mul", [add.output, add.output], [("square", F32)])
    assert relu.output.uses == (Use(add, 0),)
    assert add.output.uses == (Use(square, 0), Use(square, 1))
    assert add.output.users == (square,)
    verify(graph)


def test_a_node_is_named_after_its_first_output_unless_another_node_has_the_name() -> None:
    graph, relu, _ = chain()
    assert relu.name == "y"
    other = graph.add_node("Abs", [relu.output], [("a", F32)], name="b")
    clash = graph.add_node("Abs", [relu.output], [("b", F32)])
    assert (other.name, clash.name) == ("b", "b_1")
    verify(graph)


def test_a_node_can_be_put_before_another() -> None:
    graph, relu, add = chain()
    inserted = graph.add_node("Neg", [relu.output], [("n", F32)], before=add)
    assert graph.nodes == (relu, inserted, add)
    assert len(graph) == 3


@pytest.mark.parametrize(
    ("outputs", "attributes", "message"),
    [
        ([("new", F32), ("x", F32)], {}, "two values have this name"),
        ([("new", F32), ("new", F32)], {}, "two values have this name"),
        ([], {}, "at least one result"),
        ([("new", F32)], {"axis": object()}, "an attribute holds"),
        ([("new", F32)], {"axis": [[1]]}, "an attribute holds"),
    ],
)
def test_a_refused_node_leaves_the_graph_as_it_was(
    outputs: list[tuple[str, TensorType]], attributes: dict[str, object], message: str
) -> None:
    graph, relu, _ = chain()
    before = print_graph(graph)
    with pytest.raises(GraphError, match=message):
        graph.add_node("Split", [relu.output], outputs, attributes)  # type: ignore[arg-type]  # wrong on purpose
    assert print_graph(graph) == before
    assert "new" not in graph.values
    verify(graph)


def test_values_and_nodes_of_another_graph_are_refused_by_every_mutator() -> None:
    graph, relu, add = chain()
    other, foreign, _ = chain()
    refused: list[Callable[[], object]] = [
        lambda: graph.add_node("Relu", [foreign.output], [("new", F32)]),
        lambda: graph.add_node("Relu", [relu.output], [("new", F32)], before=foreign),
        lambda: graph.set_outputs([foreign.output]),
        lambda: graph.set_input(add, 0, foreign.output),
        lambda: graph.set_input(foreign, 0, relu.output),
        lambda: graph.set_attribute(foreign, "axis", 1),
        lambda: graph.replace_uses(add.output, foreign.output),
        lambda: graph.replace_uses(foreign.output, add.output),
        lambda: graph.retype(foreign.output, F32),
        lambda: graph.rename(foreign.output, "new"),
        lambda: graph.remove(foreign),
    ]
    for call in refused:
        with pytest.raises(GraphError, match="belongs to another graph"):
            call()
    assert graph == other
    verify(graph)


def test_numbers_of_numpy_become_plain_numbers_in_attributes() -> None:
    graph, relu, _ = chain()
    given: dict[str, Any] = {"alpha": np.float64(0.5), "flag": True, "perm": [np.int64(1), 0], "name": "x"}
    node = graph.add_node("LeakyRelu", [relu.output], [("n", F32)], given)
    assert dict(node.attributes) == {"alpha": 0.5, "flag": 1, "perm": (1, 0), "name": "x"}
    assert [type(entry) for entry in node.attributes.values()] == [float, int, tuple, str]
    graph.set_attribute(node, "alpha", np.float32(0.25).item())
    graph.set_attribute(node, "flag", None)
    assert "flag" not in node.attributes
    assert node.float_attribute("alpha", 1) == 0.25


def test_an_operand_can_be_replaced_left_out_and_added() -> None:
    graph, relu, _ = chain()
    low, high = (graph.add_constant(n, Constant.of(np.float32(1))) for n in ("low", "high"))
    clip = graph.add_node("Clip", [relu.output, low], [("clipped", F32)])
    graph.set_input(clip, 1, None)
    assert (clip.inputs, low.uses) == ((relu.output,), ())
    graph.set_input(clip, 2, high)
    assert clip.inputs == (relu.output, None, high)
    assert (clip.operand(1), clip.operand(7)) == (None, None)
    with pytest.raises(GraphError, match="no operand 1"):
        clip.value(1)
    with pytest.raises(GraphError, match="operands count from 0"):
        graph.set_input(clip, -1, low)
    verify(graph)


def test_all_readers_and_outputs_move_to_another_value() -> None:
    graph, relu, add = chain()
    x = graph.inputs[0]
    graph.set_outputs([relu.output, add.output])
    graph.replace_uses(relu.output, x)
    assert add.inputs[0] is x
    assert graph.outputs == (x, add.output)
    assert relu.output.uses == ()
    graph.remove(relu)
    verify(graph)


def test_a_node_that_is_read_or_returned_stays() -> None:
    graph, relu, add = chain()
    for node in (relu, add):
        with pytest.raises(GraphError, match="is still read"):
            graph.remove(node)
    graph.set_outputs([relu.output])
    graph.remove(add)
    assert graph.values["c"].uses == ()
    with pytest.raises(GraphError, match="another graph"):
        graph.remove(add)


def test_a_removed_name_is_free_again() -> None:
    graph, _, add = chain()
    graph.set_outputs([])
    graph.remove(add)
    assert graph.fresh_name("z") == "z"
    assert graph.fresh_name("y") == "y_1"
    graph.add_input("y_1", F32)
    assert graph.fresh_name("y") == "y_2"


def test_only_inputs_that_nobody_reads_can_be_removed() -> None:
    graph, relu, _ = chain()
    spare = graph.add_input("spare", F32)
    graph.remove_input(spare)
    with pytest.raises(GraphError, match="still read"):
        graph.remove_input(graph.inputs[0])
    for value in (spare, relu.output, graph.values["c"]):
        with pytest.raises(GraphError, match="no such input"):
            graph.remove_input(value)
    assert [value.name for value in graph.inputs] == ["x"]


def test_renaming_moves_the_name_and_that_of_the_node_which_bears_it() -> None:
    graph, relu, add = chain()
    graph.rename(relu.output, "hidden")
    assert (relu.name, graph.values["hidden"], "y" in graph.values) == ("hidden", relu.output, False)
    with pytest.raises(GraphError, match="the name is taken"):
        graph.rename(relu.output, "z")
    graph.rename(relu.output, "hidden")
    named = graph.add_node("Abs", [add.output], [("a", F32)], name="own name")
    graph.rename(named.output, "b")
    assert named.name == "own name"
    graph.add_node("Neg", [add.output], [("y", F32)])
    verify(graph)


def test_a_constant_and_its_type_always_agree() -> None:
    graph, _, _ = chain()
    c = graph.values["c"]
    codes = Constant.of(np.ones((1, 2), np.int8))
    before = (c.type, c.constant)
    with pytest.raises(GraphError, match=r"the data is float32\[1, 2\], the type says int8\[1, 2\]"):
        graph.retype(c, F32.with_quant(INT8))
    with pytest.raises(GraphError, match="the type says float32"):
        graph.set_constant(c, codes, F32)
    with pytest.raises(GraphError, match="only a constant has data"):
        graph.set_constant(graph.inputs[0], codes)
    assert (c.type, c.constant) == before
    graph.set_constant(c, codes, F32.with_quant(INT8))
    assert (c.type.storage, c.constant) == ("int8", codes)
    with pytest.raises(GraphError, match="the data is int8"):
        graph.add_constant("d", codes, F32)
    assert "d" not in graph.values


def test_pruning_removes_what_reaches_no_output_in_any_order_of_nodes() -> None:
    graph, relu, _ = chain()
    dead = graph.add_node("Neg", [relu.output], [("dead", F32)])
    deader = graph.add_node("Abs", [dead.output], [("deader", F32)], before=dead)
    graph.add_constant("unread", Constant.of(1.0))
    assert deader in graph.nodes
    assert graph.prune() == 2
    assert list(graph.values) == ["x", "c", "y", "z"]
    verify(graph)


def test_sorting_keeps_the_present_order_where_it_is_free() -> None:
    graph, relu, add = chain()
    late = graph.add_node("Neg", [graph.inputs[0]], [("late", F32)])
    free = graph.add_node("Abs", [graph.inputs[0]], [("free", F32)], before=relu)
    graph.set_input(relu, 0, late.output)
    graph.sort()
    assert graph.nodes == (free, late, relu, add)
    verify(graph)


def test_sorting_does_not_recurse_into_a_deep_network() -> None:
    graph = Graph()
    value = graph.add_input("x", F32)
    for number in range(3000):
        value = graph.add_node("Relu", [value], [(f"v{number}", F32)], name=f"n{number}").output
    graph._nodes.reverse()
    graph.sort()
    assert [node.output.name for node in graph] == [f"v{number}" for number in range(3000)]


def test_a_graph_with_nodes_out_of_order_can_still_be_cloned() -> None:
    graph, relu, _ = chain()
    graph._nodes.reverse()
    copy = graph.clone()
    assert copy == graph
    copy.sort()
    verify(copy)
    assert copy.nodes[0].output.uses != relu.output.uses


def test_graphs_are_compared_by_content_and_cannot_be_keys() -> None:
    graph, _, _ = chain()
    other, relu, _ = chain()
    assert graph == other
    relu.location = Location("m.onnx", ("relu",))
    assert graph != other
    assert graph != "graph"
    with pytest.raises(TypeError, match="unhashable"):
        hash(graph)


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (lambda node: node.int_attribute("text", 0), "text should be an integer, found 'x'"),
        (lambda node: node.ints_attribute("text"), "text should be a list of integers"),
        (lambda node: node.float_attribute("text", 0.0), "text should be a number"),
        (lambda node: node.str_attribute("number", ""), "number should be a string, found 3"),
    ],
)
def test_an_attribute_of_another_kind_is_refused_where_it_is_read(reader: object, message: str) -> None:
    graph, _, add = chain()
    node = graph.add_node("Neg", [add.output], [("n", F32)], {"text": "x", "number": 3})
    with pytest.raises(GraphError, match=message):
        reader(node)  # type: ignore[operator]


def test_attributes_have_defaults_and_cannot_be_written_to() -> None:
    _, _, add = chain()
    assert add.int_attribute("axis", 7) == 7
    assert add.ints_attribute("pads", [1, 2]) == (1, 2)
    assert add.str_attribute("auto_pad", "NOTSET") == "NOTSET"
    with pytest.raises(TypeError, match="does not support item assignment"):
        add.attributes["axis"] = 1  # type: ignore[index]


def test_a_place_names_the_operator_and_the_original_nodes() -> None:
    graph, relu, _ = chain()
    assert relu.place == "Relu y"
    relu.location = Location("m.onnx", ("conv1",)).merged(Location("m.onnx", ("relu1", "conv1"), ("t",)))
    assert relu.place == "Relu m.onnx: conv1+relu1"
    assert repr(relu) == "Node(Relu m.onnx: conv1+relu1)"
    assert "'x'" in repr(graph.inputs[0])
    assert str(Location("m.onnx")) == "m.onnx"
    assert str(Location(tensors=("t",))) == "t"
