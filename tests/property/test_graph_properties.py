"""What holds for every graph."""

from __future__ import annotations

from random import Random
from typing import Any

import hypothesis.strategies as st
import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings

from lowtide.errors import GraphError
from lowtide.ir import (
    Constant,
    DType,
    Graph,
    QuantParams,
    TensorType,
    layers,
    parse_graph,
    print_graph,
    print_type,
    verify,
)
from lowtide.ir.shapes import infer_types
from lowtide.runtime import to_model
from strategies import constants, graphs, quant_params, tensor_types

QUICK = settings(
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.data_too_large],
)


@QUICK
@given(graphs())
def test_the_text_form_reads_back_to_an_equal_graph(graph: Graph) -> None:
    text = print_graph(graph)
    again = parse_graph(text)
    assert again == graph
    assert print_graph(again) == text


@QUICK
@given(graphs())
def test_a_clone_is_equal_valid_and_independent(graph: Graph) -> None:
    before = print_graph(graph)
    copy = graph.clone()
    verify(copy)
    assert copy == graph
    copy.rename(copy.inputs[0], copy.fresh_name("renamed"))
    assert copy != graph
    assert print_graph(graph) == before


@QUICK
@given(tensor_types())
def test_every_type_reads_back(made: TensorType) -> None:
    graph = Graph()
    graph.add_input("x", made)
    assert parse_graph(print_graph(graph)).inputs[0].type == made
    assert print_type(made) in print_graph(graph)


@QUICK
@given(constants())
def test_every_constant_reads_back_to_the_same_bits(constant: Constant) -> None:
    graph = Graph()
    graph.add_constant("c", constant)
    again = parse_graph(print_graph(graph)).values["c"].constant
    assert again is not None
    assert again == constant
    if again.has_data:
        assert again.array().tobytes() == constant.array().tobytes()


@QUICK
@given(graphs(), st.randoms(use_true_random=False))
def test_sorting_makes_any_order_executable_and_keeps_an_executable_one(graph: Graph, random: Random) -> None:
    copy = graph.clone()
    copy.sort()
    assert copy == graph
    random.shuffle(copy._nodes)
    copy.sort()
    verify(copy)
    assert {node.name for node in copy} == {node.name for node in graph}


@QUICK
@given(graphs())
def test_a_cycle_is_found_wherever_it_is_closed(graph: Graph) -> None:
    first = next((node for node in graph if any(node.inputs)), None)
    if first is None:
        return
    tail = graph.add_node(
        "Identity", [first.output], [(graph.fresh_name("tail"), first.output.type)], name="the tail"
    )
    graph.set_input(first, 0, tail.output)
    with pytest.raises(GraphError, match="depends on its own result"):
        graph.sort()


@QUICK
@given(graphs())
def test_pruning_keeps_inputs_and_outputs_and_leaves_nothing_unread(graph: Graph) -> None:
    inputs, outputs = graph.inputs, graph.outputs
    before = len(graph)
    gone = graph.prune()
    verify(graph)
    assert (graph.inputs, graph.outputs) == (inputs, outputs)
    assert len(graph) == before - gone
    for value in graph.values.values():
        siblings = value.producer.outputs if value.producer else (value,)
        assert value in inputs or any(other.uses or graph.is_output(other) for other in siblings)
    assert graph.prune() == 0


@QUICK
@given(graphs())
def test_inferred_types_are_those_the_graph_was_built_with(graph: Graph) -> None:
    before = print_graph(graph)
    assert infer_types(graph) == 0
    assert print_graph(graph) == before


@QUICK
@given(graphs())
def test_layers_partition_the_nodes_and_bear_the_names_of_their_last_outputs(graph: Graph) -> None:
    found = layers(graph)
    assert sorted(node.name for layer in found for node in layer.nodes) == sorted(node.name for node in graph)
    for layer in found:
        assert layer.name == layer.output.name
        assert layer.output in layer.nodes[-1].outputs
        assert not any(value.is_constant for value in layer.inputs)


@settings(QUICK, max_examples=25)
@given(graphs(), st.booleans())
def test_onnx_runtime_takes_every_graph_and_names_its_outputs_as_the_graph_does(
    graph: Graph, quantized: bool
) -> None:
    graph.set_outputs([value for value in graph.outputs if value.producer] or graph.outputs)
    model = to_model(graph, quantized=quantized)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {value.name: np.ones(value.type.static_shape, np.float32) for value in graph.inputs}
    results: list[Any] = list(session.run(None, feeds))
    for value, info, result in zip(graph.outputs, session.get_outputs(), results, strict=True):
        assert np.shape(result) == value.type.shape
        if value.producer is not None:
            assert info.name == value.name


@QUICK
@given(quant_params())
def test_the_range_of_parameters_is_that_of_their_extreme_codes(quant: QuantParams) -> None:
    low, high = quant.range
    assert low <= 0 <= high


@QUICK
@given(st.sampled_from(DType))
def test_element_types_have_the_numbers_of_onnx(dtype: DType) -> None:
    assert DType.from_onnx(dtype.onnx) is dtype
    assert DType.from_numpy(dtype.numpy.newbyteorder(">")) is dtype
