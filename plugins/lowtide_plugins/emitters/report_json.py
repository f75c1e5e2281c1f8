"""The report as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from lowtide.emit import Emitter
from lowtide.report.json import report_json

if TYPE_CHECKING:
    from lowtide.compiler.result import CompileResult


@attrs.frozen
class ReportJsonEmitter(Emitter):
    """Writes ``report.json`` without times and memory: equal compiles give equal reports."""

    def emit(self, result: CompileResult, folder: Path) -> tuple[str, ...]:
        """See `Emitter.emit`."""
        (folder / "report.json").write_text(report_json(result.report, volatile=False), "utf-8")
        return ("report.json",)
