"""Diagnosis: which layers lose accuracy, why, and the option that helps."""

from __future__ import annotations

from lowtide.diagnosis.api import CODE, Cause, Diagnosis, DiagnosisView, NoiseParts
from lowtide.diagnosis.parts import measure_parts
from lowtide.diagnosis.rank import Cost, rank
from lowtide.diagnosis.remedy import remedy_options

__all__ = [
    "CODE",
    "Cause",
    "Cost",
    "Diagnosis",
    "DiagnosisView",
    "NoiseParts",
    "measure_parts",
    "rank",
    "remedy_options",
]
