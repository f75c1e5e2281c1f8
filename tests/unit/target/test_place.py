from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.diagnostics import Diagnostics
from lowtide.errors import GraphError, OptionError
from lowtide.ir import DType, Graph, TensorType, parse_graph
from lowtide.plugin import Registry
from lowtide.target import OperatorRule, Placement, ScaleRule, Target, check_node, load_target, place

RegistryOf = Callable[..., Registry]


@attrs.frozen(kw_only=True)
class Options:
    deny_list_layer_type: tuple[str, ...] = ()
    deny_list_layer_name: tuple[str, ...] = ()
    allow_list_layer_name: tuple[str, ...] = ()
    max_num_subgraphs: int | None = None
    post_processing: str = "host"
    meta_layers_names_list: str = ""
    tensor_bits: int = 8


@pytest.fixture
def target(registry_of: RegistryOf) -> Target:
    return load_target("base", registry_of())


NET = parse_graph(
    """graph "net" {
    input %x: float32[1, 3, 8, 8]
    const %w: float32[3, 3, 1, 1] = fill(0.5)
    const %two: float32[1] = [2.0]
    %c: float32[1, 3, 8, 8] = Conv(%x, %w) layer "r" nodes "conv1"
    %r: float32[1, 3, 8, 8] = Relu(%c) layer "r" nodes "relu1" tensors "relu_out"
    %s: float32[1, 3, 8, 8] = Sin(%r)
    %a: float32[1, 3, 8, 8] = Add(%s, %r)
    %m: float32[1, 3, 8, 8] = Mul(%a, %two)
    return %m
    }"""
)


def placed(target: Target, graph: Graph = NET, options: Options | None = None) -> dict[str, str]:
    made = place(graph, target, options or Options(), Diagnostics())
    return {
        entry.layer: entry.reason if entry.device == "host" else f"{entry.subgraph}"
        for entry in made.assignments
    }


def test_unsupported_operators_run_on_the_host_and_cut_the_network(target: Target) -> None:
    assert placed(target) == {"r": "0", "s": "Sin: not supported by the device", "a": "1", "m": "1"}


def test_a_placement_answers_by_layer(target: Target) -> None:
    placement = place(NET, target, Options(), Diagnostics())
    assert (placement.on_accelerator("r"), placement.on_accelerator("s")) == (True, False)
    assert (placement.of("r").op, placement.of("r").reason) == ("Conv", "")
    assert placement.subgraphs == (("r",), ("a", "m"))
    with pytest.raises(GraphError, match="no place"):
        placement.of("nothing")


def test_a_placement_can_be_empty() -> None:
    assert Placement(()).subgraphs == ()


def test_a_failed_constraint_gives_reason_and_hint(registry_of: RegistryOf) -> None:
    text = (
        'schema = 1\nextends = "base"\n[operators.Conv]\nconstraints = ['
        '{ require = "kernel_h > 1", reason = "small", hint = "pad it" }, '
        '{ require = "group > 1", reason = "lonely", hint = "add groups" }, '
        '{ require = "False", reason = "only 8 bits", bits = [16] }]\n'
    )
    target = load_target("child", registry_of(child=text))
    entry = place(NET, target, Options(), Diagnostics()).of("r")
    assert (entry.device, entry.reason) == ("host", "Conv: small; lonely")
    assert (entry.hint, entry.subgraph) == ("pad it; add groups", None)
    wide = place(NET, target, Options(tensor_bits=16), Diagnostics()).of("r")
    assert wide.reason == "Conv: small; lonely; only 8 bits"
    assert [c.reason for c in check_node(target, NET.nodes[0], 16)] == ["small", "lonely", "only 8 bits"]


def test_operators_that_the_device_lacks_fail_no_constraint(target: Target) -> None:
    assert check_node(target, NET.nodes[2], 8) == ()


def test_a_fused_layer_runs_on_the_host_when_one_of_its_nodes_must(registry_of: RegistryOf) -> None:
    text = 'schema = 1\nextends = "base"\nremove_operators = ["Relu"]\n'
    assert placed(load_target("child", registry_of(child=text)))["r"] == "Relu: not supported by the device"


def test_a_node_may_be_supported_within_a_fused_layer_only(registry_of: RegistryOf) -> None:
    text = (
        'schema = 1\nextends = "base"\n[operators.Relu]\n'
        'constraints = [{ require = "layer_size > 1", reason = "not alone" }]\n'
    )
    target = load_target("child", registry_of(child=text))
    assert placed(target)["r"] == "0"
    alone = parse_graph('graph "n" {\ninput %x: float32[1]\n%y: float32[1] = Relu(%x)\nreturn %y\n}')
    assert placed(target, alone) == {"y": "Relu: not alone"}


def test_integer_arithmetic_runs_on_the_host(target: Target) -> None:
    graph = parse_graph(
        """graph "n" {
        input %x: float32[2, 3]
        input %i: int64[2]
        %j: int64[2] = Add(%i, %i)
        %s: int64[2] = Shape(%x)
        %k: int64[2] = Mul(%j, %s)
        %y: float32[?, ?] = Reshape(%x, %k)
        %m: int64[1, ?] = ArgMax(%y)
        %f: float32[2] = Cast(%i) {to=1}
        return %m, %f
        }"""
    )
    integers = "works on integers that are not codes"
    assert placed(target, graph) == {
        "j": f"Add: {integers}",
        "s": f"Shape: {integers}",
        "k": f"Mul: {integers}",
        "y": "0",
        "m": "0",
        "f": f"Cast: {integers}",
    }


