"""Measuring: the error of every layer and output, and metrics."""

from __future__ import annotations

from lowtide.measure.agreement import Agreement, CodeDifference, measure_agreement
from lowtide.measure.api import Metric
from lowtide.measure.evaluate import (
    Evaluation,
    evaluate,
    note_guessing,
    note_labels,
    require_label,
    update_metric,
)
from lowtide.measure.exact_layers import measure_exact_layers
from lowtide.measure.histogram import Histogram, spans
from lowtide.measure.judged import is_comparable, judged, judged_values
from lowtide.measure.layers import LayerError, Measurement, measure_layers
from lowtide.measure.signal import ErrorSum

__all__ = [
    "Agreement",
    "CodeDifference",
    "ErrorSum",
    "Evaluation",
    "Histogram",
    "LayerError",
    "Measurement",
    "Metric",
    "evaluate",
    "is_comparable",
    "judged",
    "judged_values",
    "measure_agreement",
    "measure_exact_layers",
    "measure_layers",
    "note_guessing",
    "note_labels",
    "require_label",
    "spans",
    "update_metric",
]
