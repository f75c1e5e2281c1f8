"""Every error that Lowtide raises on purpose.

Codes are stable and grouped by layer: ``LT1xx`` graph, ``LT2xx`` passes, ``LT3xx`` plugins, ``LT4xx`` models,
``LT5xx`` targets, ``LT6xx`` options, ``LT7xx`` data, ``LT8xx`` quantization, ``LT9xx`` output.
"""

from __future__ import annotations

import difflib
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import ClassVar


class LowtideError(Exception):
    """The root of all deliberate errors.

    Args:
        message: what was expected and what was found, in one sentence.
        place: the file, node, tensor, option or frame that is at fault.
        hint: what to do about it.
    """

    code: ClassVar[str] = "LT000"

    def __init__(self, message: str, *, place: str = "", hint: str = "") -> None:
        super().__init__(message, place, hint)
        self.message = message
        self.place = place
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        what = f" ({self.hint})" if self.hint else ""
        notes = "".join(f"\n  {note}" for note in getattr(self, "__notes__", ()))
        return f"{self.code} {where}{self.message}{what}{notes}"


class GraphError(LowtideError):
    """A graph breaks one of its own rules; ``Graph.verify`` and the mutators raise it."""

    code = "LT101"


class TextFormError(LowtideError):
    """The text form of a graph does not parse; the place is ``line:column``."""

    code = "LT102"


class PassError(LowtideError):
    """A pass failed or left an invalid graph behind."""

    code = "LT201"


class PipelineError(LowtideError):
    """The text of a pipeline does not parse, or names an unknown pass or option."""

    code = "LT202"


class PluginError(LowtideError):
    """A plugin cannot be loaded, fails, or hands in something unusable."""

    code = "LT301"


class PluginConflictError(PluginError):
    """Two plugins provide the same name."""

    code = "LT302"


class UnknownNameError(LowtideError):
    """No plugin provides the name that was asked for."""

    code = "LT303"


class ModelError(LowtideError):
    """A model file is missing, damaged or not of the format it claims."""

    code = "LT401"


class UnsupportedModelError(ModelError):
    """A valid model uses something that Lowtide cannot take; the place is the node."""

    code = "LT402"


class AmbiguousFrontendError(ModelError):
    """Several frontends claim one file, or none does."""

    code = "LT403"


class TargetError(LowtideError):
    """A target description is invalid."""

    code = "LT501"


class UnsupportedByTargetError(LowtideError):
    """The device cannot do what was asked of it."""

    code = "LT502"


class OptionError(LowtideError):
    """An option is unknown, has a value out of its range, or contradicts another."""

    code = "LT601"


class DataError(LowtideError):
    """Calibration or evaluation data is missing, has another shape or holds NaN; the place is the frame."""

    code = "LT701"


class QuantizationError(LowtideError):
    """No legal quantization exists, a range is impossible, or this machine computes inexactly."""

    code = "LT801"


class OutputError(LowtideError):
    """The output folder cannot be written, or what it holds cannot be read."""

    code = "LT901"


@contextmanager
def noted(where: str) -> Generator[None, None, None]:
    """Add to an error that leaves the block where the words stand that it is about."""
    try:
        yield
    except LowtideError as error:
        error.add_note(where)
        raise


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """Return ``did you mean …?`` for the known names that look like `name`, else the list of known names."""
    names = sorted(known)
    folded: dict[str, list[str]] = {}
    for candidate in names:
        folded.setdefault(candidate.lower(), []).append(candidate)
    close = difflib.get_close_matches(name.lower(), folded, n=most, cutoff=0.55)
    if close:
        return f"did you mean {' or '.join(match for key in close for match in folded[key])}?"
    if not names:
        return "none is known"
    listing = ", ".join(names[:30])
    return f"known: {listing}{', …' if len(names) > 30 else ''}"


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: `one` for 1, else `many`, by default with an s.

    >>> counted(1, "frame"), counted(1200, "frame"), counted(2, "entry", "entries")
    ('1 frame', '1,200 frames', '2 entries')
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def short_name(name: str) -> str:
    """A name for tables and messages: of the joined names of a fused TFLite tensor the first and a count.

    >>> short_name("net/relu;net/conv;net/bias")
    'net/relu (+2)'
    """
    first, *rest = name.split(";")
    return f"{first} (+{len(rest)})" if rest else name
