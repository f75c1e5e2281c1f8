"""What a compile has to say without stopping: a severity, a stable code, a place, a text and a remedy."""

from __future__ import annotations

import enum
from collections.abc import Iterator

import attrs


class Severity(enum.StrEnum):
    """How much a diagnostic matters."""

    INFO = "info"
    WARNING = "warning"


@attrs.frozen
class Diagnostic:
    """One finding.

    Attributes:
        code: ``LTnnn``, grouped as the errors are; numbers from 50 within a group are diagnostics.
        place: node, tensor, option or frame in the words of the model file.
        hint: what the user can do, as a literal option where there is one.
    """

    severity: Severity
    code: str
    place: str
    message: str
    hint: str = ""


@attrs.define
class Diagnostics:
    """Collects diagnostics in the order of their discovery; the same finding is kept once."""

    _found: dict[Diagnostic, None] = attrs.field(factory=dict[Diagnostic, None], init=False)

    def info(self, code: str, place: str, message: str, hint: str = "") -> None:
        """Record something worth knowing that changes no result."""
        self._found[Diagnostic(Severity.INFO, code, place, message, hint)] = None

    def warning(self, code: str, place: str, message: str, hint: str = "") -> None:
        """Record something that costs accuracy, speed or an intended effect."""
        self._found[Diagnostic(Severity.WARNING, code, place, message, hint)] = None

    def add(self, found: Diagnostic) -> None:
        """Record what was found elsewhere."""
        self._found[found] = None

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)
