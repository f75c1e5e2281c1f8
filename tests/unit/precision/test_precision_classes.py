from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.diagnostics import Diagnostics
from lowtide.errors import QuantizationError
from lowtide.ir import parse_graph
from lowtide.options import CompileOptions
from lowtide.plugin import discover
from lowtide.precision import (
    DisjointSets,
    PrecisionPlan,
    PrecisionProblem,
    check_plan,
    precision_classes,
)
from lowtide.target import load_target, place
from lowtide_plugins.precision.uniform import Uniform

GRAPH = parse_graph("""graph "g" {
  input %x: float32[1, 2, 4, 4]
  const %w: float32[2, 2, 1, 1] = [1, 2, 3, 4]
  %a: float32[1, 2, 4, 4] = Conv(%x, %w)
  %b: float32[1, 2, 4, 4] = Conv(%a, %w)
  %m: float32[1, 2, 4, 4] = MaxPool(%a) {kernel_shape=[1, 1]}
  %c: float32[1, 4, 4, 4] = Concat(%m, %b) {axis=1}
  %s: float32[1, 4, 4, 4] = Softmax(%c) {axis=3}
  return %s
}""")


def problem(bits: int = 8) -> PrecisionProblem:
    target, options = load_target("am68a", discover()), CompileOptions(tensor_bits=bits)
    placement = place(GRAPH, target, options, Diagnostics())
    classes = precision_classes(GRAPH, target, placement)
    return PrecisionProblem(graph=GRAPH, target=target, placement=placement, options=options, classes=classes)


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), max_size=8))
def test_keys_are_in_one_set_exactly_when_unions_connect_them(unions: list[list[int]]) -> None:
    sets: DisjointSets[int] = DisjointSets()
    for key in range(10):
        sets.add(key)
    linked = {(a, b): a == b for a, b in itertools.product(range(10), repeat=2)}
    for union in unions:
        sets.union(union)
        for a, b in itertools.product(union, repeat=2):
            linked[a, b] = True
    for k, a, b in itertools.product(range(10), repeat=3):
        linked[a, b] |= linked[a, k] and linked[k, b]
    for (a, b), joined in linked.items():
        assert (sets.find(a) == sets.find(b)) == joined
    assert sorted(key for members in sets.sets().values() for key in members) == list(range(10))


def test_convolutions_border_classes_and_pools_and_concatenations_tie_them() -> None:
    found = {group.name: (set(group.tensors), set(group.ties)) for group in problem().classes}
    assert found == {"x": ({"x"}, set()), "a": ({"a", "m", "b", "c"}, {"m", "c"})}


@pytest.mark.parametrize("bits", [8, 16])
def test_uniform_gives_everything_the_width_of_tensor_bits(bits: int) -> None:
    asked = problem(bits)
    plan = Uniform().plan(asked)
    assert set(plan.activations.values()) == {bits}
    assert set(plan.weights.values()) == {bits}
    check_plan(plan, asked, "uniform")


def test_a_plan_that_divides_a_class_is_refused_with_the_class_and_what_ties_it() -> None:
    asked = problem()
    plan = Uniform().plan(asked)
    broken = PrecisionPlan({**plan.activations, "b": 16}, plan.weights)
    with pytest.raises(QuantizationError, match=r"LT801 a: acme .*16.*8.*m, c tie"):
        check_plan(broken, asked, "acme")


def test_a_width_that_the_device_lacks_is_refused() -> None:
    asked = problem()
    plan = Uniform().plan(asked)
    with pytest.raises(QuantizationError, match="4 bits"):
        check_plan(PrecisionPlan({**plan.activations, "x": 4}, plan.weights), asked, "acme")
    with pytest.raises(QuantizationError, match="b: acme"):
        check_plan(PrecisionPlan(plan.activations, {**plan.weights, "b": 12}), asked, "acme")


def test_a_plan_that_forgets_a_tensor_is_refused() -> None:
    asked = problem()
    with pytest.raises(QuantizationError, match="acme gives no width in activations"):
        check_plan(PrecisionPlan({}, {}), asked, "acme")
