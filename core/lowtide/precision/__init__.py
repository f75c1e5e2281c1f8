"""Precision: which tensors must share a width, and who decides on it."""

from __future__ import annotations

from lowtide.precision.api import PrecisionPlan, PrecisionProblem, PrecisionStrategy, check_plan
from lowtide.precision.classes import (
    DisjointSets,
    PrecisionClass,
    layer_reads,
    precision_classes,
    quantized_values,
)

__all__ = [
    "DisjointSets",
    "PrecisionClass",
    "PrecisionPlan",
    "PrecisionProblem",
    "PrecisionStrategy",
    "check_plan",
    "layer_reads",
    "precision_classes",
    "quantized_values",
]
