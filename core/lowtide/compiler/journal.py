"""What a search has measured, kept in a file, so that it goes on where it was interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import attrs

from lowtide.diagnostics import Diagnostics


@attrs.define
class Journal:
    """Numbers by key, one line of JSON each; without a file they are kept in memory.

    Attributes:
        file: made with the first entry.
        diagnostics: told of lines that cannot be read and of a folder that cannot be written.
    """

    file: Path | None
    diagnostics: Diagnostics
    _found: dict[str, float] | None = attrs.field(default=None, init=False)

    def get(self, key: str) -> float | None:
        """The number of a key, if it is known."""
        return self._entries().get(key)

    def put(self, key: str, value: float) -> None:
        """Keep a number."""
        self._entries()[key] = value
        if self.file is None:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, value]) + "\n")
        except OSError as error:
            self.diagnostics.warning(
                "LT763",
                str(self.file),
                f"measurements cannot be saved ({error.strerror}); the next search begins anew",
                "choose another folder, or switch the cache off",
            )
            self.file = None

    def _entries(self) -> dict[str, float]:
        if self._found is None:
            self._found = {}
            for line in self._lines():
                self._read(line)
        return self._found

    def _lines(self) -> list[str]:
        if self.file is None:
            return []
        try:
            return self.file.read_text("utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            self._damaged(str(error.strerror))
            return []

    def _read(self, line: str) -> None:
        """A line that was cut off by an interrupt, or damaged, counts as not written."""
        assert self._found is not None  # noqa: S101 - the caller sets it
        try:
            found: object = json.loads(line)
        except ValueError:
            self._damaged("a line is no JSON")
            return
        entry = cast("list[object]", found) if isinstance(found, list) else []
        match entry:
            case [str() as key, (int() | float()) as value]:
                self._found[key] = float(value)
            case _:
                self._damaged("a line is no pair of key and number")

    def _damaged(self, why: str) -> None:
        self.diagnostics.warning(
            "LT764", str(self.file), f"saved measurements are damaged ({why}) and are made again"
        )
