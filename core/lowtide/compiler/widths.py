"""Asks a strategy for widths: what it is told, and whether the answer is one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import attrs

from lowtide.compiler.attempt import Workbench
from lowtide.compiler.goal import FigureGoal, read_goal
from lowtide.compiler.oracle import MeasuringOracle
from lowtide.compiler.recipe import Recipe
from lowtide.errors import DataError, OptionError, PluginError, UnsupportedByTargetError
from lowtide.latency import LatencyProblem, ModelCosts, latency_model
from lowtide.options import SEARCHING, without_search
from lowtide.passes import parse_configured
from lowtide.plugin import StrategySpec, plugin_code
from lowtide.precision import (
    Budget,
    Costs,
    PrecisionPlan,
    PrecisionProblem,
    PrecisionStrategy,
    asked_widths,
    check_choice,
    check_plan,
    precision_classes,
)

if TYPE_CHECKING:
    from lowtide.compiler.stages import Compilation

FACTOR = "advanced_options:mixed_precision_factor"


def ask(c: Compilation) -> PrecisionProblem:
    """What the strategy is told without frames.

    Raises:
        UnsupportedByTargetError: for a budget on a device without a latency model.
        OptionError: for a budget that 8 bits exceed already.
    """
    costs = None
    if c.target.latency is not None:
        model = latency_model(c.target, c.request.registry)
        costs = ModelCosts(model, LatencyProblem(c.graph, c.target, c.placement))
    elif c.options.seeks_widths:
        raise UnsupportedByTargetError(
            "the device has no latency model, so no budget can be kept",
            place=c.target.name,
            hint="name the layers in advanced_options:output_feature_16bit_names_list, or extend the target "
            "with a [latency] table",
        )
    return PrecisionProblem(
        graph=c.graph,
        target=c.target,
        placement=c.placement,
        options=c.options,
        classes=precision_classes(c.graph, c.target, c.placement),
        costs=costs,
        budget=None if costs is None else _budget(c, costs),
    )


def with_oracle(
    c: Compilation, bench: Workbench, recipe: Recipe, problem: PrecisionProblem
) -> PrecisionProblem:
    """The same with what frames can tell, and a goal."""
    if c.source is None:
        return problem
    oracle = MeasuringOracle(c, bench, recipe, problem, partial(with_known, c))
    text = c.options.goal
    goal = None if text is None else FigureGoal(read_goal(text, c.request.registry), c, bench, oracle)
    return attrs.evolve(problem, oracle=oracle, goal=goal)


def choose(c: Compilation, problem: PrecisionProblem) -> PrecisionPlan:
    """Ask the strategy for widths, let what is known win, and check the answer.

    Raises:
        PluginError: when the strategy returns no plan.
        QuantizationError: when the plan is one that the device or the budget does not allow.
    """
    registry, options = c.request.registry, c.options
    strategy: PrecisionStrategy = parse_configured(options.chosen_strategy, registry, StrategySpec)
    owner = registry.provider(registry.get(StrategySpec, strategy.name))
    provider = f"the strategy {options.chosen_strategy} of {owner}"
    with plugin_code(provider):
        plan = strategy.plan(problem)
    if not isinstance(plan, PrecisionPlan):  # pyright: ignore[reportUnnecessaryIsInstance]  # third parties write it
        raise PluginError(f"should return a PrecisionPlan, found {plan!r}", place=provider)
    # A budget steers the search for the front, whose points may lie beyond it.
    bound = problem if options.front_point is None else attrs.evolve(problem, budget=None)
    check_choice(plan, bound, provider)
    known = with_known(c, plan)
    if known is not plan:
        check_plan(known, problem, c.encodings.origin)
    return known


def foresee(c: Compilation, problem: PrecisionProblem) -> tuple[PrecisionPlan, str]:
    """The widths as far as they are known without frames, and in words what is not; empty where all is.

    Raises:
        PluginError: as `choose`.
        QuantizationError: as `choose`.
    """
    try:
        return choose(c, problem), ""
    except DataError:  # the strategy wants to measure
        plain = attrs.evolve(c, resolved=attrs.evolve(c.resolved, options=without_search(c.options)))
    asked = asked_widths(c.resolved).items()
    searching = [f"{field}={option.value}" for field, option in asked if field in SEARCHING]
    what = " and ".join(searching) or f"the strategy {c.options.chosen_strategy}"
    budget = "" if problem.budget is None else f"; the budget is {problem.budget.text}"
    text = f"estimated without {what}, for which `lowtide compile` measures on calibration data{budget}"
    return choose(plain, ask(plain)), text


def with_known(c: Compilation, plan: PrecisionPlan) -> PrecisionPlan:
    """A plan in which the widths that are known beforehand win."""
    if not (c.encodings.activation_bits or c.encodings.weight_bits):
        return plan
    return attrs.evolve(
        plan,
        activations={**plan.activations, **_among(c.encodings.activation_bits, plan.activations)},
        weights={**plan.weights, **_among(c.encodings.weight_bits, plan.weights)},
    )


def width_reasons(c: Compilation) -> dict[str, str]:
    """Why tensors have the widths of their classes, and layers those of their parameters, by name."""
    reasons = c.plan.reasons
    if not reasons:
        return {}
    found = dict(reasons)
    for group in precision_classes(c.graph, c.target, c.placement):
        if group.name in reasons:
            found.update(dict.fromkeys(group.tensors, reasons[group.name]))
    return found


def _among(bits: Mapping[str, int], names: Mapping[str, int]) -> dict[str, int]:
    return {name: width for name, width in bits.items() if name in names}


def _budget(c: Compilation, costs: Costs) -> Budget | None:
    options = c.options
    if options.budget_ms is not None:
        narrow = costs.narrow_ms
        if options.budget_ms < narrow:
            raise OptionError(
                f"8 bits take {narrow:.4g} ms on {c.target.name}, the budget is {options.budget_ms:g} ms",
                place="budget_ms",
                hint=f"give more than {narrow:.4g}, or a smaller network",
            )
        return Budget(options.budget_ms, f"{options.budget_ms:g} ms")
    if options.mixed_precision_factor > 1:
        ms = options.mixed_precision_factor * costs.narrow_ms
        return Budget(ms, f"{options.mixed_precision_factor:g} x {costs.narrow_ms:.4g} ms = {ms:.4g} ms")
    return None
