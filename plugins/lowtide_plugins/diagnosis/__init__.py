"""Built-in diagnoses."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import DiagnosisSpec, hookimpl


@hookimpl
def lowtide_register_diagnoses() -> Iterable[DiagnosisSpec]:
    """Contribute causes in ranges, weights, functions and in the model itself."""
    module = "lowtide_plugins.diagnosis"
    return [
        DiagnosisSpec(
            name="ranges",
            summary="codes of activations that are wasted or do not reach far enough",
            implementation=f"{module}.ranges:Ranges",
        ),
        DiagnosisSpec(
            name="weights",
            summary="weights and biases that their codes do not suit",
            implementation=f"{module}.weights:Weights",
        ),
        DiagnosisSpec(
            name="functions",
            summary="functions that are too steep for a table over 8-bit codes",
            implementation=f"{module}.functions:Functions",
        ),
        DiagnosisSpec(
            name="guidelines",
            summary="what the vendor advises for training and for the ends of a network",
            implementation=f"{module}.guidelines:Guidelines",
        ),
    ]
