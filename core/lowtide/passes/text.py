"""Pipelines as text: ``fold-constants,equalize{iterations=2 keep-bias}``.

A bare option is ``true``. Options that have their default are not printed, so text and passes determine each
other.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Sequence
from typing import Any

import attrs

from lowtide.errors import PipelineError, nearest
from lowtide.passes.base import Pass
from lowtide.plugin import PassSpec, Registry, Spec, plugin_code

_TOKEN = re.compile(r'\s*(?:(?P<word>[A-Za-z0-9_.+-]+)|(?P<string>"(?:[^"\\]|\\.)*")|(?P<mark>[{},=]))')
_UNQUOTED = re.compile(r"[A-Za-z0-9_.+-]+")

OptionValue = bool | int | float | str | None


def print_pipeline(passes: Sequence[Pass]) -> str:
    """The text that `parse_pipeline` reads back to equal passes."""
    return ",".join(print_pass(item) for item in passes)


def print_pass(item: Pass) -> str:
    """One pass with the options that differ from their defaults."""
    changed: list[str] = []
    for field in _options(type(item)):
        value = getattr(item, field.name)
        if value != field.default or type(value) is not type(field.default):
            changed.append(f"{written(field.name)}={print_value(value)}")
    return f"{item.name}{{{' '.join(changed)}}}" if changed else item.name


def written(field: str) -> str:
    """The name of an option as pipelines have it."""
    return field.replace("_", "-")


def print_value(value: OptionValue) -> str:
    """The value of an option as pipelines have it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    if not isinstance(value, str):
        return repr(value)
    return value if _UNQUOTED.fullmatch(value) and not _reads_otherwise(value) else json.dumps(value)


def _reads_otherwise(text: str) -> bool:
    """Whether the text without quotes could be read as something else than a string."""
    try:
        float(text)
    except ValueError:
        return text in {"true", "false", "none"}
    return True


def parse_pipeline(text: str, registry: Registry) -> tuple[Pass, ...]:
    """Read a pipeline; the empty text is the empty pipeline.

    Raises:
        PipelineError: with the column, for wrong syntax, an unknown option or a value of another type.
        UnknownNameError: for a pass that nobody provides.
    """
    return tuple(_Parser(text, registry, PassSpec).items())


def parse_configured(text: str, registry: Registry, kind: type[Spec]) -> Any:
    """Read one contribution with options, as ``percentile{shrink=0.1}``, and make it; `kind` says what it is.

    Raises:
        PipelineError: with the column, for wrong syntax, an unknown option or a value of another type.
        UnknownNameError: for a name that nobody provides.
    """
    parser = _Parser(text, registry, kind)
    found = parser.items()
    if len(found) != 1:
        raise PipelineError(f"expected one {kind.kind}, found {len(found)}", place=f"{kind.kind} {text!r}")
    return found[0]


