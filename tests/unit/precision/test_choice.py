"""The integer program beside a count of all plans."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowtide.ir import layers, parse_graph
from lowtide.latency import ModelCosts
from lowtide.options import CompileOptions
from lowtide.plugin import discover
from lowtide.plugin.strategy_check import NETWORK, problems
from lowtide.precision import (
    Costs,
    PrecisionPlan,
    PrecisionProblem,
    Sensitivities,
    check_choice,
    has_parameters,
)
from lowtide_plugins.precision.choice import Choice
from lowtide_plugins.precision.together import Together

PROBLEM: PrecisionProblem = problems("tda4vm", discover(), parse_graph(NETWORK))[0]
assert PROBLEM.costs is not None
COSTS: Costs = PROBLEM.costs
NARROW = PROBLEM.uniform(8)
CHOICE = Choice(PROBLEM, COSTS, NARROW)
WIDEST_MS = COSTS.ms(PROBLEM.uniform(16))
numbers = st.floats(0, 1, allow_nan=False)


def legal() -> list[PrecisionPlan]:
    """Every plan that keeps the rules."""
    groups = [group.tensors for group in PROBLEM.classes]
    names = [layer.name for layer in layers(PROBLEM.graph) if has_parameters(layer)]
    writes = {layer.name: layer.output.name for layer in layers(PROBLEM.graph)}
    found: list[PrecisionPlan] = []
    for bits in itertools.product((8, 16), repeat=len(groups)):
        activations = {t: width for tensors, width in zip(groups, bits, strict=True) for t in tensors}
        free = [name for name in names if activations[writes[name]] == 8]
        for own in itertools.product((8, 16), repeat=len(free)):
            weights = {name: activations[written] for name, written in writes.items()}
            weights.update(zip(free, own, strict=True))
            found.append(PrecisionPlan(activations, weights))
    return found


LEGAL = legal()
LATENCIES = [COSTS.ms(plan) for plan in LEGAL]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
def test_all_plans_that_leave_no_room_are_found(share: float) -> None:
    ms = COSTS.narrow_ms + share * (WIDEST_MS - COSTS.narrow_ms)
    fitting = [plan for plan, cost in zip(LEGAL, LATENCIES, strict=True) if cost <= ms * (1 + 1e-9)]

    def raises(one: PrecisionPlan, other: PrecisionPlan) -> bool:
        pairs = [(one.activations[name], bits) for name, bits in other.activations.items()]
        pairs += [(one.weights[name], bits) for name, bits in other.weights.items()]
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    wanted = [plan for plan in fitting if not any(raises(plan, other) for other in fitting)]
    found = CHOICE.full(ms, 512)
    assert len(found) == len(wanted)
    assert all(any(plan.same_widths(other) for other in wanted) for plan in found)


def noise_of(values: list[float]) -> Sensitivities:
    groups = [group.name for group in PROBLEM.classes]
    names = [layer.name for layer in layers(PROBLEM.graph) if has_parameters(layer)]
    return Sensitivities(
        dict(zip(groups, values, strict=False)), dict(zip(names, values[len(groups) :], strict=False))
    )


def error(plan: PrecisionPlan, noise: Sensitivities) -> float:
    first = sum(n for name, n in noise.activations.items() if plan.activations[name] == 8)
    return first + sum(n for name, n in noise.weights.items() if plan.weights[name] == 8)


@settings(max_examples=40)
@given(st.lists(numbers, min_size=12, max_size=12), st.floats(0, 1))
def test_no_plan_under_the_budget_has_a_smaller_sum_of_errors(values: list[float], share: float) -> None:
    noise = noise_of(values)
    ms = COSTS.narrow_ms + share * (WIDEST_MS - COSTS.narrow_ms)
    found = CHOICE.best(noise, ms)
    assert found is not None
    check_choice(found, attrs.evolve(PROBLEM, budget=None), "it")
    assert COSTS.ms(found) <= ms * (1 + 1e-9)
    least = min(
        error(plan, noise) for plan, cost in zip(LEGAL, LATENCIES, strict=True) if cost <= ms * (1 + 1e-9)
    )
    assert error(found, noise) <= least + 2e-4 * sum(values) + 1e-12


def test_the_count_of_all_plans_is_one() -> None:
    assert len(LEGAL) > 100
    assert min(LATENCIES) == pytest.approx(COSTS.narrow_ms)


def test_nothing_is_raised_that_is_worth_nothing() -> None:
    found = CHOICE.best(noise_of([0.0] * 12), WIDEST_MS)
    assert found is not None
    assert found.same_widths(NARROW)


def test_what_is_forced_stays_and_a_budget_below_it_has_no_plan() -> None:
    forced = max(zip(LEGAL, LATENCIES, strict=True), key=lambda pair: pair[1])[0]
    choice = Choice(PROBLEM, COSTS, forced)
    assert choice.best(noise_of([1.0] * 12), COSTS.narrow_ms) is None
    found = choice.best(noise_of([0.0] * 12), WIDEST_MS)
    assert found is not None
    assert found.same_widths(forced)


def test_where_nothing_can_be_chosen_8_bits_are_the_plan() -> None:
    graph = parse_graph(
        """graph "moved" {
  input %x: float32[1, 2, 4]
  const %s: int64[2] = [1, 8]
  %y: float32[1, 8] = Reshape(%x, %s)
  return %y
}"""
    )
    problem = problems("tda4vm", discover(), graph)[0]
    assert problem.costs is not None
    found = Choice(problem, problem.costs, problem.uniform(8)).best(Sensitivities({}, {}), 1.0)
    assert found is not None
    assert found.same_widths(problem.uniform(8))


def test_a_host_layer_between_many_classes_has_no_term_for_each_combination() -> None:
    count, asked = 24, []
    names = [f"%r{at}" for at in range(count)]
    made = "".join(f"  {name}: float32[1, 4, 4, 4] = Relu(%x)\n" for name in names)
    graph = parse_graph(
        f"""graph "many" {{
  input %x: float32[1, 4, 4, 4]
{made}  %y: float32[1, {4 * count}, 4, 4] = Concat({", ".join(names)}) {{axis=1}}
  return %y
}}"""
    )
    problem = problems("tda4vm", discover(), graph, CompileOptions(deny_list_layer_type=("Concat",)))[0]

    class Counted(ModelCosts):
        def layer_ms(self, layer: str, activations: Mapping[str, int], weights: int) -> float:
            asked.append(layer)
            return super().layer_ms(layer, activations, weights)

    assert isinstance(problem.costs, ModelCosts)
    costs = Counted(problem.costs.model, problem.costs.problem)
    found = Choice(problem, costs, problem.uniform(8)).best(Sensitivities({}, {}), 2 * costs.narrow_ms)
    assert found is not None
    assert asked.count("y") < 5 * count


def test_swaps_find_what_errors_do_together() -> None:
    """Two large errors that cancel are left alone, which a sum cannot know."""
    noise = noise_of([1.0] * 12)
    effects = {name: np.zeros(4, np.float32) for name in CHOICE.names}
    first, second, third = CHOICE.names[1], CHOICE.names[2], CHOICE.names[-1]
    effects[first] = np.array([1, 0, 0, 0], np.float32)
    effects[second] = np.array([-1, 0, 0, 0], np.float32)
    effects[third] = np.array([0, 0.5, 0, 0], np.float32)
    together = Sensitivities(noise.activations, noise.weights, effects)
    cost = min(LATENCIES[at] for at, plan in enumerate(LEGAL) if plan.weights[third[1]] == 16)
    found = CHOICE.best(together, cost, trust=1.0)
    assert found is not None
    assert Together(together, CHOICE.names).error(
        np.array([_narrow(found, *name) for name in CHOICE.names])
    ) == pytest.approx(0, abs=1e-9)


def test_errors_that_cancel_are_believed_as_far_as_they_are_trusted() -> None:
    names = [name for name in CHOICE.names if name[0] == "weights"]
    effects = {name: np.zeros(4, np.float32) for name in CHOICE.names}
    effects[names[0]] = np.array([1, 0, 0, 0], np.float32)
    effects[names[1]] = np.array([-0.9, 0, 0, 0], np.float32)
    noise = attrs.evolve(noise_of([0.0] * 12), effects=effects)
    cost = min(LATENCIES[at] for at, plan in enumerate(LEGAL) if plan.weights[names[0][1]] == 16)
    widths = {trust: CHOICE.best(noise, cost, trust) for trust in (0.0, 0.5, 1.0)}
    raised = {trust: plan is not None and plan.weights[names[0][1]] == 16 for trust, plan in widths.items()}
    assert raised == {0.0: True, 0.5: True, 1.0: False}


def _narrow(plan: PrecisionPlan, kind: str, name: str) -> float:
    return float((plan.activations if kind == "activations" else plan.weights)[name] == 8)
