"""Built-in passes on quantized weights."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import PassSpec, hookimpl


@hookimpl
def lowtide_register_passes() -> Iterable[PassSpec]:
    """Contribute the passes on weights and biases."""
    return [
        PassSpec(
            name="equalize",
            summary="scale channels between layers so that the errors of rounding matter least",
            implementation="lowtide_plugins.weights.equalize:Equalize",
        ),
        PassSpec(
            name="equalize-gates",
            summary="scale channels through SiLU, whose gate gets them unscaled",
            implementation="lowtide_plugins.weights.gates:EqualizeGates",
        ),
        PassSpec(
            name="clip-weights",
            summary="give outliers among weights up for a finer scale of the others",
            implementation="lowtide_plugins.weights.clip:ClipWeights",
        ),
        PassSpec(
            name="reconstruct",
            summary="choose weights, scales, codes and biases that make up for the errors in front of them",
            implementation="lowtide_plugins.weights.reconstruct:Reconstruct",
        ),
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
        PassSpec(
            name="calibrate-bias",
            summary="take the mean error out of biases with what the quantized network reads",
            implementation="lowtide_plugins.weights.calibrate_bias:CalibrateBias",
        ),
    ]
