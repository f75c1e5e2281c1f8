from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.diagnostics import Diagnostics
from lowtide.errors import QuantizationError
from lowtide.ir import Graph, Value, layers, parse_graph, print_graph
from lowtide.options import CompileOptions
from lowtide.plugin import StrategySpec, discover
from lowtide.precision import (
    DisjointSets,
    PrecisionPlan,
    PrecisionProblem,
    check_plan,
    layer_reads,
    precision_classes,
    quantized_values,
)
from lowtide.target import load_target, place

REGISTRY = discover()

TEXT = """graph "g" {
  input %x: float32[1, 2, 4, 4]
  input %y: float32[1, 2, 4, 4]
  const %w: float32[2, 2, 1, 1] = [1, 2, 3, 4]
  const %k: float32[] = [2.0]
  %c: float32[1, 2, 4, 4] = Conv(%x, %w) layer "r"
  %r: float32[1, 2, 4, 4] = Relu(%c) layer "r"
  %s: float32[1, 2, 4, 4] = Add(%r, %y)
  %m: float32[1, 2, 4, 4] = Mul(%s, %k)
  %p: float32[1, 2, 4, 4] = AveragePool(%m) {kernel_shape=[1, 1]}
  %h: float32[1, 2, 4, 4] = Sigmoid(%p)
  %i: int64[1, 1, 4, 4] = ArgMax(%h) {axis=1}
  return %i, %p
}"""


def problem(graph: Graph, target: str = "am68a", *denied: str) -> PrecisionProblem:
    options = CompileOptions(deny_list_layer_name=denied)
    device = load_target(target, REGISTRY)
    placement = place(graph, device, options, Diagnostics())
    classes = precision_classes(graph, device, placement)
    return PrecisionProblem(graph=graph, target=device, placement=placement, options=options, classes=classes)


def names(values: tuple[Value, ...]) -> list[str]:
    return [value.name for value in values]


def quantized(graph: Graph, target: str = "am68a", *denied: str) -> list[str]:
    asked = problem(graph, target, *denied)
    return names(quantized_values(graph, asked.target, asked.placement))


def test_constants_values_inside_layers_and_indices_have_no_width() -> None:
    assert quantized(parse_graph(TEXT)) == ["x", "y", "r", "s", "m", "p", "h"]


def test_what_only_the_host_reads_and_writes_has_no_width() -> None:
    assert quantized(parse_graph(TEXT), "am68a", "h", "i") == ["x", "y", "r", "s", "m", "p"]
    assert quantized(parse_graph(TEXT), "am68a", "r", "s", "m") == ["m", "p", "h"]


def test_a_layer_reads_activations_from_outside_once() -> None:
    graph = parse_graph("""graph "twice" {
  input %x: float32[1, 2]
  const %k: float32[] = [2.0]
  %a: float32[1, 2] = Mul(%x, %x) layer "b"
  %b: float32[1, 2] = Add(%a, %k) layer "b"
  return %b
}""")
    assert [names(layer_reads(layer)) for layer in layers(graph)] == [["x"]]


def test_tensors_come_in_executable_order_however_the_graph_was_made() -> None:
    graph = parse_graph(TEXT)
    # A value that a rewrite adds late stands early in the order of execution.
    first = graph.add_node(
        "Sigmoid", [graph.values["x"]], [("early", graph.values["x"].type)], before=graph.nodes[0]
    )
    graph.set_input(graph.nodes[1], 0, first.output)
    assert quantized(graph) == ["x", "y", "early", "r", "s", "m", "p", "h"]
    again = parse_graph(print_graph(graph))
    assert quantized(again) == quantized(graph)
    assert problem(again).classes == problem(graph).classes


def test_only_layers_that_change_widths_stand_between_classes() -> None:
    classes = problem(parse_graph(TEXT)).classes
    assert {group.name: group.tensors for group in classes} == {
        "x": ("x",),
        "y": ("y",),
        "r": ("r",),
        "s": ("s",),
        "m": ("m",),
        "p": ("p", "h"),
    }
    assert [group.ties for group in classes] == [(), (), (), (), (), ("h",)]


def test_where_every_operator_changes_widths_every_tensor_is_its_own_class() -> None:
    classes = problem(parse_graph(TEXT), "generic").classes
    assert all(len(group.tensors) == 1 and not group.ties for group in classes)


def test_layers_on_the_host_tie_nothing() -> None:
    classes = problem(parse_graph(TEXT), "am68a", "h").classes
    assert all(len(group.tensors) == 1 for group in classes)


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=4), max_size=8))
def test_a_set_is_called_by_the_first_of_its_keys_that_was_added(unions: list[list[str]]) -> None:
    sets: DisjointSets[str] = DisjointSets()
    for key in "hgfedcba":
        sets.add(key)
    for union in unions:
        sets.union(union)
    for name, members in sets.sets().items():
        assert name == max(members)  # keys were added from the last letter on
        assert list(members) == sorted(members, reverse=True)
        assert all(sets.find(member) == name for member in members)


def test_unknown_keys_are_sets_of_their_own() -> None:
    sets: DisjointSets[str] = DisjointSets()
    assert sets.find("new") == "new"
    sets.union([])
    sets.union(["new"])
    assert sets.sets() == {"new": ("new",)}


def test_the_uniform_strategy_plans_every_tensor_and_layer_on_the_accelerator_and_no_other() -> None:
    asked = problem(parse_graph(TEXT), "am68a", "h")
    plan = REGISTRY.load(StrategySpec, "uniform")().plan(asked)
    # Behind a tail on the host an ArgMax stays there.
    assert set(plan.activations) == {"x", "y", "r", "s", "m", "p"}
    assert set(plan.weights) == {"r", "s", "m", "p"}
    check_plan(plan, asked, "uniform")


def test_float_as_width_is_no_plan_for_a_device_of_integers() -> None:
    asked = problem(parse_graph(TEXT))
    wide = attrs.evolve(asked, options=CompileOptions(tensor_bits=32))
    plan = REGISTRY.load(StrategySpec, "uniform")().plan(wide)
    with pytest.raises(QuantizationError, match=r"LT801 x: uniform gives 32 bits, the device has \(8, 16\)"):
        check_plan(plan, wide, "uniform")


def test_a_forgotten_layer_is_named() -> None:
    asked = problem(parse_graph(TEXT))
    plan = REGISTRY.load(StrategySpec, "uniform")().plan(asked)
    forgotten = {name: bits for name, bits in plan.weights.items() if name != "m"}
    with pytest.raises(QuantizationError, match="LT801 m: acme gives no width in weights"):
        check_plan(PrecisionPlan(plan.activations, forgotten), asked, "acme")
