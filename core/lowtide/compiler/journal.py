"""What a search has measured, kept in a file, so that it goes on where it was interrupted."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import cast

import attrs
import numpy as np

from lowtide.diagnostics import Diagnostics
from lowtide.ir import Array


@attrs.define
class Journal:
    """Numbers and vectors by key, one line of JSON each; without a file they are kept in memory.

    Attributes:
        file: made with the first entry.
        diagnostics: told of lines that cannot be read and of a folder that cannot be written.
    """

    file: Path | None
    diagnostics: Diagnostics
    _found: dict[str, float | str] | None = attrs.field(default=None, init=False)
    _cut_off: bool = attrs.field(default=False, init=False)

    def number(self, key: str) -> float | None:
        """The number of a key, if it is known."""
        found = self._entries().get(key)
        return None if isinstance(found, str) else found

    def vector(self, key: str) -> Array | None:
        """The vector of a key, float32, if it is known."""
        found = self._entries().get(key)
        if not isinstance(found, str):
            return None
        try:
            return np.frombuffer(base64.b64decode(found, validate=True), np.dtype("<f4"))
        except ValueError:
            self._damaged("a line holds no vector")
            return None

    def put(self, key: str, value: float | Array) -> None:
        """Keep a number, or a vector as float32."""
        if isinstance(value, np.ndarray):
            self._write(key, base64.b64encode(value.astype("<f4").tobytes()).decode("ascii"))
        else:
            self._write(key, float(value))

    def _write(self, key: str, value: float | str) -> None:
        self._entries()[key] = value
        if self.file is None:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as file:
                # What an interrupt cut off is a line of its own, which the next reader leaves out.
                file.write("\n" * self._cut_off + json.dumps([key, value]) + "\n")
            self._cut_off = False
        except OSError as error:
            self.diagnostics.warning(
                "LT763",
                str(self.file),
                f"measurements cannot be saved ({error.strerror}); the next search begins anew",
                "choose another folder with --cache, or --no-cache",
            )
            self.file = None

    def _entries(self) -> dict[str, float | str]:
        if self._found is None:
            self._found = {}
            for line in self._lines():
                self._read(line)
        return self._found

    def _lines(self) -> list[str]:
        if self.file is None:
            return []
        try:
            text = self.file.read_text("utf-8", errors="replace")
        except FileNotFoundError:
            return []
        except OSError as error:
            self._damaged(str(error.strerror))
            return []
        self._cut_off = bool(text) and not text.endswith("\n")
        return text.splitlines()

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
            case [str() as key, (float() | str()) as value]:
                self._found[key] = value
            case _:
                self._damaged("a line is no pair of a key and a value")

    def _damaged(self, why: str) -> None:
        self.diagnostics.warning(
            "LT764", str(self.file), f"saved measurements are damaged ({why}) and are made again"
        )