@pytest.mark.parametrize(
    ("denied", "hosts"),
    [
        ("Add", {"s", "a"}),
        ("MAKER_Sum", {"s", "a"}),
        ("Relu", {"s", "r"}),
        ("Conv", {"s", "r"}),
        ("Sin", {"s"}),
    ],
)
def test_a_denied_type_is_an_operator_or_the_makers_layer_type(
    target: Target, denied: str, hosts: set[str]
) -> None:
    found = place(NET, target, Options(deny_list_layer_type=(denied,)), Diagnostics())
    assert {entry.layer for entry in found.assignments if entry.device == "host"} == hosts
    assert all("deny_list:layer_type" in found.of(name).reason for name in hosts - {"s"})


@pytest.mark.parametrize("name", ["r", "c", "conv1", "relu1", "relu_out"])
def test_a_denied_layer_goes_by_any_name_that_the_user_may_know(target: Target, name: str) -> None:
    found = placed(target, options=Options(deny_list_layer_name=(name,)))
    assert found["r"] == f"{name!r} is in deny_list:layer_name"
    assert found["m"] == "0"


def test_an_allow_list_leaves_the_rest_to_the_host(target: Target) -> None:
    found = placed(target, options=Options(allow_list_layer_name=("m", "s")))
    assert found == {
        "r": "not in allow_list:layer_name",
        "s": "Sin: not supported by the device",
        "a": "not in allow_list:layer_name",
        "m": "0",
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(deny_list_layer_type=("Sim",)), "did you mean"),
        (Options(deny_list_layer_type=("MAKER_Sun",)), "MAKER_Sum"),
        (Options(deny_list_layer_type=("1",)), "operator codes of TFLite are not understood"),
        (Options(deny_list_layer_name=("conv2",)), "did you mean conv1"),
        (Options(allow_list_layer_name=("relu2",)), "relu1"),
        (Options(allow_list_layer_name=("m",), deny_list_layer_name=("r",)), "exclude each other"),
        (Options(allow_list_layer_name=("m",), deny_list_layer_type=("Add",)), "exclude each other"),
        (Options(max_num_subgraphs=0), "takes 1 to 16 subgraphs, found 0"),
        (Options(max_num_subgraphs=17), "takes 1 to 16 subgraphs, found 17"),
    ],
)
def test_impossible_options_are_errors(target: Target, options: Options, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        place(NET, target, options, Diagnostics())
    assert words in str(caught.value)


def test_denying_what_the_network_lacks_is_said(target: Target) -> None:
    diagnostics = Diagnostics()
    place(NET, target, Options(deny_list_layer_type=("MaxPool",)), diagnostics)
    assert [entry.code for entry in diagnostics] == ["LT552"]


def test_the_smallest_parts_go_to_the_host_when_there_are_too_many(target: Target) -> None:
    graph = parse_graph(
        """graph "n" {
        input %x: float32[4]
        %a: float32[4] = Relu(%x)
        %b: float32[4] = Sin(%a)
        %c: float32[4] = Relu(%b)
        %d: float32[4] = Relu(%c)
        %e: float32[4] = Sin(%d)
        %f: float32[4] = Relu(%e)
        return %f
        }"""
    )
    diagnostics = Diagnostics()
    found = place(graph, target, Options(max_num_subgraphs=2), diagnostics)
    assert found.subgraphs == (("a",), ("c", "d"))
    assert "falls into 3 parts and the accelerator takes 2" in found.of("f").reason
    assert [(entry.code, entry.place) for entry in diagnostics] == [("LT551", "Relu f")]
    one = place(graph, target, Options(max_num_subgraphs=1), Diagnostics())
    assert one.subgraphs == (("c", "d"),)


def test_layers_that_depend_on_each_other_are_an_error(target: Target) -> None:
    graph = parse_graph(
        """graph "n" {
        input %x: float32[4]
        %a: float32[4] = Relu(%x) layer "c"
        %b: float32[4] = Sin(%a)
        %c: float32[4] = Add(%a, %b) layer "c"
        return %c
        }"""
    )
    with pytest.raises(GraphError, match="depends on its own result"):
        place(graph, target, Options(), Diagnostics())


TINY = Target(
    name="tiny",
    title="tiny",
    summary="",
    scale_rules={1: ScaleRule(name="s", activation="symmetric")},
    default_scale_type=1,
    operators={"Add": OperatorRule(kind="elementwise"), "Mul": OperatorRule(kind="elementwise")},
    prepare="",
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    graph, type_ = Graph("random"), TensorType(DType.FLOAT32, (4,))
    values = [graph.add_input("x", type_)]
    for number in range(draw(st.integers(1, 10))):
        op = draw(st.sampled_from(["Add", "Mul", "Mod"]))
        read = [draw(st.sampled_from(values)) for _ in range(2)]
        values.append(graph.add_node(op, read, [(f"v{number}", type_)]).output)
    graph.set_outputs([value for value in values[1:] if not value.uses])
    return graph


def ancestors(graph: Graph) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for node in graph:
        makers = {value.name for value in node.inputs if value is not None and value.producer is not None}
        found[node.output.name] = makers.union(*(found[maker] for maker in makers))
    return found


@given(graphs())
def test_no_path_between_layers_of_a_subgraph_visits_a_layer_outside(graph: Graph) -> None:
    placement = place(graph, TINY, Options(), Diagnostics())
    assert {a.layer for a in placement.assignments if a.op == "Mod"} == {
        a.layer for a in placement.assignments if a.device == "host"
    }
    above = ancestors(graph)
    for group in placement.subgraphs:
        for outside in set(above) - set(group):
            enters = any(outside in above[inside] for inside in group)
            leaves = any(inside in above[outside] for inside in group)
            assert not (enters and leaves)
