"""From a merged TOML table to a `Target`: no unknown keys, and no value of one kind is made into another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import GenericAlias
from typing import Any, Literal, get_args, get_origin

import attrs
from cattrs import (
    AttributeValidationNote,
    BaseValidationError,
    Converter,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn

from lowtide.errors import nearest
from lowtide.ir import DType
from lowtide.target.documents import Table, as_list, as_table
from lowtide.target.model import Target

_KEYED_BY_NUMBER = ("scale_rules", "refused_scale_types")


@attrs.frozen
class Problem:
    """What is wrong with a table.

    Attributes:
        path: keys from the top to the place.
        message: what was expected and what was found.
        hint: what to do about it.
    """

    path: tuple[str, ...]
    message: str
    hint: str = ""


class WrongTableError(Exception):
    """A table is no target."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


def structure_target(table: Table) -> Target:
    """Make a target.

    Raises:
        WrongTableError: with the first problem.
    """
    prepared = {**table, **{key: _numbered(table[key], key) for key in _KEYED_BY_NUMBER if key in table}}
    try:
        return _converter().structure(prepared, Target)
    except BaseValidationError as error:
        raise WrongTableError(next(_problems(error, ()))) from error


def _numbered(found: object, key: str) -> object:
    numbers = as_table(found)
    if numbers is None:
        return found
    for name in numbers:
        if not (name.isascii() and name.isdigit()):
            raise WrongTableError(Problem((key, name), f"expected a number as key, found {name!r}"))
    return {int(name): entry for name, entry in numbers.items()}


class _UnexpectedError(ValueError):
    """A value that is not of the kind that its place has."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def _converter() -> Converter:
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
    converter.register_structure_hook(bool, _strict((bool,), "true or false"))
    converter.register_structure_hook(int, _strict((int,), "a whole number"))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(str, _strict((str,), "a text"))
    converter.register_structure_hook_func(
        lambda kind: kind == int | float | str, _strict((int, float, str), "a number or a text")
    )
    converter.register_structure_hook(DType, _dtype)
    converter.register_structure_hook_func(_is(Literal), _literal)
    converter.register_structure_hook_func(_is(tuple), _Tuples(converter))
    converter.register_structure_hook_func(_is(Mapping), _Tables(converter))
    converter.register_structure_hook_factory(attrs.has, _Fields.of(converter))
    return converter


def _is(origin: Any) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) is origin


def _strict(kinds: tuple[type, ...], noun: str) -> Callable[[Any, Any], Any]:
    def hook(found: Any, _: Any) -> Any:
        if type(found) not in kinds:
            raise _UnexpectedError(f"expected {noun}, found {found!r}")
        return found

    return hook


def _number(found: Any, _: Any) -> float:
    if type(found) not in (int, float):
        raise _UnexpectedError(f"expected a number, found {found!r}")
    return float(found)


def _dtype(found: Any, _: Any) -> DType:
    if found not in list(DType):
        raise _UnexpectedError(f"expected an element type as uint8, found {found!r}")
    return DType(found)


def _literal(found: Any, kind: Any) -> Any:
    known = get_args(kind)
    if found not in known:
        hint = nearest(found, known) if isinstance(found, str) else ""
        raise _UnexpectedError(f"expected one of {', '.join(known)}, found {found!r}", hint)
    return found


@attrs.frozen
class _Tuples:
    converter: Converter

    def __call__(self, found: Any, kind: Any) -> tuple[Any, ...]:
        entries = as_list(found)
        if entries is None:
            raise _UnexpectedError(f"expected a list, found {found!r}")
        wanted: Any = GenericAlias(list, get_args(kind)[:1])
        return tuple(self.converter.structure(entries, wanted))


@attrs.frozen
class _Tables:
    converter: Converter

    def __call__(self, found: Any, kind: Any) -> Any:
        table = as_table(found)
        if table is None:
            raise _UnexpectedError(f"expected a table, found {found!r}")
        wanted: Any = GenericAlias(dict, get_args(kind))
        return self.converter.structure(table, wanted)


@attrs.frozen
class _Fields:
    usual: Callable[[Any, Any], Any]

    @classmethod
    def of(cls, converter: Converter) -> Callable[[Any], _Fields]:
        """A factory of hooks for attrs classes."""

        def factory(kind: Any) -> _Fields:
            attrs.resolve_types(kind)
            return cls(make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True))

        return factory

    def __call__(self, found: Any, kind: Any) -> Any:
        table = as_table(found)
        if table is None:
            raise _UnexpectedError(f"expected a table, found {found!r}")
        return self.usual(table, kind)


def _problems(error: BaseException, path: tuple[str, ...]) -> Iterator[Problem]:
    """The leaves of what cattrs raised, each with the path that its notes tell; unknown keys come first."""
    if isinstance(error, BaseValidationError):
        inner = sorted(error.exceptions, key=lambda one: not isinstance(one, ForbiddenExtraKeysError))
        for one in inner:
            yield from _problems(one, (*path, *_step(one)))
    elif isinstance(error, ForbiddenExtraKeysError):
        known = [field.name for field in attrs.fields(error.cl)]
        for key in sorted(error.extra_fields):
            yield Problem((*path, key), "unknown key", nearest(key, known))
    elif isinstance(error, KeyError):
        yield Problem(path, "the key is missing")
    else:
        yield Problem(path, str(error), error.hint if isinstance(error, _UnexpectedError) else "")


def _step(error: BaseException) -> tuple[str, ...]:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return (note.name,)
        if isinstance(note, IterableValidationNote):
            return (str(note.index),)
    return ()
