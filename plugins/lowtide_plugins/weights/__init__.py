"""Built-in passes on quantized weights."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import PassSpec, hookimpl


@hookimpl
def lowtide_register_passes() -> Iterable[PassSpec]:
    """Contribute ``round-weights`` and ``correct-bias``."""
    return [
        PassSpec(
            name="round-weights",
            summary="round weights so that later ones make up for the error of earlier ones",
            implementation="lowtide_plugins.weights.rounding:RoundWeights",
        ),
        PassSpec(
            name="correct-bias",
            summary="take the mean error that rounded weights cause out of the bias",
            implementation="lowtide_plugins.weights.bias:CorrectBias",
        ),
    ]
