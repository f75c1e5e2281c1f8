"""The one place that knows the Python names in filecheck, which documents its command only."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

from filecheck.finput import FInput
from filecheck.matcher import Matcher
from filecheck.options import Options
from filecheck.parser import Parser


def mismatch(checks: str, printed: str) -> str:
    """What filecheck has to say about a text, empty when it is as it should be.

    Args:
        checks: text with ``// CHECK`` lines.
        printed: the text that they are about.
    """
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(said):
        file = Path(folder) / "case.ir"
        file.write_text(checks, "utf-8")
        options = Options(match_filename=str(file))
        status = Matcher(options, FInput("output", printed), Parser.from_opts(options)).run()
    return f"filecheck returned {status}\n{said.getvalue()}" if status else ""
