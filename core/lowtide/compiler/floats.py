"""From a float network to codes: what is known, what frames tell, widths, and what the recipe tries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs
import numpy as np

from lowtide.calibrate import Range
from lowtide.compiler.attempt import Attempt, Workbench
from lowtide.compiler.goal import FigureGoal
from lowtide.compiler.held_out import FEWEST, HeldOut, split
from lowtide.compiler.oracle import MeasuringOracle
from lowtide.compiler.recipe import Recipe, Settings, check_recipe, chosen_lines, recipe_of, recipe_place
from lowtide.compiler.request import model_digest
from lowtide.compiler.structure import with_structure
from lowtide.compiler.trials import improved
from lowtide.compiler.widths import ask, choose, with_oracle
from lowtide.encodings import EncodingRequest, Encodings, EncodingSource, check_encodings, merge
from lowtide.errors import OptionError, PluginError, QuantizationError
from lowtide.ir import layers
from lowtide.plugin import EncodingsSpec, plugin_code
from lowtide.precision import quantized_values
from lowtide.quantize.legal import legalize
from lowtide.quantize.operands import mac_operands
from lowtide.quantize.weights import requantize_bias

if TYPE_CHECKING:
    from lowtide.compiler.stages import Compilation


def quantize_float(c: Compilation) -> None:
    """All stages between placing and measuring.

    Raises:
        DataError: when frames are needed and none are given.
        QuantizationError: for weights that are not finite, or when what is known beforehand does not fit the
            network or the device.
    """
    check_weights(c)
    c.encodings = read_encodings(c)
    values = [value.name for value in quantized_values(c.graph, c.target, c.placement)]
    known = {name: c.encodings.ranges[name] for name in values if name in c.encodings.ranges}
    missing = [name for name in values if name not in known]
    recipe = _recipe(c, known, missing)
    bench = workbench(c, recipe, known, missing)
    bench, restructured = with_structure(c, bench, recipe)
    recipe = recipe.without("structure")
    c.judges = bench.held_out.frames if bench.held_out is not None else None
    question = with_oracle(c, bench, recipe, ask(c))
    plan = choose(c, question)
    oracle = question.oracle
    if isinstance(oracle, MeasuringOracle) and oracle.asked:
        attempt, c.trials = oracle.finished(plan)
        c.search_passes = oracle.passes
    else:
        begun = bench.quantize(bench.condition(recipe.settings.condition), recipe.settings, plan)
        attempt, c.trials = improved(c, bench, begun, recipe.trials)
    if isinstance(question.goal, FigureGoal) and c.options.front_point is None:
        c.goal = question.goal.report(attempt)
    c.trials = [*restructured, *c.trials]
    adopt(c, attempt)
    _set_biases(c)
    _check_weight_scales(c)


def workbench(c: Compilation, recipe: Recipe, known: Mapping[str, Range], missing: list[str]) -> Workbench:
    """Where attempts are made: the frames are split when something is to be tried."""
    if missing:
        c.needed_frames(missing)
    train = held_out = c.source
    if c.source is not None and recipe.trials:
        train, held_out = split(c.source)
        if train is held_out:
            c.diagnostics.warning(
                "LT855",
                "data",
                f"too few frames ({train.count}) to hold some out: those that steps learn from judge them",
                hint=f"give at least {FEWEST}; 50 to 100 are usual",
            )
    return Workbench(
        compilation=c,
        tensors=missing,
        known=known,
        calibrators=recipe.calibrators(),
        train=train,
        held_out=None if held_out is None else HeldOut(c.prepared, held_out),
    )


def adopt(c: Compilation, attempt: Attempt) -> None:
    """Make an attempt the result of the compilation."""
    c.graph = attempt.graph
    if any(run.outcome.changed for _, run in attempt.base.runs):
        c.reference = attempt.base.reference
    c.placement = attempt.base.placement
    c.collected = attempt.base.collected
    c.calibrator = attempt.settings.calibrator
    c.plan = attempt.plan
    c.ranges = dict(attempt.solved.ranges)
    c.solved = attrs.evolve(attempt.solved, diagnostics=c.diagnostics)
    for found in (*attempt.base.diagnostics, *attempt.diagnostics):
        c.diagnostics.add(found)
    c.runs += [*attempt.base.runs, *attempt.runs]
    for stage in ("condition", "scales", "weights"):
        text = getattr(attempt.settings, stage)
        if text:
            c.pipelines[stage] = text


def _recipe(c: Compilation, known: Mapping[str, Range], missing: list[str]) -> Recipe:
    """What to do: nothing where the model says all; no conditioning where it says something of tensors."""
    place = recipe_place(c.target.name, c.target.recipes, c.options)
    recipe = recipe_of(chosen_lines(c.target.recipes, c.options), c.options, place=place)
    check_recipe(recipe, c.request.registry, c.options, place=place)
    if c.source is None or (c.encodings.explicit and not missing):
        return Recipe(Settings(recipe.settings.calibrator))
    if known:
        return recipe.without("structure").without("condition")
    return recipe


def read_encodings(c: Compilation) -> Encodings:
    """Ask every source what it knows of the placed network.

    Raises:
        PluginError: naming a source that fails, or returns something else.
        QuantizationError: when what a source says does not fit the network, or contradicts another.
        OptionError: when the user says that the model brings its scales and nobody finds any.
    """
    request = EncodingRequest(
        graph=c.graph,
        model_digest=model_digest(c.request.model),
        target=c.target,
        rule=c.rule,
        placement=c.placement,
        options=c.options,
        diagnostics=c.diagnostics,
    )
    registry = c.request.registry
    found: list[Encodings] = []
    for spec in registry.all(EncodingsSpec):
        kind: type[EncodingSource] = registry.load(EncodingsSpec, spec.name)
        with plugin_code(registry.describe(spec)):
            said = kind().read(request)
        if said is None:
            continue
        if not isinstance(said, Encodings):  # pyright: ignore[reportUnnecessaryIsInstance]  # third parties write it
            raise PluginError(
                f"should return Encodings or None, found {said!r}", place=registry.describe(spec)
            )
        check_encodings(said, c.graph)
        found.append(said)
    wanted = c.options.prequantized_model and c.options.recalibrate == "no" and not c.prequantized
    if wanted and not found:
        raise OptionError(
            "the model has neither QuantizeLinear and DequantizeLinear nor limits that give its ranges",
            place="advanced_options:prequantized_model",
            hint="leave the option out: a float model is quantized with calibration data",
        )
    return merge(found)


def check_weights(c: Compilation) -> None:
    """Find weights that nothing can quantize before frames run into them, who would get the blame.

    Raises:
        QuantizationError: naming weights that hold NaN or infinity.
    """
    for node in c.graph:
        operands = mac_operands(node)
        for value in () if operands is None else (operands.weights, operands.bias):
            if value is None or value.constant is None or not value.constant.has_data:
                continue
            if not np.isfinite(value.constant.array()).all():
                raise QuantizationError(
                    "the weights hold NaN or infinity",
                    place=f"{node.place}, {value.name}",
                    hint="export the model again from a checkpoint that has finite weights",
                )


def _set_biases(c: Compilation) -> None:
    if not c.encodings.biases:
        return
    assert c.solved is not None  # noqa: S101 - the caller solves before
    for layer in layers(c.graph):
        bias = c.encodings.biases.get(layer.name)
        if bias is not None and c.placement.on_accelerator(layer.name):
            requantize_bias(c.graph, layer.nodes[0], bias, c.solved)


def _check_weight_scales(c: Compilation) -> None:
    """Hold weight scales that somebody else chose against the rules of the device."""
    if not c.encodings.weight_scales:
        return
    assert c.solved is not None  # noqa: S101 - the caller solves before
    refused = legalize(c.graph, c.solved, convert=False).refused
    if refused:
        raise QuantizationError(
            f"{c.encodings.origin}: {refused[0].message} (scale rule {c.rule.name})",
            place=f"{refused[0].place}, {refused[0].tensor}",
            hint="leave out its weight scales: those of the device are found without them",
        )
