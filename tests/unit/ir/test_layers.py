"""Nodes of one layer are one step of the device."""

from __future__ import annotations

import numpy as np

from lowtide.ir import Constant, Graph, Location, TensorType, layers, parse_graph

F32 = TensorType("float32", [1, 2])

FUSED = """
graph "g" {
  input %x: float32[1, 2, 4, 4]
  const %w: float32[2, 2, 1, 1] = [1, 0, 0, 1]
  %c: float32[1, 2, 4, 4] = Conv(%x, %w) layer "r" at "m.onnx" nodes "conv"
  %s: float32[1, 2, 4, 4] = Sigmoid(%x)
  %a: float32[1, 2, 4, 4] = Add(%c, %s) layer "r"
  %r: float32[1, 2, 4, 4] = Relu(%a) layer "r"
  %n: float32[1, 2, 4, 4] = Neg(%r)
  return %n
}
"""


def test_a_fused_layer_has_the_name_of_its_last_output_and_the_operator_of_its_first_node() -> None:
    sigmoid, fused, neg = layers(parse_graph(FUSED))
    assert (fused.name, fused.op, len(fused.nodes)) == ("r", "Conv", 3)
    assert [value.name for value in fused.inputs] == ["x", "s"]
    assert [value.name for value in fused.outputs] == ["r"]
    assert fused.place == "Conv m.onnx: conv"
    assert (sigmoid.name, neg.name) == ("s", "n")


def test_a_value_inside_a_layer_that_is_returned_is_an_output_too() -> None:
    graph = parse_graph(FUSED)
    graph.set_outputs([*graph.outputs, graph.values["c"]])
    fused = layers(graph)[1]
    assert [value.name for value in fused.outputs] == ["r", "c"]
    assert fused.output.name == "r"


def test_a_layer_that_nobody_reads_still_has_an_output() -> None:
    graph = parse_graph(FUSED)
    graph.add_node("Abs", [graph.values["x"]], [("dead", F32)], location=Location("m.onnx"))
    assert layers(graph)[-1].output.name == "dead"


def test_reading_a_value_twice_makes_it_one_input_and_constants_none() -> None:
    graph = Graph()
    x = graph.add_input("x", F32)
    one = graph.add_constant("one", Constant.of(np.ones(2, np.float32)))
    square = graph.add_node("Mul", [x, x], [("square", F32)])
    graph.set_outputs([graph.add_node("Add", [square.output, one], [("y", F32)]).output])
    assert [layer.inputs for layer in layers(graph)] == [(x,), (square.output,)]
