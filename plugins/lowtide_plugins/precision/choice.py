"""The best widths under a budget: an integer program, and swaps for what errors do together."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from lowtide.ir import Array, Layer, layers
from lowtide.precision import (
    WIDE,
    Costs,
    PrecisionPlan,
    PrecisionProblem,
    Sensitivities,
    classes_of_tensors,
    has_parameters,
    widest_plan,
)
from lowtide_plugins.precision.swaps import Swaps
from lowtide_plugins.precision.together import Name, Together

NARROW = 8
GAP = 1e-4
"""How far from the optimum the solver may stop, relative to it."""

ROUNDS = 3
"""How often the program is solved anew with what each width is worth beside those of the last solution."""

TOGETHER = 10
"""Of a layer between more classes, widths that cost nothing are left out: each doubles the terms."""

FRUGAL = 1e-6
"""What 16 bits everywhere weigh beside the error of 8 bits: of equally good plans the faster is taken."""


@attrs.frozen
class _Term:
    """What a layer adds to the latency of 8 bits for each combination of the widths around it.

    Attributes:
        variables: numbers of its classes, and of its parameters where they have a width of their own.
        added: milliseconds by the values of these variables, 1 for 16 bits; what cannot be is left out.
    """

    variables: tuple[int, ...]
    added: Mapping[tuple[int, ...], float]


class Choice:
    """The integer program of a network, to be solved for many budgets and errors.

    A variable is 1 where a class, or the parameters of a layer, have 16 bits. The cost of a layer depends on
    all widths around it together, so a layer has a weight for each combination of them; the weights are 1 in
    sum, and agree with the variables. So changes of width cost what they cost, and what has to go along does:
    the parameters of a layer with a 16-bit output.

    Args:
        problem: the network.
        costs: of its layers.
        forced: what has 16 bits here has them in any case.

    Attributes:
        names: what the variables stand for.
        lowest: of each variable, 1 for what is forced.
        highest: of each variable, 0 for what the device does not have in 16 bits.
        dragged: pairs of variables of which the second is 1 where the first is.
    """

    def __init__(self, problem: PrecisionProblem, costs: Costs, forced: PrecisionPlan) -> None:
        self.problem = problem
        self.costs = costs
        self._groups = classes_of_tensors(problem)
        self._layers = {layer.name: layer for layer in layers(problem.graph)}
        self.names: list[Name] = [("activations", group.name) for group in problem.classes]
        self.names += [
            ("weights", name)
            for name, layer in self._layers.items()
            if problem.placement.on_accelerator(name) and has_parameters(layer)
        ]
        self._number = {name: at for at, name in enumerate(self.names)}
        self.lowest = self._values_of(forced)
        self.highest = np.maximum(self._values_of(widest_plan(problem)), self.lowest)
        terms = (self._term(layer) for layer in self._layers.values())
        self._terms = [term for term in terms if any(term.added.values())]
        self.dragged = [
            (self._number["activations", group], self._number["weights", name])
            for name, layer in self._layers.items()
            if ("weights", name) in self._number
            for group in self._written(layer)
        ]
        self._swaps = Swaps(self.lowest, self.highest, self.dragged, self.added_ms)

    def best(self, noise: Sensitivities, ms: float, trust: float = 0.0) -> PrecisionPlan | None:
        """The plan with the least predicted error that takes no longer; ``None`` when there is none.

        Args:
            noise: what widths are worth.
            ms: the budget.
            trust: how much of what errors have in common counts, from 0 to 1.

        The program takes errors as a sum. It is solved first for what each width is worth by itself, then for
        what it is worth beside the others, as long as that lowers the error; swaps of two widths follow.
        """
        together = Together(noise, self.names, trust)
        added = ms - self.costs.narrow_ms
        best = self._solve(together.alone(), added)
        if best is None:
            return None
        if trust == 0:
            return self.plan(best)
        for _ in range(ROUNDS):
            found = self._solve(together.beside(1 - best), added)
            if found is None or together.error(1 - found) >= together.error(1 - best):
                break
            best = found
        return self.plan(self._swaps.best(together, best, added))

    def full(self, ms: float, draws: int) -> list[PrecisionPlan]:
        """Plans that take no longer, and to which nothing can be added: of a small network nearly all."""
        return [self.plan(found) for found in self._swaps.full(ms - self.costs.narrow_ms, draws)]

    def plan(self, values: Sequence[int] | Array) -> PrecisionPlan:
        """The plan of some values of the variables."""
        wide = {name for name, value in zip(self.names, values, strict=True) if value}
        activations = {
            tensor: WIDE if ("activations", group.name) in wide else NARROW
            for tensor, group in self._groups.items()
        }
        weights = {
            name: self._weight_bits(name, layer, wide)
            for name, layer in self._layers.items()
            if self.problem.placement.on_accelerator(name)
        }
        return PrecisionPlan(activations, weights)

    # --- the program ---

    def _frugal(self) -> Array:
        """What each variable costs alone, as shares of the whole."""
        alone = np.full(len(self.names), 1e-3)
        for term in self._terms:
            for variable in term.variables:
                alone[variable] += max(term.added.values()) / len(term.variables)
        shares: Array = alone / alone.sum()
        return shares

    def added_ms(self, values: Array) -> float:
        """What the values of the variables cost beside 8 bits."""
        return sum(
            term.added[tuple(int(values[variable]) for variable in term.variables)] for term in self._terms
        )

    def cost_ms(self, plan: PrecisionPlan, name: Name) -> float:
        """What the 16 bits of a class, or of the parameters of a layer alone, cost in a plan."""
        values = self._values_of(plan)
        narrower = values.copy()
        narrower[self._number[name]] = 0
        return self.added_ms(values) - self.added_ms(narrower)

    def _solve(self, worth: Array, added_ms: float) -> Array | None:
        if not (self._terms or self.dragged):  # nothing that can be chosen costs anything
            return self.lowest.astype(int)
        # Takes long to import, and few compiles need it.
        optimize: Any = importlib.import_module("scipy.optimize")
        sparse: Any = importlib.import_module("scipy.sparse")

        count = len(self.names)
        entries: list[tuple[int, int, float]] = []
        lower: list[float] = []
        upper: list[float] = []

        def row(low: float, high: float) -> int:
            lower.append(low)
            upper.append(high)
            return len(lower) - 1

        budget = row(-np.inf, added_ms * (1 + 1e-12) + 1e-12)
        column = count
        for term in self._terms:
            one = row(1.0, 1.0)
            agree = [row(0.0, 0.0) for _ in term.variables]
            for at, variable in zip(agree, term.variables, strict=True):
                entries.append((at, variable, -1.0))
            for states, ms in term.added.items():
                entries.append((budget, column, ms))
                entries.append((one, column, 1.0))
                entries += [(at, column, 1.0) for at, state in zip(agree, states, strict=True) if state]
                column += 1
        for group, weights in self.dragged:
            at = row(0.0, np.inf)
            entries += [(at, weights, 1.0), (at, group, -1.0)]
        rows, columns, numbers = zip(*entries, strict=True)
        matrix: Any = sparse.csr_array((numbers, (rows, columns)), shape=(len(lower), column))
        rest = column - count
        solved: Any = optimize.milp(
            np.concatenate([FRUGAL * self._frugal() - worth, np.zeros(rest)]),
            integrality=np.concatenate([np.ones(count), np.zeros(rest)]),
            bounds=optimize.Bounds(
                np.concatenate([self.lowest, np.zeros(rest)]), np.concatenate([self.highest, np.ones(rest)])
            ),
            constraints=optimize.LinearConstraint(matrix, np.array(lower), np.array(upper)),
            # Behind its presolve HiGHS prints a line to standard output now and then, whatever `disp` says.
            options={"mip_rel_gap": GAP, "presolve": False},
        )
        return None if solved.x is None else np.rint(solved.x[:count]).astype(int)

    # --- layers ---

    def _term(self, layer: Layer) -> _Term:
        read = dict.fromkeys(value.name for value in (*layer.inputs, *layer.outputs))
        groups = dict.fromkeys(self._groups[name].name for name in read if name in self._groups)
        names: list[Name] = [("activations", group) for group in groups]
        if ("weights", layer.name) in self._number:
            names.append(("weights", layer.name))
        if len(names) > TOGETHER:
            names = [name for name in names if self._matters(layer, name, names)]
        costs: dict[tuple[int, ...], float] = {}
        for states in itertools.product((0, 1), repeat=len(names)):
            wide = {name for name, state in zip(names, states, strict=True) if state}
            if self._weight_bits(layer.name, layer, wide) == NARROW and self._drags(layer, wide):
                continue
            costs[states] = self._layer_ms(layer, wide)
        least = costs[(0,) * len(names)]
        variables = tuple(self._number[name] for name in names)
        return _Term(variables, {states: ms - least for states, ms in costs.items()})

    def _matters(self, layer: Layer, name: Name, names: Sequence[Name]) -> bool:
        """Whether a width costs anything, be the others 8 or 16 bits."""
        others = set(names) - {name}
        alone = self._layer_ms(layer, {name}) - self._layer_ms(layer, set())
        return bool(alone or self._layer_ms(layer, {*others, name}) - self._layer_ms(layer, others))

    def _layer_ms(self, layer: Layer, wide: set[Name]) -> float:
        widths = {
            value.name: WIDE if ("activations", self._groups[value.name].name) in wide else NARROW
            for value in (*layer.inputs, *layer.outputs)
            if value.name in self._groups
        }
        return self.costs.layer_ms(layer.name, widths, self._weight_bits(layer.name, layer, wide))

    def _weight_bits(self, name: str, layer: Layer, wide: set[Name]) -> int:
        """The width of parameters; of a layer without any, that of its output."""
        if not self.problem.placement.on_accelerator(name):
            return 32
        if ("weights", name) in self._number:
            return WIDE if ("weights", name) in wide else NARROW
        return WIDE if self._drags(layer, wide) else NARROW

    def _drags(self, layer: Layer, wide: set[Name]) -> bool:
        return any(("activations", group) in wide for group in self._written(layer))

    def _written(self, layer: Layer) -> tuple[str, ...]:
        names = (self._groups[value.name].name for value in layer.outputs if value.name in self._groups)
        return tuple(dict.fromkeys(names))

    def _values_of(self, plan: PrecisionPlan) -> Array:
        return np.array(
            [
                (plan.activations if kind == "activations" else plan.weights)[name] == WIDE
                for kind, name in self.names
            ],
            float,
        )
