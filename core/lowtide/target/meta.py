"""The vendor's file of a detection head: a protobuf text whose schema is not needed.

Source: the vendor's published description: blocks for each architecture with the names of tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import attrs

from lowtide.errors import OptionError

OPTION = "object_detection:meta_layers_names_list"
LIMIT = 4 << 20
"""Bytes; such a file has a few hundred lines."""

DEPTH = 32

_TOKEN = re.compile(
    r"""\s*(?:\#[^\n]*\s*)*(?:
    (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    | (?P<mark>[{}<>:;,\[\]])
    | (?P<word>[^\s"'{}<>:;,\[\]\#]+)
    )""",
    re.VERBOSE,
)
_INPUTS = {"box_input": "box", "class_input": "class", "score_input": "class", "objectness_input": "class"}


@attrs.frozen
class Field:
    """One field of a message.

    Attributes:
        value: text of a string or a bare word; the fields of a message.
        line: where it stands, from 1.
    """

    name: str
    value: str | tuple[Field, ...]
    line: int


@attrs.frozen
class DetectionHead:
    """What the file says of the network.

    Attributes:
        architecture: the names of its blocks.
        tensors: every tensor that a head gives, with its kind: ``box``, ``class``, or ``head`` where the file
            says no more.
        lines: the line that names each.
    """

    place: str
    architecture: tuple[str, ...]
    tensors: dict[str, str]
    lines: dict[str, int]


def read_head(path: Path) -> DetectionHead:
    """Read the file.

    Raises:
        OptionError: when it cannot be read, is no protobuf text, or names no input.
    """
    try:
        if path.stat().st_size > LIMIT:
            raise OptionError(f"{path} is larger than {LIMIT >> 20} MiB: no file of a head", place=OPTION)
        text = path.read_text("utf-8")
    except OSError as error:
        raise OptionError(f"{path} cannot be read: {error.strerror}", place=OPTION) from error
    except UnicodeDecodeError as error:
        raise OptionError(f"{path} is no text", place=OPTION, hint="the file is in text form") from error
    return head_of(parse(text, str(path)), str(path))


def head_of(fields: tuple[Field, ...], place: str) -> DetectionHead:
    """The tensors that are named in the fields of a file.

    Raises:
        OptionError: when there are none.
    """
    tensors: dict[str, str] = {}
    lines: dict[str, int] = {}
    for field in _strings(fields):
        kind = _INPUTS.get(field.name, "head" if field.name in {"input", "in"} else "")
        if kind and isinstance(field.value, str):
            tensors.setdefault(field.value, kind)
            lines.setdefault(field.value, field.line)
    if not tensors:
        raise OptionError(
            f"{place} names no tensor",
            place=OPTION,
            hint=f"a head has {', '.join(sorted(_INPUTS))} or input",
        )
    blocks = tuple(dict.fromkeys(field.name for field in fields if not isinstance(field.value, str)))
    return DetectionHead(place, blocks, tensors, lines)


def _strings(fields: tuple[Field, ...]) -> Iterator[Field]:
    for field in fields:
        if isinstance(field.value, str):
            yield field
        else:
            yield from _strings(field.value)


def parse(text: str, place: str) -> tuple[Field, ...]:
    """The fields of a protobuf text, whatever its schema.

    Raises:
        OptionError: naming the line.
    """
    return _Parser(text, place).message(0)


class _Parser:
    def __init__(self, text: str, place: str) -> None:
        self.place = place
        self.tokens = list(self._tokens(text))
        self.at = 0

    def _tokens(self, text: str) -> Iterator[tuple[str, str, int]]:
        position, line = 0, 1
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None:
                rest = text[position:]
                if re.fullmatch(r"\s*(?:#[^\n]*(?:\n\s*|$))*", rest):
                    return
                raise self.wrong(f"cannot read {rest.strip()[:20]!r}", line + _lines_before(rest))
            kind = str(found.lastgroup)
            line += text.count("\n", position, found.start(kind))
            yield kind, found[kind], line
            position = found.end()

    def wrong(self, message: str, line: int) -> OptionError:
        return OptionError(f"{self.place}:{line}: {message}", place=OPTION, hint="the file is protobuf text")

    def message(self, depth: int) -> tuple[Field, ...]:
        fields: list[Field] = []
        while self.at < len(self.tokens):
            kind, token, line = self.tokens[self.at]
            if token in {"}", ">"} and kind == "mark":
                if not depth:
                    raise self.wrong(f"{token} closes nothing", line)
                return tuple(fields)
            self.at += 1
            if kind == "mark" and token in {",", ";"}:
                continue
            if kind != "word":
                raise self.wrong(f"expected the name of a field, found {token}", line)
            fields += self.field(token, line, depth)
        if depth:
            raise self.wrong("a block is not closed", self.tokens[-1][2])
        return tuple(fields)

    def field(self, name: str, line: int, depth: int) -> Iterator[Field]:
        colon = self.take(":")
        if self.take("{") or self.take("<"):
            if depth >= DEPTH:
                raise self.wrong("blocks are nested too deep", line)
            inside = self.message(depth + 1)
            self.at += 1
            yield Field(name, inside, line)
        elif colon and self.take("["):
            while not self.take("]"):
                yield Field(name, self.scalar(name, line), line)
                self.take(",")
        elif colon:
            yield Field(name, self.scalar(name, line), line)
        else:
            raise self.wrong(f"expected a colon or a block after {name}", line)

    def take(self, mark: str) -> bool:
        if self.at < len(self.tokens) and self.tokens[self.at][:2] == ("mark", mark):
            self.at += 1
            return True
        return False

    def scalar(self, name: str, line: int) -> str:
        if self.at >= len(self.tokens) or self.tokens[self.at][0] == "mark":
            raise self.wrong(f"{name} has no value", line)
        kind, token, _ = self.tokens[self.at]
        self.at += 1
        if kind == "word":
            return token
        text = re.sub(r"\\(.)", r"\1", token[1:-1])
        while self.at < len(self.tokens) and self.tokens[self.at][0] == "text":  # adjacent strings are one
            text += re.sub(r"\\(.)", r"\1", self.tokens[self.at][1][1:-1])
            self.at += 1
        return text


def _lines_before(text: str) -> int:
    return text.count("\n", 0, len(text) - len(text.lstrip()))
