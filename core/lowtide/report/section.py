"""Parts of the report that plugins add."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from lowtide.compiler.stages import Compilation


@attrs.frozen
class Section(abc.ABC):
    """Writes one part of the report, shown in the terminal and in ``sections`` of the JSON."""

    title: str = ""

    @abc.abstractmethod
    def text(self, compilation: Compilation) -> str:
        """The part as plain text; empty to leave it out. It must be the same for equal compiles."""
