"""What was tried, kept in the output folder so that the same command goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import attrs
import yaml

from lowtide.diagnostics import Diagnostic, Diagnostics, Severity
from lowtide.errors import OutputError
from lowtide.narrow import is_mapping
from lowtide.report.json import json_text

FOLDER = "tune"
FILE = "tune.json"
VERSION = 1


@attrs.frozen(kw_only=True)
class Figures:
    """What one configuration gives on the frames that were set aside.

    Attributes:
        metric: of the quantized network.
        parts: the same on each of some disjoint parts of these frames.
        sqnr_db: of the outputs.
        latency_ms: estimated; ``None`` for a device without a latency model.
    """

    metric: float
    parts: tuple[float, ...]
    sqnr_db: float
    latency_ms: float | None = None


@attrs.frozen(kw_only=True)
class Tried:
    """One configuration.

    Attributes:
        number: from 1; its options are in ``tried/NN.yaml``.
        step: what it is about.
        options: what it sets beyond what the user gave.
        figures: ``None`` when it is not possible.
        kept: whether it was the best so far when it was tried.
        why: in words.
        seconds: of wall time.
    """

    number: int
    step: str
    options: Mapping[str, Any]
    figures: Figures | None
    kept: bool
    why: str
    seconds: float

    @property
    def file(self) -> str:
        """Where its options are, in the folder of the record."""
        return f"tried/{self.number:02}.yaml"


def digest(value: object) -> str:
    """SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@attrs.define(kw_only=True)
class Record:
    """Everything that a run knows, and an earlier run of the same knew.

    Attributes:
        key: what the figures depend on, each with its digest or value.
        float_metric: the metric of the float network on the frames that were set aside.
        head: what else to tell: goal, metric, frames, budget.
        known: figures by the digest of the options; ``None`` with the reason for what is not possible.
        tried: in order.
        files: texts of the options files, by name.
        saved: the digest of the options whose result the folder holds; empty for none.
        notes: what is to be said about the frames that were set aside.
    """

    key: Mapping[str, str | None]
    float_metric: float | None = None
    head: dict[str, Any] = attrs.field(factory=dict[str, Any])
    known: dict[str, tuple[Figures | None, str, float]] = attrs.field(
        factory=dict[str, "tuple[Figures | None, str, float]"]
    )
    tried: list[Tried] = attrs.field(factory=list[Tried])
    files: dict[str, str] = attrs.field(factory=dict[str, str])
    saved: str = ""
    notes: Diagnostics = attrs.field(factory=Diagnostics)

    def remember(self, options: Mapping[str, Any], figures: Figures | None, why: str, seconds: float) -> None:
        """Keep the figures of a configuration for this and later runs."""
        self.known[digest(dict(options))] = (figures, why, seconds)

    def recall(self, options: Mapping[str, Any]) -> tuple[Figures | None, str, float] | None:
        """What is known of a configuration."""
        return self.known.get(digest(dict(options)))

    def add(self, entry: Tried, options_file: Mapping[str, Any]) -> None:
        """One more configuration, with its options file."""
        self.tried.append(entry)
        self.files[entry.file] = _yaml(options_file)

    def write(self, folder: Path) -> None:
        """Write record and options files into an output folder, each file in one step."""
        own = folder / FOLDER
        (own / "tried").mkdir(parents=True, exist_ok=True)
        for name, text in self.files.items():
            _replace(own / name, text)
        _replace(own / FILE, json_text(self.document()))

    def document(self) -> dict[str, Any]:
        """The record as JSON has it."""
        chosen = [entry for entry in self.tried if entry.kept][-1:]
        return {
            "version": VERSION,
            "key": dict(self.key),
            **self.head,
            "float": self.float_metric,
            "saved": self.saved,
            "notes": [attrs.asdict(note) for note in self.notes],
            "chosen": chosen[0].number if chosen else None,
            "tried": [attrs.asdict(entry) for entry in self.tried],
            "known": {
                name: {
                    "figures": None if found is None else attrs.asdict(found),
                    "why": why,
                    "seconds": seconds,
                }
                for name, (found, why, seconds) in self.known.items()
            },
        }


def _yaml(value: Mapping[str, Any]) -> str:
    # The stubs of yaml leave a type of its width open, which pyright reports of the name alone.
    dump = cast("Callable[..., str]", getattr(yaml, "safe_dump"))  # noqa: B009
    return dump(dict(value), sort_keys=True, allow_unicode=True)


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)


def load_record(folder: Path, key: Mapping[str, str | None]) -> Record | None:
    """The record of an earlier run in an output folder; ``None`` when there is none.

    Raises:
        OutputError: when it is damaged, or that of another model, device, data or options.
    """
    path = folder / FOLDER / FILE
    if not path.is_file():
        return None
    again = "choose another --output, or start over with --force"
    try:
        found: object = json.loads(path.read_text("utf-8"))
        if not is_mapping(found) or found.get("version") != VERSION:
            raise ValueError("another version")  # noqa: TRY301 - it joins what reading raises
        before = {str(name): value for name, value in found["key"].items()}
        known = {str(name): _known(entry) for name, entry in found["known"].items()}
        saved = str(found["saved"])
        notes = Diagnostics()
        for entry in found.get("notes", ()):
            notes.add(Diagnostic(**{**entry, "severity": Severity(entry["severity"])}))
        float_metric = None if found["float"] is None else float(found["float"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(f"is no record of tuning: {error}", place=str(path), hint=again) from error
    if None in before.values() or None in key.values():
        raise OutputError(
            "nobody can say whether these are the same frames as before", place=str(folder), hint=again
        )
    other = [name for name in {**before, **key} if before.get(name) != key.get(name)]
    if other:
        raise OutputError(
            f"the folder holds the tuning of something else: another {' and '.join(sorted(other))}",
            place=str(folder),
            hint=again,
        )
    return Record(key=key, float_metric=float_metric, known=known, saved=saved, notes=notes)


def _known(entry: Mapping[str, Any]) -> tuple[Figures | None, str, float]:
    found = entry["figures"]
    figures = None
    if found is not None:
        figures = Figures(
            metric=_number(found["metric"]),
            parts=tuple(_number(part) for part in found["parts"]),
            sqnr_db=_number(found["sqnr_db"]),
            latency_ms=None if found["latency_ms"] is None else float(found["latency_ms"]),
        )
    return figures, str(entry["why"]), float(entry["seconds"])


def _number(found: object) -> float:
    """A figure as JSON has it, where infinity is text and NaN is ``None``."""
    return float("nan") if found is None else float(str(found))
