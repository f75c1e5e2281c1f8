"""The report as JSON: the fields of `lowtide.report.model`, numbers that JSON lacks as text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

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
        for item in fields["passes"]:
            del item["seconds"]
    return json.dumps(_plain(fields), indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    match value:
        case float():
            if math.isnan(value):
                return None
            return value if math.isfinite(value) else str(value)
        case Mapping():
            content: Mapping[Any, Any] = value
            return {str(key): _plain(entry) for key, entry in content.items()}
        case list() | tuple():
            entries: Sequence[Any] = value
            return [_plain(entry) for entry in entries]
        case _:
            return value
