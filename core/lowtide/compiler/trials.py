"""Steps of a recipe that are kept only where they help."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from lowtide.compiler.attempt import Attempt, Workbench
from lowtide.compiler.recipe import Settings, Step

if TYPE_CHECKING:
    from lowtide.compiler.stages import Compilation


LEAST_GAIN = 10**0.01
"""A step has to lower the error by a tenth of a decibel; less is chance on so few frames."""

LOST = 0.5
"""From this error on nothing of the network is left, and a lower one does not say that a step helps."""


@attrs.frozen
class Trial:
    """A step that was tried.

    Attributes:
        step: its text.
        before: noise by signal of the outputs without it.
        after: with it; the same where it changed nothing, or was not worth choosing weights for.
        kept: whether it stays.
        seconds: of wall time.
    """

    step: str
    before: float
    after: float
    kept: bool
    seconds: float


@attrs.frozen
class Begun:
    """How the network was quantized before anything was tried, and its error."""

    settings: Settings
    error: float


def improved(
    c: Compilation, bench: Workbench, attempt: Attempt, trials: Sequence[Step]
) -> tuple[Attempt, list[Trial]]:
    """Take every step after which the error is lower by `LEAST_GAIN`.

    What follows an `else` is tried only where none of the steps that it belongs to was kept. A step that
    stands there twice is tried again only where it was dropped, and other weights were chosen since.
    """
    if not trials or bench.held_out is None:
        return attempt, []
    best, done = attempt, list[Trial]()
    with c.clock.stage("try"):
        error = bench.error(attempt)
    begun = Begun(attempt.settings, error)
    kept = False
    judged: dict[Step, str | None] = {}  # the weights that a step was dropped with; None where it was kept
    for number, step in enumerate(_in_order(trials, error)):
        if step.otherwise and kept:
            continue
        if step in judged and judged[step] in {None, best.settings.weights}:
            kept = judged[step] is None
            continue
        begin = time.perf_counter()
        c.clock.progress.stage(f"try {step}")
        c.clock.progress.advance(number, len(trials))
        made = attempted(bench, best, step, begun)
        with c.clock.stage("try"):
            after = bench.error(made) if made.changed else error
        kept = made.changed and after * LEAST_GAIN < min(error, LOST)
        judged[step] = None if kept else best.settings.weights
        done.append(Trial(str(step), error, after, kept, time.perf_counter() - begin))
        if kept:
            best, error = made, after
    return best, done


def grouped(trials: Sequence[Step]) -> list[list[Step]]:
    """Steps, each with those that are tried where it was not kept."""
    groups: list[list[Step]] = []
    for step in trials:
        if step.otherwise and groups:
            groups[-1].append(step)
        else:
            groups.append([step])
    return groups


def _in_order(trials: Sequence[Step], error: float) -> Sequence[Step]:
    """Of a lost network the weights come first: other steps are judged by what they are worth then."""
    groups = grouped(trials)
    first = next((group for group in groups if group[0].stage == "weights"), None)
    if error < LOST or first is None:
        return trials
    return [*first, *(step for group in groups if group is not first for step in group)]


def attempted(bench: Workbench, best: Attempt, step: Step, begun: Begun) -> Attempt:
    """An attempt with one more step; as much as possible is taken over."""
    settings = best.settings.with_step(step.stage, step.text)
    match step.stage:
        case "weights":
            return bench.extend(best, step.text)
        case "scales":
            return bench.rescale(best, step.text)
        case "calibrator":
            return bench.quantize(best.base, settings, best.plan)
        case "structure":
            return attrs.evolve(best, changed=False)  # done before widths were chosen
        case "condition":
            base = bench.condition(settings.condition)
            if not any(run.outcome.changed for _, run in base.runs[len(best.base.runs) :]):
                return attrs.evolve(best, changed=False)
            plain = attrs.evolve(best.settings, weights="")
            if begun.error < LOST or best.settings == plain or plain != begun.settings:
                return bench.quantize(base, settings, best.plan)
            # Weights were chosen for a lost network: they are chosen anew only for one that has lost less.
            made = bench.quantize(base, attrs.evolve(settings, weights=""), best.plan)
            with bench.compilation.clock.stage("try"):
                after = bench.error(made)
            if after * LEAST_GAIN >= begun.error:
                return attrs.evolve(best, changed=False)
            return attrs.evolve(bench.extend(made, settings.weights), changed=True)


def decibels(error: float) -> float:
    """Noise by signal as SQNR in dB."""
    return -10 * math.log10(error) if error > 0 else math.inf
