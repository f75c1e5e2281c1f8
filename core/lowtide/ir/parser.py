"""Text to graph; `lowtide.ir.printer` has the form."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

import numpy as np

from lowtide.errors import GraphError, TextFormError, nearest
from lowtide.ir.constant import Constant
from lowtide.ir.dtypes import DType
from lowtide.ir.graph import Graph
from lowtide.ir.node import AttributeValue, Location, Value
from lowtide.ir.types import QuantParams, TensorType
from lowtide.ir.verify import verify

T = TypeVar("T")

_TOKEN = re.compile(
    r"""
    (?P<space>[\s]+|\#[^\n]*|//[^\n]*)
  | (?P<string>"(?:[^"\\\n]|\\.)*")
  | (?P<digest>sha256:[0-9a-f]{64})
  | (?P<value>%(?:[A-Za-z0-9_][A-Za-z0-9_./:\-]*(?<!:)|(?=")))
  | (?P<number>[+-]?(?:inf\b|nan\b|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?))
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<mark>[{}()\[\],:=~?*])
    """,
    re.VERBOSE,
)


_INTEGER = re.compile(r"[+-]?\d+")


class _Token(NamedTuple):
    kind: str
    text: str
    start: int


def parse_graph(text: str) -> Graph:
    """Read one graph and verify it.

    Raises:
        TextFormError: with line and column of what does not parse.
        GraphError: when the text is well formed but the graph is not valid.
    """
    return _Parser(text).graph()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = self._lex(text)
        self.position = 0
        self.values: dict[str, Value] = {}

    def _lex(self, text: str) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise self._error(f"unexpected character {text[at]!r}", at)
            if match.lastgroup and match.lastgroup != "space":
                tokens.append(_Token(match.lastgroup, match.group(), at))
            at = match.end()
        tokens.append(_Token("end", "end of text", len(text)))
        return tokens

    def _error(self, message: str, at: int | None = None) -> TextFormError:
        start = self.tokens[self.position].start if at is None else at
        line = self.text.count("\n", 0, start) + 1
        column = start - (self.text.rfind("\n", 0, start) + 1) + 1
        return TextFormError(message, place=f"{line}:{column}")

    @property
    def here(self) -> _Token:
        return self.tokens[self.position]

    def take(self, kind: str, text: str | None = None) -> str:
        token = self.here
        if token.kind != kind or (text is not None and token.text != text):
            raise self._error(f"expected {text or kind}, found {token.text!r}")
        self.position += 1
        return token.text

    def accept(self, text: str) -> bool:
        if self.here.text == text and self.here.kind in {"mark", "word"}:
            self.position += 1
            return True
        return False

    def several(self, one: Callable[[], T], close: str) -> list[T]:
        """Comma-separated things up to and including the closing mark."""
        found: list[T] = []
        while not self.accept(close):
            if found:
                self.take("mark", ",")
            found.append(one())
        return found

    def listed(self, one: Callable[[], T]) -> list[T]:
        """One or more comma-separated things."""
        found = [one()]
        while self.accept(","):
            found.append(one())
        return found

    def string(self) -> str:
        raw = self.take("string")
        try:
            return str(json.loads(raw))
        except ValueError:
            self.position -= 1
            raise self._error(f"{raw} is no string") from None

    def name(self) -> str:
        text = self.take("value")
        return text[1:] if len(text) > 1 else self.string()

    def pairs(self, one: Callable[[], tuple[str, T]], close: str) -> dict[str, T]:
        """Comma-separated keys with values, no key twice, up to and including the closing mark."""
        found: dict[str, T] = {}

        def add() -> None:
            start = self.here.start
            key, entry = one()
            if key in found:
                raise self._error(f"{key} is given twice", start)
            found[key] = entry

        self.several(add, close)
        return found

    def integer(self) -> int:
        raw = self.take("number")
        try:
            return int(raw)
        except ValueError:
            self.position -= 1
            raise self._error(f"expected an integer, found {raw}") from None

    # --- grammar ---

    def graph(self) -> Graph:
        self.take("word", "graph")
        graph = Graph(self.string())
        self.take("mark", "{")
        while not self.accept("return"):
            start = self.here.start
            try:
                self.line(graph)
            except GraphError as error:
                raise self._error(error.message, start) from error
        graph.set_outputs([] if self.here.text == "}" else self.listed(self.reference))
        self.take("mark", "}")
        self.take("end")
        verify(graph)
        return graph

    def line(self, graph: Graph) -> None:
        if self.accept("input"):
            name, made = self.result()
            self.values[name] = graph.add_input(name, made)
        elif self.accept("const"):
            name, made = self.result()
            self.take("mark", "=")
            shape = made.shape or ()
            data = self.constant(made.storage, tuple(dim or 0 for dim in shape))
            self.values[name] = graph.add_constant(name, data, made)
        else:
            self.node(graph)

    def result(self) -> tuple[str, TensorType]:
        name = self.name()
        self.take("mark", ":")
        return name, self.type()

    def node(self, graph: Graph) -> None:
        results = self.listed(self.result)
        self.take("mark", "=")
        op = self.take("word")
        self.take("mark", "(")
        operands = self.several(self.operand, ")")
        attributes = self.pairs(self.attribute, "}") if self.accept("{") else {}
        name = self.string() if self.accept("name") else ""
        layer = self.string() if self.accept("layer") else ""
        model = self.string() if self.accept("at") else ""
        nodes = self.listed(self.string) if self.accept("nodes") else []
        tensors = self.listed(self.string) if self.accept("tensors") else []
        location = Location(model, tuple(nodes), tuple(tensors))
        node = graph.add_node(op, operands, results, attributes, name=name, location=location, layer=layer)
        self.values.update({value.name: value for value in node.outputs})

    def operand(self) -> Value | None:
        return None if self.accept("_") else self.reference()

    def reference(self) -> Value:
        name = self.name()
        if name not in self.values:
            self.position -= 1
            raise self._error(f"%{name} is not defined above; {nearest(name, self.values)}")
        return self.values[name]

    def type(self) -> TensorType:
        dtype = self.dtype()
        self.take("mark", "[")
        shape = None
        if not self.accept("*"):
            shape = tuple(self.several(lambda: None if self.accept("?") else self.dimension(), "]"))
        else:
            self.take("mark", "]")
        return TensorType(dtype, shape, self.quant() if self.accept("~") else None)

    def dimension(self) -> int:
        start = self.here.start
        size = self.integer()
        if size < 0:
            raise self._error(f"a dimension cannot be negative, found {size}", start)
        return size

    def dtype(self) -> DType:
        word = self.take("word")
        try:
            return DType(word)
        except ValueError:
            self.position -= 1
            raise self._error(f"unknown element type {word}; {nearest(word, list(DType))}") from None

    def quant(self) -> QuantParams:
        start = self.here.start
        dtype = self.dtype()
        self.take("mark", "(")
        fields = self.pairs(self.quant_field, ")")
        unknown = fields.keys() - {"scale", "zero", "axis"}
        if unknown or "scale" not in fields:
            raise self._error(f"expected scale, zero and axis, found {', '.join(fields) or 'nothing'}", start)
        zero = [int(entry) for entry in fields.get("zero", [0])]
        axis = [int(entry) for entry in fields.get("axis", [])]
        try:
            return QuantParams(dtype, fields["scale"], zero, axis[0] if axis else None)
        except ValueError as error:
            raise self._error(str(error), start) from error

    def quant_field(self) -> tuple[str, list[float]]:
        key = self.take("word")
        self.take("mark", "=")
        one: Callable[[], float] = self.number if key == "scale" else self.integer
        if key != "axis" and self.accept("["):
            return key, self.several(one, "]")
        return key, [one()]

    def number(self) -> float:
        return float(self.take("number"))

    def attribute(self) -> tuple[str, AttributeValue]:
        key = self.take("word")
        self.take("mark", "=")
        return key, self.attribute_value()

    def attribute_value(self) -> AttributeValue:
        if self.accept("["):
            # The verifier checks that the entries are of one kind, the one that the operator asks for.
            return cast("tuple[int, ...]", tuple(self.several(self.scalar, "]")))
        if self.here.kind != "word":
            return self.scalar()
        dtype = self.dtype()
        self.take("mark", "[")
        return self.constant(dtype, tuple(self.several(self.dimension, "]")))

    def scalar(self) -> str | int | float:
        if self.here.kind == "string":
            return self.string()
        raw = self.take("number")
        return int(raw) if _INTEGER.fullmatch(raw) else float(raw)

    def constant(self, dtype: DType, shape: tuple[int, ...]) -> Constant:
        if self.here.kind == "digest":
            return Constant.by_digest(dtype, shape, self.take("digest").removeprefix("sha256:"))
        start = self.here.start
        if self.accept("fill"):
            self.take("mark", "(")
            entry = self.element(dtype)
            self.take("mark", ")")
            return Constant.of(np.full(shape, entry, dtype.numpy))
        self.take("mark", "[")
        entries = self.several(lambda: self.element(dtype), "]")
        try:
            return Constant.of(np.array(entries, dtype.numpy).reshape(shape))
        except ValueError:
            raise self._error(f"{len(entries)} elements do not fill {list(shape)}", start) from None

    def element(self, dtype: DType) -> float | int | bool:
        if dtype is DType.BOOL:
            word = self.take("word")
            if word not in {"true", "false"}:
                self.position -= 1
                raise self._error(f"expected true or false, found {word}")
            return word == "true"
        start = self.here.start
        entry = self.number() if dtype.is_float else self.integer()
        if not _holds(dtype, entry):
            raise self._error(f"{entry} is no {dtype.value}", start)
        return entry


def _holds(dtype: DType, entry: float) -> bool:
    if dtype.is_integer:
        return dtype.min <= entry <= dtype.max
    with np.errstate(over="ignore"):
        return math.isfinite(dtype.numpy.type(entry)) or not math.isfinite(entry)
