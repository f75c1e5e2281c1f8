"""The contract of strategies, and what breaks it."""

from __future__ import annotations

from typing import ClassVar, cast

import attrs
import pytest

from lowtide.errors import PluginError, UnsupportedByTargetError
from lowtide.ir import Graph
from lowtide.plugin import discover
from lowtide.plugin.testing import check_strategy
from lowtide.precision import PrecisionPlan, PrecisionProblem, PrecisionStrategy
from lowtide_plugins.precision.automatic import Automatic
from lowtide_plugins.precision.manual import Manual
from lowtide_plugins.precision.uniform import Uniform

REGISTRY = discover()


@attrs.frozen(kw_only=True)
class _Broken(PrecisionStrategy):
    name: ClassVar[str] = "broken"
    how: str = ""
    calls: list[int] = attrs.field(factory=list[int])

    def plan(self, problem: PrecisionProblem) -> PrecisionPlan:
        self.calls.append(0)
        plan = problem.uniform(8)
        match self.how:
            case "none":
                return None  # type: ignore[return-value]  # what it is checked for
            case "dear":
                return problem.uniform(16)
            case "split":
                return attrs.evolve(plan, activations={**plan.activations, "s": 16})
            case "drag":
                return attrs.evolve(plan, activations={**plan.activations, "a": 16})
            case "fickle":
                return attrs.evolve(plan, weights={**plan.weights, "a": 8 * (1 + len(self.calls) % 2)})
            case "changing":
                _rename(problem.graph)
            case "failing":
                raise ZeroDivisionError("by 0")
            case "empty":
                return PrecisionPlan({}, {})
            case "more":
                return attrs.evolve(plan, weights={**plan.weights, "aa": 8})
            case "fraction":
                return attrs.evolve(plan, weights=cast("dict[str, int]", dict.fromkeys(plan.weights, 8.0)))
        return plan


def _rename(graph: Graph) -> None:
    graph.rename(graph.constants[0], graph.fresh_name("other"))


@pytest.mark.parametrize("target", ["tda4vm", "am68a", "am62a"])
@pytest.mark.parametrize("strategy", [Uniform(), Manual(), Automatic()])
def test_built_in_strategies_keep_the_contract(strategy: PrecisionStrategy, target: str) -> None:
    check_strategy(strategy, target, REGISTRY)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("none", "found None"),
        ("failing", "strategy broken: failed with ZeroDivisionError: by 0"),
        ("empty", "x: it gives no width in activations.*start from problem.uniform"),
        ("more", "aa: it gives a width in weights to what has none.*did you mean a"),
        ("fraction", "it gives 8.0 bits, expected an int"),
        ("dear", "the budget is 1 x.*raise the budget"),
        ("split", "one class"),
        ("drag", "16-bit output has 16-bit parameters"),
        ("fickle", "a second call|the budget"),
        ("changing", "changes the network"),
    ],
)
def test_a_breach_is_found(how: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        check_strategy(_Broken(how=how), "tda4vm", REGISTRY)


def test_a_device_without_a_latency_model_cannot_have_a_budget() -> None:
    with pytest.raises(UnsupportedByTargetError, match="latency"):
        check_strategy(Uniform(), "generic", REGISTRY)
