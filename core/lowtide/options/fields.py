"""How one option is described."""

from __future__ import annotations

import enum
import math
import re
import reprlib
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

import attrs

from lowtide.errors import OptionError
from lowtide.narrow import is_mapping, is_number, is_sequence

NOTHING = ("None", "none", "null")
"""How files and the command line write that an option has no value."""


class Effect(enum.StrEnum):
    """What an option does here."""

    USED = "used"
    VENDOR_ONLY = "kept for the vendor's tools, without effect here"


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
        minimum: the least legal value.
        maximum: the greatest legal value.
        above: what a legal value is greater than.
        optional: whether ``None`` is a value.
    """

    key: str
    kind: Kind
    help: str
    effect: Effect = Effect.USED
    choices: tuple[int, ...] | tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    optional: bool = False
    above: float | None = None


def option(
    key: str,
    kind: Kind,
    default: Any,
    help_: str,
    *,
    effect: Effect = Effect.USED,
    choices: tuple[int, ...] | tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
) -> Any:
    """A field of `CompileOptions`."""
    info = OptionInfo(key, kind, help_, effect, choices, minimum, maximum, default is None, above)
    return attrs.field(default=default, metadata={"option": info})


def convert(info: OptionInfo, value: Any, origin: str) -> Any:
    """A value as it stands in a file or on the command line, as a value of the option's type.

    Raises:
        OptionError: naming option, expectation, value and origin.
    """
    # An empty text is a value of its own, as the empty pipeline, and no number.
    if info.optional and (value is None or value in NOTHING):
        return None
    if isinstance(value, bool) and info.kind is Kind.TEXT and set(info.choices) & {"yes", "no"}:
        value = "yes" if value else "no"  # YAML reads these words as truth values
    try:
        made: Any = _CONVERTERS[info.kind](value)
    except (TypeError, ValueError, OverflowError) as error:
        expected = f"{info.kind} or none" if info.optional else str(info.kind)
        raise _wrong(info, value, origin, expected) from error
    if info.choices and made not in info.choices:
        raise _wrong(info, value, origin, f"one of {', '.join(map(str, info.choices))}")
    if info.above is not None and made <= info.above:
        raise _wrong(info, value, origin, f"above {info.above:g}")
    if info.minimum is not None and made < info.minimum:
        raise _wrong(info, value, origin, f"at least {info.minimum:g}")
    if info.maximum is not None and made > info.maximum:
        raise _wrong(info, value, origin, f"at most {info.maximum:g}")
    return made


def _wrong(info: OptionInfo, value: Any, origin: str, expected: str) -> OptionError:
    hint = info.help
    if info.kind is Kind.NAMES and not isinstance(value, bool | float) and not is_sequence(value):
        hint = f"give a list of texts, or one text with commas; {type(value).__name__} is neither"
    elif info.kind in (Kind.TEXT, Kind.NAMES) and not info.choices:
        hint = "put quotes around names such as 1.10 and yes, or the file means a number and a truth value"
    return OptionError(
        f"expected {expected}, found {reprlib.repr(value)}", place=f"{info.key} ({origin})", hint=hint
    )


def written(value: object) -> str:
    """A value as a person types it: names and numbers with commas, shapes as ``{image: 1x3x32x32}``."""
    if is_mapping(value):
        shapes = (f"{name}: {'x'.join(map(str, shape))}" for name, shape in value.items())
        return f"{{{', '.join(shapes)}}}" if value else ""
    return ", ".join(map(str, value)) if is_sequence(value) else str(value)


def _int(value: Any) -> int:
    """A number without a fraction, or a text of one: files, scripts and the command line write 8 and 8.0."""
    made = _float(value)
    if not made.is_integer():
        raise ValueError(value)
    return int(made) if isinstance(value, str) and not value.strip().lstrip("+-").isdigit() else int(value)


def _float(value: Any) -> float:
    if not isinstance(value, str) and not is_number(value):
        raise TypeError(value)
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):  # Python reads 1_6 as 16
        raise ValueError(value)
    made = float(value)
    if not math.isfinite(made):
        raise ValueError(value)
    return made


def _flag(value: Any) -> bool:
    word = str(value).lower()  # truth values of Python and numpy, and words
    if word in _WORDS:
        return _WORDS[word]
    if _int(value) not in (0, 1):
        raise ValueError(value)
    return bool(_int(value))


def _text(value: Any) -> str:
    if isinstance(value, PurePath):
        return str(value)
    # Scripts hand in constants of ONNX Runtime, which are no enumerations of Python's but look like them.
    constant = getattr(value, "name", None)
    return constant if isinstance(constant, str) else _name(value)


def _name(value: Any) -> str:
    """Integers are names of tensors; a float or a flag is a name that lost its spelling in the file."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(value)
    return str(value).strip()


def _names(value: Any) -> tuple[str, ...]:
    """Lists in the wild are separated by commas, blanks or line breaks, and may hold numbers.

    A semicolon separates nothing: names of fused TFLite tensors hold it. The items of a real list are names
    as they stand, whatever they hold.
    """
    if value is None or value in NOTHING:
        return ()
    if isinstance(value, str):
        return tuple(part for part in re.split(r"[,\s]+", value) if part)
    parts = value if is_sequence(value) else (value,)
    return tuple(name for name in map(_name, parts) if name)


def _numbers(value: Any) -> tuple[float, ...]:
    if value is None or (isinstance(value, str) and value in NOTHING):
        return ()
    if isinstance(value, int | float):
        return (_float(value),)
    parts = re.split(r"[,;\s]+", value.strip()) if isinstance(value, str) else value
    if not is_sequence(parts):
        raise TypeError(value)
    return tuple(_float(part) for part in parts if not isinstance(part, str) or part)


def _shapes(value: Any) -> dict[str, tuple[int, ...]]:
    if value is None:
        return {}
    if not is_mapping(value):
        raise TypeError(value)
    return {str(name): _shape(shape) for name, shape in value.items()}


def _shape(value: Any) -> tuple[int, ...]:
    parts = re.split(r"[x,\s]+", value) if isinstance(value, str) else value
    dims = (parts,) if isinstance(parts, int) else parts
    if not is_sequence(dims):
        raise TypeError(value)
    shape = tuple(_int(dim) for dim in dims)
    if not shape or min(shape) < 1:
        raise ValueError(value)
    return shape


_WORDS: Mapping[str, bool] = {
    "true": True,
    "yes": True,
    "on": True,
    "false": False,
    "no": False,
    "off": False,
}

_CONVERTERS: Mapping[Kind, Callable[[Any], Any]] = {
    Kind.INT: _int,
    Kind.FLOAT: _float,
    Kind.FLAG: _flag,
    Kind.TEXT: _text,
    Kind.NAMES: _names,
    Kind.NUMBERS: _numbers,
    Kind.SHAPES: _shapes,
}
