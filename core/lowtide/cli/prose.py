"""Docstrings for the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

_SECTION = re.compile(r"[A-Z][a-z]+:")


def reflow(doc: str) -> Iterator[RenderableType]:
    """The paragraphs of a docstring, each free to wrap at the width of the terminal.

    Lines belong together when they have the same indentation; below a section heading, as ``Attributes:``,
    every line that is indented once begins an entry, and deeper ones go on with it.
    """
    lines: list[str] = []
    depth = 0
    for line in doc.splitlines():
        indent = len(line) - len(line.lstrip())
        begins = _SECTION.fullmatch(line) or (indent == 4 and depth in (0, 4))
        if lines and (not line.strip() or begins or indent < depth):
            yield _paragraph(lines, depth)
            lines = []
        if not line.strip():
            yield Text()
            continue
        if not lines:
            depth = indent
        lines.append(line.strip())
    if lines:
        yield _paragraph(lines, depth)


def _paragraph(lines: list[str], depth: int) -> Padding:
    return Padding(Text(" ".join(lines)), (0, 0, 0, depth), expand=False)
