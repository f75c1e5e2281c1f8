"""How one option is described."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from lowtide.errors import OptionError
from lowtide.narrow import is_mapping, is_sequence


class Effect(enum.StrEnum):
    """What an option does here."""

    USED = "used"
    VENDOR_ONLY = "kept for the vendor's tools, without effect here"
    UNAVAILABLE = "not implemented in this version"


class Kind(enum.StrEnum):
    """What values an option has."""

    INT = "integer"
    FLOAT = "number"
    FLAG = "0 or 1"
    TEXT = "text"
    NAMES = "list of names"
    NUMBERS = "list of numbers"
    SHAPES = "shapes by input name"


@attrs.frozen
class OptionInfo:
    """The description of an option.

    Attributes:
        key: the name in options files, the vendor's where it is the vendor's option.
        available: the values that this version implements, if not all legal ones.
    """

    key: str
    kind: Kind
    help: str
    effect: Effect = Effect.USED
    choices: tuple[int, ...] = ()
    minimum: float | None = None
    optional: bool = False
    available: tuple[int | float, ...] | None = None


def option(
    key: str,
    kind: Kind,
    default: Any,
    help_: str,
    *,
    effect: Effect = Effect.USED,
    choices: tuple[int, ...] = (),
    minimum: float | None = None,
    available: tuple[int | float, ...] | None = None,
) -> Any:
    """A field of `CompileOptions`."""
    info = OptionInfo(key, kind, help_, effect, choices, minimum, default is None, available)
    return attrs.field(default=default, metadata={"option": info})


def convert(info: OptionInfo, value: Any, origin: str) -> Any:
    """A value as it stands in a file or on the command line, as a value of the option's type.

    Raises:
        OptionError: naming option, expectation, value and origin.
    """
    # An empty text is a value of its own: the empty pipeline.
    nothing = ("None", "none", "null") if info.kind is Kind.TEXT else ("", "None", "none", "null")
    if info.optional and (value is None or value in nothing):
        return None
    try:
        made: Any = _CONVERTERS[info.kind](value)
    except (TypeError, ValueError) as error:
        raise _wrong(info, value, origin, str(info.kind)) from error
    if info.choices and made not in info.choices:
        raise _wrong(info, value, origin, f"one of {', '.join(map(str, info.choices))}")
    if info.minimum is not None and made < info.minimum:
        raise _wrong(info, value, origin, f"at least {info.minimum:g}")
    return made


def _wrong(info: OptionInfo, value: Any, origin: str, expected: str) -> OptionError:
    return OptionError(
        f"expected {expected}, found {value!r}", place=f"{info.key} ({origin})", hint=info.help
    )


def _int(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(value)
    return int(value)


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if _int(value) not in (0, 1):
        raise ValueError(value)
    return bool(_int(value))


def _text(value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise TypeError(value)
    return str(value)


def _names(value: Any) -> tuple[str, ...]:
    """Lists in the wild are separated by commas, semicolons or blanks, and may hold numbers."""
    if value is None:
        return ()
    if isinstance(value, str):
        return tuple(part for part in re.split(r"[,;\s]+", value) if part)
    if isinstance(value, int):
        return (str(value),)
    if not is_sequence(value):
        raise TypeError(value)
    return tuple(str(part).strip() for part in value)


def _numbers(value: Any) -> tuple[float, ...]:
    if value is None:
        return ()
    if isinstance(value, int | float):
        return (float(value),)
    parts = re.split(r"[,;\s]+", value.strip()) if isinstance(value, str) else value
    return tuple(float(part) for part in parts if part != "")


def _shapes(value: Any) -> dict[str, tuple[int, ...]]:
    if not is_mapping(value):
        raise TypeError(value)
    return {str(name): _shape(shape) for name, shape in value.items()}


def _shape(value: Any) -> tuple[int, ...]:
    parts = re.split(r"[x,\s]+", value) if isinstance(value, str) else value
    shape = tuple(int(part) for part in parts)
    if not shape or min(shape) < 1:
        raise ValueError(value)
    return shape


_CONVERTERS: Mapping[Kind, Callable[[Any], Any]] = {
    Kind.INT: _int,
    Kind.FLOAT: float,
    Kind.FLAG: _flag,
    Kind.TEXT: _text,
    Kind.NAMES: _names,
    Kind.NUMBERS: _numbers,
    Kind.SHAPES: _shapes,
}