class _Parser:
    def __init__(self, text: str, registry: Registry, kind: type[Spec]) -> None:
        self.text = text
        self.registry = registry
        self.kind = kind
        self.tokens = self._lex()
        self.position = 0

    def _lex(self) -> list[tuple[str, str, int]]:
        tokens: list[tuple[str, str, int]] = []
        at = 0
        while at < len(self.text.rstrip()):
            match = _TOKEN.match(self.text, at)
            if match is None:
                bad = at + len(self.text[at:]) - len(self.text[at:].lstrip())
                raise self._error(f"unexpected {self.text[bad]!r}", bad)
            kind = match.lastgroup or ""
            tokens.append((kind, match.group(kind), match.start(kind)))
            at = match.end()
        tokens.append(("end", "the end", len(self.text)))
        return tokens

    def _error(self, message: str, at: int | None = None, hint: str = "") -> PipelineError:
        column = (self.tokens[self.position][2] if at is None else at) + 1
        what = "pipeline" if self.kind is PassSpec else self.kind.kind
        error = PipelineError(message, place=f"{what}, column {column}", hint=hint)
        error.add_note(self.text)
        error.add_note(" " * (column - 1) + "^")
        return error

    def _accept(self, mark: str) -> bool:
        if self.tokens[self.position][:2] == ("mark", mark):
            self.position += 1
            return True
        return False

    def _take(self, *kinds: str) -> tuple[str, str, int]:
        token = self.tokens[self.position]
        if token[0] not in kinds:
            raise self._error(f"expected a {' or '.join(kinds)}, found {token[1]!r}")
        self.position += 1
        return token

    def items(self) -> list[Any]:
        if self.tokens[0][0] == "end":
            return []
        found = [self.item()]
        while self._accept(","):
            found.append(self.item())
        self._take("end")
        return found

    def item(self) -> Any:
        _, name, at = self._take("word")
        spec = self.registry.get(self.kind, name)
        kind: type[Any] = self.registry.load(self.kind, name)
        options: dict[str, OptionValue] = {}
        if self._accept("{"):
            while not self._accept("}"):
                self.option(name, kind, options)
        required = [field.name for field in _options(kind) if field.default is attrs.NOTHING]
        missing = [written(field) for field in required if field not in options]
        if missing:
            shown = " ".join(f"{option}=VALUE" for option in missing)
            raise self._error(
                f"{name} needs the option {' and '.join(missing)}", at, f"write {name}{{{shown}}}"
            )
        try:
            with plugin_code(self.registry.describe(spec), passing=(TypeError, ValueError)):
                return kind(**options)
        except (TypeError, ValueError) as error:  # what validators raise
            raise self._error(f"{name} does not take these options: {error}", at) from error

    def option(self, name: str, kind: type[Any], options: dict[str, OptionValue]) -> None:
        _, word, at = self._take("word")
        hints = option_types(kind)
        field = word.replace("-", "_")
        if field not in hints:
            known = [written(hint) for hint in hints]
            raise self._error(f"{name} has no option {word}", at, nearest(word, known))
        if field in options:
            raise self._error(f"the option {word} is given twice", at)
        if not self._accept("="):
            options[field] = self.convert("true", hints[field], at, quoted=False)
            return
        lexeme, text, at = self._take("word", "string")
        quoted = lexeme == "string"
        options[field] = self.convert(
            self.unquote(text, at) if quoted else text, hints[field], at, quoted=quoted
        )

    def unquote(self, text: str, at: int) -> str:
        try:
            return str(json.loads(text))
        except ValueError as error:
            raise self._error(f"{text} is no string", at) from error

    def convert(self, text: str, expected: tuple[type, ...], at: int, *, quoted: bool) -> OptionValue:
        if not quoted and types.NoneType in expected and text == "none":
            return None
        if not quoted and bool in expected and text in {"true", "false"}:
            return text == "true"
        for number in (int, float):
            if not quoted and number in expected:
                try:
                    return number(text)
                except ValueError:
                    continue
        if str in expected:
            return text
        raise self._error(f"expected {print_types(expected)}, found {text!r}", at)


def option_types(kind: type[Any]) -> dict[str, tuple[type, ...]]:
    """The options of a class, each with the types it may have, by field name."""
    hints = typing.get_type_hints(kind)
    found: dict[str, tuple[type, ...]] = {}
    for field in _options(kind):
        hint = hints[field.name]
        several = typing.get_origin(hint) in {types.UnionType, typing.Union}
        found[field.name] = typing.get_args(hint) if several else (hint,)
    return found


def option_defaults(kind: type[Any]) -> dict[str, str]:
    """The defaults of options as pipelines have them, by field name; required ones are left out."""
    found: dict[str, str] = {}
    for field in _options(kind):
        default: Any = field.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class, which its stub makes a function
            found[field.name] = "(computed)"
        elif default is not attrs.NOTHING:
            found[field.name] = print_value(default)
    return found


def print_types(types_: tuple[type, ...]) -> str:
    """The types that an option may have, in words."""
    return " or ".join("none" if one is types.NoneType else one.__name__ for one in types_)


def _options(kind: type[Any]) -> tuple[attrs.Attribute[Any], ...]:
    """The fields that a caller can set; a class may have others, which follow from them."""
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(kind)
    return tuple(field for field in fields if field.init)
