"""The report as one page that any browser shows without a network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from lowtide.emit import Emitter
from lowtide.report.json import report_json
from lowtide.report.terminal import GOOD_DB, POOR_DB

if TYPE_CHECKING:
    from lowtide.compiler.result import CompileResult

SCRIPTS = ("base", "chart", "summary", "layers", "detail", "plots", "graph", "main")
"""The parts of the script; what a part runs at once needs the parts before it."""


@attrs.frozen
class ReportHtmlEmitter(Emitter):
    """Writes ``report.html``: ``report.json`` with the means to look at it."""

    def emit(self, result: CompileResult, folder: Path) -> tuple[str, ...]:
        """See `Emitter.emit`."""
        (folder / "report.html").write_text(page(report_json(result.report, volatile=False)), "utf-8")
        return ("report.html",)


def page(document: str) -> str:
    """A page from the text of a ``report.json``.

    The page holds everything it needs, and its content security policy allows no other source: only the style
    and the script that are in it, known by their digests.
    """
    report = json.loads(document)
    model, device = report["model"], report["device"]
    style = _read("style.css")
    script = '"use strict";\n{\n' + "\n".join(_read(f"{name}.js") for name in SCRIPTS) + "}\n"
    fields = {
        "title": html.escape(f"{model['file'] or 'graph'} for {device['name']}"),
        "good": f"{GOOD_DB:g}",
        "poor": f"{POOR_DB:g}",
        "style": style,
        "script": script,
        "style_digest": _digest(style),
        "script_digest": _digest(script),
        # No name in the report can end the element that holds it.
        "report": json.dumps(report, separators=(",", ":")).replace("<", "\\u003c"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda field: fields[field[1]], _read("page.html"))


def _read(name: str) -> str:
    return (resources.files(__name__) / name).read_text("utf-8")


def _digest(text: str) -> str:
    """As a content security policy spells it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
