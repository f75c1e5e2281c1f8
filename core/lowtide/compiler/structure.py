"""Layers that frames ask for: changed before widths are chosen, since classes and latency depend on them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs

from lowtide.compiler.attempt import Attempt, Workbench, check_same
from lowtide.compiler.recipe import Recipe, Settings
from lowtide.compiler.trials import LEAST_GAIN, Trial
from lowtide.compiler.widths import ask
from lowtide.diagnostics import Diagnostics
from lowtide.precision import quantized_values
from lowtide.quantize.codes import remove_codes
from lowtide.target import place

if TYPE_CHECKING:
    from lowtide.compiler.stages import Compilation


POOR = 0.1
"""From this error on networks are compared with weights that make up for some of it.

Of a network at 3.4 dB, what dominates says nothing of what layers are worth when that is gone.
"""


def with_structure(c: Compilation, bench: Workbench, recipe: Recipe) -> tuple[Workbench, list[Trial]]:
    """Run the pipeline ``structure``, and what a recipe tries of it, on the placed network.

    Networks of one width, without anything else that the recipe tries, are compared; where little is left of
    them, with the first weights of the recipe.

    Returns:
        Where attempts are made from now on, and the trials of steps that changed something.

    Raises:
        PassError: when a pass changes what the network computes.
    """
    trials: list[Trial] = []
    if bench.train is None:
        return bench, trials
    if recipe.settings.structure:
        certain = _changed(c, bench, recipe.settings.structure)
        bench = bench if certain is None else _taken_over(c, certain)
    for step in recipe.trials:
        if step.stage != "structure":
            continue
        begin = time.perf_counter()
        other = _changed(c, bench, step.text)
        if other is None:
            continue
        c.clock.progress.stage(f"try {step}")
        with c.clock.stage("try"):
            before, after = _errors(bench, other, recipe)
        kept = after * LEAST_GAIN < before
        trials.append(Trial(str(step), before, after, kept, time.perf_counter() - begin))
        if kept:
            bench = _taken_over(c, other)
    return bench, trials


def _changed(c: Compilation, bench: Workbench, text: str) -> Workbench | None:
    """A bench for the network that passes make, ``None`` where they change nothing."""
    graph, diagnostics = c.graph.clone(), Diagnostics()
    context = attrs.evolve(c.context(), diagnostics=diagnostics, frames=bench.train)
    runs = bench.run("structure", text, graph, context)
    if not any(run.outcome.changed for _, run in runs):
        c.runs += runs  # the report says what was refused
        return None
    reference = graph.clone()
    remove_codes(reference)
    assert bench.train is not None  # noqa: S101 - the caller asked
    check_same(c.reference, reference, bench.train, f"structure: {text}")
    placement = place(graph, c.target, c.options, Diagnostics())
    texts = [c.pipelines["structure"], text] if "structure" in c.pipelines else [text]
    made = attrs.evolve(
        c,
        graph=graph,
        reference=reference,
        placement=placement,
        diagnostics=diagnostics,
        runs=[*c.runs, *runs],
        pipelines={**c.pipelines, "structure": ",".join(texts)},
    )
    values = [value.name for value in quantized_values(graph, c.target, placement)]
    return attrs.evolve(bench, compilation=made, tensors=[name for name in values if name not in bench.known])


def _taken_over(c: Compilation, bench: Workbench) -> Workbench:
    """Let the compile go on with the network of a bench."""
    made = bench.compilation
    c.graph, c.reference, c.placement = made.graph, made.reference, made.placement
    c.runs, c.pipelines = made.runs, made.pipelines
    for found in made.diagnostics:
        c.diagnostics.add(found)
    return attrs.evolve(bench, compilation=c)


def _errors(before: Workbench, after: Workbench, recipe: Recipe) -> tuple[float, float]:
    """Noise by signal of the outputs with the layers as they were, and with those that a step made."""
    settings, benches = recipe.settings, (before, after)
    attempts = [_plain(bench, settings) for bench in benches]
    errors = [bench.error(attempt) for bench, attempt in zip(benches, attempts, strict=True)]
    weights = next((step.text for step in recipe.trials if step.stage == "weights"), None)
    if errors[1] >= POOR and weights is not None:
        attempts = [bench.extend(attempt, weights) for bench, attempt in zip(benches, attempts, strict=True)]
        errors = [bench.error(attempt) for bench, attempt in zip(benches, attempts, strict=True)]
    return errors[0], errors[1]


def _plain(bench: Workbench, settings: Settings) -> Attempt:
    """A network of one width, the one that the user asked for."""
    plan = ask(bench.compilation).uniform(bench.compilation.options.tensor_bits)
    return bench.quantize(bench.condition(settings.condition), settings, plan)
