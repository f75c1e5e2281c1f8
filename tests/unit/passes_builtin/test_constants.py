from __future__ import annotations

import numpy as np

from lowtide.ir import Constant, DType
from unit.passes_builtin.equivalence import Builder, check, ops, reasons, run_passes


def test_every_result_of_a_node_becomes_a_constant() -> None:
    build = Builder()
    parts = build.graph.add_node(
        "Split",
        [build.constant([1.0, 2.0, 3.0])],
        [(name, build.constant([0.0]).type) for name in ("first", "second", "third")],
        {"num_outputs": 3},
    ).outputs
    total = build.input(1)
    for part in parts:
        total = build.node("Add", total, part)
    graph = build.done(total)
    check(graph, "fold-constants,prune")
    assert ops(graph) == ["Add", "Add", "Add"]
    assert {"first", "second", "third"} <= set(graph.values)


def test_a_constant_node_of_the_model_becomes_a_constant() -> None:
    build = Builder()
    made = build.graph.add_node(
        "Constant",
        [],
        [("k", build.constant([1.0, 2.0]).type)],
        {"value": Constant.of(np.array([1, 2], np.float32))},
    )
    graph = build.done(build.node("Add", build.input(2), made.output))
    check(graph, "fold-constants,prune")
    assert graph.values["k"].is_constant


def test_size_and_the_end_of_a_shape_fold() -> None:
    build = Builder()
    source = build.input(2, 3, 4)
    nodes = [
        build.graph.add_node("Size", [source], [("size", build.ints(1).type)]),
        build.graph.add_node("Shape", [source], [("dims", build.ints(1).type)], {"start": -2, "end": -1}),
    ]
    count = build.node("Cast", nodes[0].output, to=DType.FLOAT32.onnx)
    dims = build.node("Cast", nodes[1].output, to=DType.FLOAT32.onnx)
    graph = build.done(build.node("Add", build.node("Add", build.node("Neg", source), count), dims))
    check(graph, "fold-constants,prune")
    assert ops(graph) == ["Neg", "Add", "Add"]
    known = [value.constant.array().tolist() for value in graph.constants if value.constant]
    assert sorted(known, key=str) == [24.0, [3.0]]


def test_data_that_is_elsewhere_is_refused() -> None:
    build = Builder()
    hidden = build.graph.add_constant("hidden", Constant.by_digest(DType.FLOAT32, (2,), "0" * 64))
    graph = build.done(build.node("Add", build.input(2), build.node("Neg", hidden)))
    said = reasons(run_passes(graph, "fold-constants"))
    assert said == ["the data of hidden is not here; the graph would have to come from the model file."]


def test_what_the_runtime_cannot_evaluate_is_refused_in_its_words() -> None:
    build = Builder()
    impossible = build.node("Reshape", build.constant([1.0, 2.0]), build.ints(3))
    build.graph.set_outputs([build.node("Add", build.input(3), impossible)])
    said = reasons(run_passes(build.graph, "fold-constants"))
    assert said[0].startswith("ONNX Runtime cannot evaluate it: ")
    assert len(build.graph) == 2


def test_dropout_in_training_is_random() -> None:
    build = Builder()
    yes = build.constant(np.array(True), "bool")
    noisy = build.node("Dropout", build.constant([1.0, 2.0]), build.constant(0.5), yes)
    build.graph.set_outputs([build.node("Add", build.input(2), noisy)])
    assert "deterministic" in reasons(run_passes(build.graph, "fold-constants,remove-identity"))[0]
    assert len(build.graph) == 2
