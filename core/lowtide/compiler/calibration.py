"""The stages that need frames: collect statistics, calibrate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lowtide.calibrate import Calibrator, NumberFormat, Range, Statistic, calibrate, collect
from lowtide.passes import parse_configured
from lowtide.plugin import CalibratorSpec, StatisticSpec

if TYPE_CHECKING:
    from lowtide.compiler.stages import Compilation

LEVEL_CALIBRATORS = {0: "moving-average", 1: "minmax"}
"""What an accuracy level means for the range of activations when no calibrator is named."""


def calibrate_tensors(c: Compilation, tensors: Sequence[str]) -> dict[str, Range]:
    """Run the frames through the float network and give every tensor a range.

    Raises:
        DataError: when there are tensors but no frames.
    """
    if not tensors:
        return {}
    source, registry, options = c.needed_frames(tensors), c.request.registry, c.options
    c.calibrator = options.calibrator or LEVEL_CALIBRATORS[options.accuracy_level]
    calibrator: Calibrator = parse_configured(c.calibrator, registry, CalibratorSpec)
    kinds: list[type[Statistic]] = [registry.load(StatisticSpec, name) for name in calibrator.statistics]
    with c.clock.stage("collect"):
        c.collected = collect(
            c.reference,
            source,
            kinds,
            tensors=tensors,
            array_frames=options.statistics_frames,
            progress=c.clock.progress.advance,
            cache=c.request.cache,
            diagnostics=c.diagnostics,
        )
    provider = str(registry.provider(registry.get(CalibratorSpec, calibrator.name)))
    with c.clock.stage("calibrate"):
        return calibrate(c.collected, calibrator, _formats(c, tensors), provider=provider)


def _formats(c: Compilation, tensors: Sequence[str]) -> dict[str, NumberFormat]:
    """What numbers each tensor will be stored in, for calibrators that care."""
    return {
        tensor: NumberFormat(
            bits=c.plan.activations[tensor],
            symmetric=c.rule.activation == "symmetric",
            power_of_two=c.rule.activation_scale == "power-of-two",
        )
        for tensor in tensors
    }


def improve_weights(c: Compilation) -> None:
    """Run the pipeline between solving and measuring."""
    with c.clock.stage("weights"):
        default = c.target.weights.get(str(c.options.accuracy_level), "")
        c.run_passes("weights", default if c.options.weights is None else c.options.weights)
