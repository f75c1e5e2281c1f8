"""What writes files of an output folder."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from lowtide.compiler.result import CompileResult


@attrs.frozen
class Emitter(abc.ABC):
    """Writes files into the output folder."""

    @abc.abstractmethod
    def emit(self, result: CompileResult, folder: Path) -> tuple[str, ...]:
        """Write the files and return their names, relative to the folder.

        Equal results must give equal bytes. An emitter that has nothing to say for a target returns no name.
        """
