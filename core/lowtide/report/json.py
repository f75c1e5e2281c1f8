"""The report as JSON: the fields of `lowtide.report.model`, numbers that JSON lacks as text."""

from __future__ import annotations

import json
import math
from typing import Any

import attrs

from lowtide.narrow import is_mapping, is_sequence
from lowtide.report.model import Report

VOLATILE = ("times", "peak_memory_mb")
"""Fields that differ between two compiles of the same input."""


def report_json(report: Report, *, volatile: bool = True) -> str:
    """One document.

    Args:
        report: what to write.
        volatile: include wall times and memory; without them equal compiles give equal bytes.

    Infinite figures, as the SQNR of a tensor without any error, are written as ``"inf"``, undefined ones as
    ``null``.
    """
    fields: dict[str, Any] = attrs.asdict(report)
    if not volatile:
        for name in VOLATILE:
            del fields[name]
        for item in (*fields["passes"], *fields["steps"]):
            del item["seconds"]
    return json_text(fields)


def json_text(value: object) -> str:
    """One JSON document that every parser takes: infinity is written as ``"inf"``, NaN as ``null``."""
    return json.dumps(_plain(value), indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else str(value)
    if is_mapping(value):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if is_sequence(value):
        return [_plain(entry) for entry in value]
    return value
