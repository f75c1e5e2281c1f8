from __future__ import annotations

import itertools

import pytest

from lowtide.ir import Location, QuantParams, layers, verify
from lowtide.passes import Pass
from lowtide.plugin import PassSpec
from unit.passes_builtin.equivalence import Builder, check, ops, reasons, registry, run_passes


def test_every_pass_says_what_it_needs_does_and_refuses() -> None:
    plugins = registry()
    specs = plugins.all(PassSpec)
    assert len(specs) == 14
    for spec in specs:
        kind: type[Pass] = plugins.load(PassSpec, spec.name)
        assert kind.name == spec.name
        text = kind.__doc__ or ""
        assert "Precondition:" in text
        assert "Effect:" in text
        assert "refuse" in text or spec.name == "fold-input-normalization"


@pytest.mark.parametrize(
    ("op", "padding", "refused"),
    [
        ("Conv", 0.0, False),
        ("Conv", 1.0, True),
        ("MaxPool", float("-inf"), False),
        ("MaxPool", 0.0, True),
        ("AveragePool", 0.0, False),
        ("AveragePool", 2.0, True),
    ],
)
def test_padding_moves_into_its_reader_only_where_the_numbers_are_the_same(
    op: str, padding: float, *, refused: bool
) -> None:
    build = Builder()
    source = build.input(1, 2, 5, 5)
    padded = build.node("Pad", source, build.ints(0, 0, 1, 0, 0, 0, 1, 2), build.constant(padding))
    operands = [padded, build.weights(2, 2, 3, 3)] if op == "Conv" else [padded]
    made = build.node(op, *operands, kernel_shape=(3, 3), strides=(2, 2))
    graph = build.done(made)
    assert bool(reasons(check(graph, "merge-pads,prune"))) == refused
    assert ops(graph) == (["Pad", op] if refused else [op])


def test_padding_as_wide_as_the_window_stays() -> None:
    build = Builder()
    padded = build.node("Pad", build.input(1, 1, 5, 5), build.ints(0, 0, 2, 2, 0, 0, 2, 2))
    graph = build.done(build.node("AveragePool", padded, kernel_shape=(2, 2)))
    assert "padding alone" in reasons(check(graph, "merge-pads"))[0]


def test_cutting_is_no_padding() -> None:
    build = Builder()
    cut = build.node("Pad", build.input(1, 1, 5, 5), build.ints(0, 0, -1, 0, 0, 0, 0, 0))
    graph = build.done(build.node("Conv", cut, build.weights(1, 1, 3, 3)))
    assert "cuts off" in reasons(check(graph, "merge-pads"))[0]


def test_pads_of_different_numbers_stay_two() -> None:
    build = Builder()
    first = build.node(
        "Pad", build.input(1, 1, 3, 3), build.ints(0, 0, 1, 1, 0, 0, 1, 1), build.constant(1.0)
    )
    graph = build.done(build.node("Pad", first, build.ints(0, 0, 1, 1, 0, 0, 1, 1)))
    check(graph, "merge-pads")
    assert ops(graph) == ["Pad", "Pad"]


