"""Precision: which tensors must share a width, and who decides on it."""

from __future__ import annotations

from lowtide.precision.api import (
    Budget,
    Costs,
    Goal,
    Oracle,
    PrecisionPlan,
    PrecisionProblem,
    PrecisionStrategy,
    Sensitivities,
    WeighedPlan,
)
from lowtide.precision.check import (
    WIDE,
    check_choice,
    check_plan,
    classes_of_tensors,
    has_parameters,
    refused_layers,
    widest_plan,
)
from lowtide.precision.classes import (
    DisjointSets,
    PrecisionClass,
    layer_reads,
    precision_classes,
    quantized_values,
)
from lowtide.precision.lists import ListProblem, Lists, read_lists
from lowtide.precision.names import LayerNames, listed
from lowtide.precision.uses import asked_widths, check_used

__all__ = [
    "WIDE",
    "Budget",
    "Costs",
    "DisjointSets",
    "Goal",
    "LayerNames",
    "ListProblem",
    "Lists",
    "Oracle",
    "PrecisionClass",
    "PrecisionPlan",
    "PrecisionProblem",
    "PrecisionStrategy",
    "Sensitivities",
    "WeighedPlan",
    "asked_widths",
    "check_choice",
    "check_plan",
    "check_used",
    "classes_of_tensors",
    "has_parameters",
    "layer_reads",
    "listed",
    "precision_classes",
    "quantized_values",
    "read_lists",
    "refused_layers",
    "widest_plan",
]
