"""The end of the report: why layers lose accuracy, what else there is to say, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lowtide.diagnostics import Diagnostic, Severity
from lowtide.errors import short_name
from lowtide.report.model import Finding

MOST = 12
"""Findings that the terminal shows; report.json has all."""


def findings_block(findings: Sequence[Finding]) -> RenderableType:
    """Causes of the largest errors, the worst layer first as they come."""
    entries = [
        _entry(item.code, item.layer, [Text(item.cause), Text(item.evidence, style="dim")], item.remedy)
        for item in findings[:MOST]
    ]
    return _block("why the worst layers lose accuracy", entries, len(findings))


def diagnostics_block(diagnostics: Sequence[Diagnostic]) -> RenderableType:
    """Everything that did not stop the compile, warnings first."""
    ordered = sorted(diagnostics, key=lambda found: found.severity != Severity.WARNING)
    entries = [
        _entry(
            found.code,
            found.place,
            [Text(found.message)],
            found.hint,
            style="yellow" if found.severity == Severity.WARNING else "",
        )
        for found in ordered
    ]
    return _block("notes and remedies", entries, len(entries))


def _block(title: str, entries: Sequence[RenderableType], count: int) -> RenderableType:
    more = [Text(f"and {count - len(entries)} more in report.json", style="dim")]
    return Group(Text(title, style="table.title"), *entries, *(more if count > len(entries) else []))


def _entry(code: str, place: str, lines: Sequence[Text], remedy: str, *, style: str = "") -> RenderableType:
    """The code on the left; beside it the place, what there is to say, and below that the remedy."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(overflow="fold")
    grid.add_row(Text(code, style=style or "dim"), Text(short_name(place), style=f"{style} bold".strip()))
    for line in lines:
        if line:
            grid.add_row("", line)
    if remedy:
        grid.add_row("", Text.assemble(("-> ", "dim"), (remedy, "cyan")))
    return grid
