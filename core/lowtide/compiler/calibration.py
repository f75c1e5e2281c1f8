"""Calibration of networks that bring codes, where some of their tensors have none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from lowtide.calibrate import Range
from lowtide.compiler.floats import workbench
from lowtide.compiler.recipe import Recipe, check_recipe, recipe_of, target_place

if TYPE_CHECKING:
    from lowtide.compiler.stages import Compilation

RECIPE = "convert"
"""What the target does to networks whose codes were made for other rules."""


def calibrate_tensors(c: Compilation, tensors: Sequence[str]) -> dict[str, Range]:
    """Run the frames through the float network and give every tensor a range.

    Raises:
        DataError: when there are tensors but no frames.
    """
    if not tensors:
        return {}
    recipe = attrs.evolve(_recipe(c), trials=())
    bench = workbench(c, recipe, {}, list(tensors))
    base = bench.condition("")
    c.collected, c.calibrator = base.collected, recipe.settings.calibrator
    for found in base.diagnostics:
        c.diagnostics.add(found)
    return bench.calibrate(base, recipe.settings, c.plan)


def improve_weights(c: Compilation) -> None:
    """Run the pipeline between solving and measuring."""
    with c.clock.stage("weights"):
        c.run_passes("weights", _recipe(c).settings.weights)


def _recipe(c: Compilation) -> Recipe:
    place = target_place(c.target.name, RECIPE)
    recipe = recipe_of(c.target.recipes.get(RECIPE, ()), c.options, place=place)
    check_recipe(recipe, c.request.registry, c.options, place=place)
    return recipe
