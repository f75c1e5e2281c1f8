"""What a search tells of its plans: labels, reasons, the front."""

from __future__ import annotations

from lowtide.ir import layers
from lowtide.precision import (
    WIDE,
    PrecisionPlan,
    PrecisionProblem,
    WeighedPlan,
    has_parameters,
)
from lowtide_plugins.precision.search import Search

LITTLE = 0.01
"""A share of the error that is no reason by itself."""

LITTLE_MS = 1e-4
"""Milliseconds below this are not told apart."""


def weighed(search: Search) -> tuple[WeighedPlan, ...]:
    """The front, with the plan that was taken."""
    front = search.front()
    numbers = {id(point): number for number, point in enumerate(front, 1)}
    taken = [point for point in search.points if point.plan.same_widths(search.best)]
    shown = {id(point): point for point in (*front, *taken)}
    return tuple(
        WeighedPlan(
            latency_ms=point.ms,
            error=point.error,
            label=label(search.problem, point.plan),
            number=numbers.get(id(point)),
            measured=point.measured,
            chosen=point.plan.same_widths(search.best),
        )
        for point in sorted(shown.values(), key=lambda point: (point.ms, point.error))
    )


def label(problem: PrecisionProblem, plan: PrecisionPlan) -> str:
    """How much of a network has 16 bits."""
    with_codes = [group for group in problem.classes if plan.activations[group.name] == WIDE]
    own = [layer for layer in layers(problem.graph) if layer.name in plan.weights and has_parameters(layer)]
    wide = [layer for layer in own if plan.weights[layer.name] == WIDE]
    if not with_codes and not wide:
        return "8 bits"
    if len(with_codes) == len(problem.classes) and len(wide) == len(own):
        return "16 bits"
    return f"{len(with_codes)} of {len(problem.classes)} classes, weights of {len(wide)} of {len(own)} layers"


def reasons(search: Search) -> dict[str, str]:
    """Why classes, and parameters alone, have 16 bits.

    That is what 8 would do; where that is little, also what 16 cost.
    """
    plan, noise = search.best, search.noise
    every = (*noise.activations.values(), *noise.weights.values())
    total = sum(max(entry, 0.0) for entry in every) or 1.0
    found: dict[str, str] = {}
    for group in search.problem.classes:
        if plan.activations[group.name] == WIDE:
            ties = f", which {', '.join(group.ties[:3])} ties," if len(group.tensors) > 1 else ""
            share = noise.activations.get(group.name, 0.0) / total
            cost = search.choice.cost_ms(plan, ("activations", group.name))
            found[group.name] = _reason("16 bit", f"8 in {group.name}{ties}", share, cost)
    for layer in layers(search.problem.graph):
        alone = plan.activations.get(layer.output.name) != WIDE and layer.name in noise.weights
        if alone and plan.weights.get(layer.name) == WIDE:
            cost = search.choice.cost_ms(plan, ("weights", layer.name))
            found[layer.name] = _reason("16-bit parameters", "8", noise.weights[layer.name] / total, cost)
    return found


def _reason(wide: str, narrow: str, share: float, cost_ms: float) -> str:
    if share >= LITTLE:
        return f"{wide} because {narrow} make {share:.0%} of the error"
    cost = f"{cost_ms:.2g} ms" if cost_ms >= LITTLE_MS else "next to no time"
    return f"{wide} for {cost}: {narrow} make less than {LITTLE:.0%} of the error"