@pytest.mark.parametrize(
    ("first", "second"), list(itertools.product(itertools.permutations(range(3)), repeat=2))[::5]
)
def test_two_transposes_are_one_or_none(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    build = Builder()
    turned = build.node("Transpose", build.node("Neg", build.input(2, 3, 4)), perm=first)
    graph = build.done(build.node("Transpose", turned, perm=second))
    check(graph, "merge-transposes")
    assert ops(graph).count("Transpose") <= 1


@pytest.mark.parametrize("shape", [(), (4,), (3, 1), (2, 3, 4), (1, 1, 1)])
def test_constants_turn_with_the_elementwise_node_that_reads_them(shape: tuple[int, ...]) -> None:
    build = Builder()
    turned = build.node("Transpose", build.input(4, 2, 3), perm=(1, 2, 0))
    summed = build.node("Add", turned, build.constant(build.random.normal(0, 1, shape)))
    graph = build.done(build.node("Transpose", build.node("Relu", summed), perm=(2, 0, 1)))
    check(graph, "merge-transposes,prune")
    assert ops(graph) == ["Add", "Relu"]


def test_one_transpose_serves_other_readers_after_it_was_cancelled_for_one() -> None:
    build = Builder()
    turned = build.node("Transpose", build.input(1, 2, 3, 4), perm=(0, 2, 3, 1))
    back = build.node("Transpose", build.node("Relu", turned), perm=(0, 3, 1, 2))
    graph = build.done(back, build.node("Neg", turned))
    check(graph, "merge-transposes")
    assert sorted(ops(graph)) == ["Neg", "Relu", "Transpose"]


def test_quantization_that_differs_across_a_transpose_keeps_it() -> None:
    build = Builder()
    first = build.node("Transpose", build.input(2, 3))
    graph = build.done(build.node("Transpose", first))
    graph.retype(first, first.type.with_quant(QuantParams("int8", 0.5)))
    run_passes(graph, "merge-transposes,merge-reshapes,remove-identity")
    assert ops(graph) == ["Transpose", "Transpose"]


def test_a_result_of_the_network_takes_its_name_to_the_node_that_makes_it() -> None:
    build = Builder()
    inner = build.node("Relu", build.input(2))
    first = inner.producer
    assert first is not None
    first.location = Location("m.onnx", ("relu",), ("relu",))
    outer = build.node("Identity", inner)
    last = outer.producer
    assert last is not None
    last.location = Location("m.onnx", ("out",), ("identity",))
    graph = build.done(outer)
    check(graph, "remove-identity")
    assert graph.outputs[0].name == "identity"
    assert graph.nodes[0].location == Location("m.onnx", ("relu", "out"), ("relu", "identity"))


def test_two_results_of_one_tensor_keep_both_names() -> None:
    build = Builder()
    relu = build.node("Relu", build.input(2))
    graph = build.done(relu, build.node("Identity", relu))
    assert "free to take that name" in reasons(check(graph, "remove-identity"))[0]
    assert [value.name for value in graph.outputs] == ["relu", "identity"]


def test_the_layer_is_renamed_with_its_last_tensor() -> None:
    build = Builder()
    convolved = build.node("Conv", build.input(1, 1, 2, 2), build.weights(1, 1, 1, 1))
    graph = build.done(build.node("Identity", build.node("Relu", convolved)))
    run_passes(graph, "fuse-layers,remove-identity")
    assert [(layer.name, layer.op) for layer in layers(graph)] == [("identity", "Conv")]
    assert {node.layer for node in graph} == {"identity"}


def test_a_mask_that_is_read_keeps_its_dropout() -> None:
    build = Builder()
    source = build.input(2)
    made = build.graph.add_node(
        "Dropout", [source], [("y", source.type), ("mask", build.constant(True, "bool").type)]
    )
    build.graph.set_outputs(made.outputs)
    run_passes(build.graph, "remove-identity")
    assert ops(build.graph) == ["Dropout"]
    verify(build.graph)


def test_folding_leaves_fused_layers_alone() -> None:
    build = Builder()
    convolved = build.node("Conv", build.input(1, 1, 2, 2), build.weights(1, 1, 1, 1))
    normalized = build.batch_norm(convolved, 1)
    graph = build.done(build.node("Relu", normalized))
    run_passes(graph, "fuse-layers")
    said = reasons(run_passes(graph, "fold-batch-norm"))
    assert "before fuse-layers" in said[0]
    assert ops(graph) == ["Conv", "BatchNormalization", "Relu"]


GELU_FORMS = ("end", "sum", "start")


@pytest.mark.parametrize("form", GELU_FORMS)
def test_gelu_is_one_layer_in_each_of_its_spellings(form: str) -> None:
    build = Builder()
    source, half = build.node("Neg", build.input(4)), build.constant(0.5)
    scaled = build.node("Div", source, build.constant(2**0.5))
    total = build.node("Add", build.node("Erf", scaled), build.constant(1.0))
    if form == "end":
        result = build.node("Mul", half, build.node("Mul", source, total))
    elif form == "sum":
        result = build.node("Mul", source, build.node("Mul", total, half))
    else:
        result = build.node("Mul", build.node("Mul", source, half), total)
    graph = build.done(build.node("Relu", result))
    check(graph, "fuse-layers")
    assert [len(layer.nodes) for layer in layers(graph)] == [1, 5, 1]


def test_another_normalization_is_no_layer_norm() -> None:
    build = Builder()
    source = build.input(1, 4, 4)
    mean = build.node("ReduceMean", source, build.ints(1))
    centred = build.node("Sub", source, mean)
    variance = build.node("ReduceMean", build.node("Mul", centred, centred), build.ints(1))
    root = build.node("Sqrt", build.node("Add", variance, build.constant(1e-5)))
    graph = build.done(build.node("Div", centred, root))
    check(graph, "fuse-layers")
    assert len(layers(graph)) == len(graph)
