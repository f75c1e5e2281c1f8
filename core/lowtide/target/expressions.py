"""A small expression language for conditions on nodes, evaluated without running any code.

It is a part of Python's. Allowed are ``and``, ``or``, ``not``, comparisons (chains too), ``in``, ``+ - * / //
%`` on numbers, tuples, lists, numbers, texts, ``True``, ``False``, names of facts, and the functions ``min
max len all any abs``. Everything is typed when it is compiled, so that a mistake shows when a target is
loaded and not when a rare node meets it.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from lowtide.errors import TargetError, nearest

LONGEST = 500
"""Characters that an expression may have, which also bounds its depth and its numbers."""

FactValue = bool | int | float | str | tuple[bool, ...] | tuple[int, ...] | tuple[float, ...] | None
"""What a fact may be; ``None`` where it has no meaning."""

_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda one, other: one / other,
    ast.FloorDiv: lambda one, other: one // other,
    ast.Mod: operator.mod,
}
_ORDER: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_EQUALITY: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {ast.Eq: operator.eq, ast.NotEq: operator.ne}
_MEMBERSHIP: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.In: lambda one, many: one in many,
    ast.NotIn: lambda one, many: one not in many,
}
_COMPARE = {**_ORDER, **_EQUALITY, **_MEMBERSHIP}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "min": min,
    "max": max,
    "len": len,
    "all": all,
    "any": any,
    "abs": abs,
}


class _NotApplicableError(Exception):
    """The expression read a fact that has no meaning for the node."""


@attrs.frozen
class Expression:
    """A compiled condition.

    Attributes:
        text: how it was written.
        place: the target and key that it comes from, for messages.
    """

    text: str
    place: str
    _tree: ast.expr = attrs.field(repr=False, eq=False)

    def holds(self, facts: Mapping[str, FactValue]) -> bool:
        """Whether the condition is met.

        A condition that has to read a fact of ``None`` is not applicable to the node and is met; ``and`` and
        ``or`` read from left to right and no further than they must.

        Raises:
            TargetError: when it divides by zero or takes the minimum of nothing.
        """
        try:
            return bool(_value(self._tree, facts))
        except _NotApplicableError:
            return True
        except (ArithmeticError, ValueError) as error:
            raise TargetError(f"{self.text!r} cannot be computed: {error}", place=self.place) from error


def compile_expression(text: str, kinds: Mapping[str, str], place: str) -> Expression:
    """Check an expression and make it ready.

    Args:
        text: the expression.
        kinds: the names it may use, each ``number``, ``truth``, ``text`` or one of these with a star for a
            tuple of them.
        place: where it stands, for messages.

    Raises:
        TargetError: when it does not parse, uses what is not allowed, an unknown name, or mixes kinds.
    """
    if len(text) > LONGEST or "\\" in text:
        raise TargetError(
            f"an expression has at most {LONGEST} characters and no backslash, found {text[:40]!r}…",
            place=place,
        )
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        kind = _Checker(kinds, place).kind(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise TargetError(f"{text!r} is no expression: {error}", place=place) from error
    if kind != "truth":
        raise TargetError(
            f"{text!r} is a {_noun(kind)}, expected a condition",
            place=place,
            hint="compare it with something",
        )
    return Expression(text, place, tree)


@attrs.frozen
class _Checker:
    kinds: Mapping[str, str]
    place: str

    def kind(self, tree: ast.expr) -> str:
        match tree:
            case ast.Constant(value=bool()):
                return "truth"
            case ast.Constant(value=int() | float()):
                return "number"
            case ast.Constant(value=str()):
                return "text"
            case ast.Name(id=name):
                return self.name(name)
            case ast.BoolOp(values=parts):
                return self.several(parts, "truth", "truth")
            case ast.UnaryOp(op=ast.Not(), operand=part):
                return self.several([part], "truth", "truth")
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=part):
                return self.several([part], "number", "number")
            case ast.BinOp(op=op, left=left, right=right) if type(op) in _ARITHMETIC:
                return self.several([left, right], "number", "number")
            case ast.Compare():
                return self.comparison(tree)
            case ast.Tuple(elts=parts) | ast.List(elts=parts) if parts:
                return self.several(parts, self.kind(parts[0]), f"{self.kind(parts[0])}*")
            case ast.Call(func=ast.Name(id=function), args=given, keywords=[]) if function in _FUNCTIONS:
                return self.call(tree, function, [self.kind(part) for part in given])
            case _:
                raise self.error(tree, "is not allowed", _ALLOWED)

    def several(self, parts: list[ast.expr], wanted: str, result: str) -> str:
        for part in parts:
            found = self.kind(part)
            if found != wanted:
                raise self.error(part, f"is a {_noun(found)}, expected a {_noun(wanted)}")
        return result

    def name(self, name: str) -> str:
        if name not in self.kinds:
            raise TargetError(f"there is no fact {name}", place=self.place, hint=nearest(name, self.kinds))
        return self.kinds[name]

    def comparison(self, tree: ast.Compare) -> str:
        left = self.kind(tree.left)
        for op, part in zip(tree.ops, tree.comparators, strict=True):
            right = self.kind(part)
            if type(op) in _ORDER:
                fits = left == right == "number"
            elif type(op) in _EQUALITY:
                fits = left == right
            else:
                fits = type(op) in _MEMBERSHIP and right == f"{left}*"
            if not fits:
                raise self.error(tree, f"compares a {_noun(left)} with a {_noun(right)}")
            left = right
        return "truth"

    def call(self, tree: ast.expr, function: str, given: list[str]) -> str:
        many = len(given) == 1 and given[0].endswith("*")
        numbers = bool(given) and set(given) == {"number"}
        match function:
            case "min" | "max" if given == ["number*"] or (numbers and len(given) > 1):
                return "number"
            case "len" if many:
                return "number"
            case "all" | "any" if given == ["truth*"]:
                return "truth"
            case "abs" if given == ["number"]:
                return "number"
            case _:
                raise self.error(tree, f"gives {function} what it does not take")

    def error(self, tree: ast.expr, message: str, hint: str = "") -> TargetError:
        return TargetError(f"{ast.unparse(tree)!r} {message}", place=self.place, hint=hint)


_ALLOWED = (
    f"allowed are and, or, not, comparisons, in, + - * / // %, tuples, facts and {', '.join(_FUNCTIONS)}"
)


def _noun(kind: str) -> str:
    return f"tuple of {kind[:-1]}s" if kind.endswith("*") else kind


def _value(tree: ast.expr, facts: Mapping[str, FactValue]) -> Any:
    match tree:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return _fact(name, facts)
        case ast.BoolOp(op=ast.And(), values=parts):
            return all(_value(part, facts) for part in parts)
        case ast.BoolOp(values=parts):
            return any(_value(part, facts) for part in parts)
        case ast.UnaryOp(op=ast.Not(), operand=part):
            return not _value(part, facts)
        case ast.UnaryOp(op=ast.USub(), operand=part):
            return -_value(part, facts)
        case ast.UnaryOp(operand=part):
            return _value(part, facts)
        case ast.BinOp(op=op, left=left, right=right):
            return _ARITHMETIC[type(op)](_value(left, facts), _value(right, facts))
        case ast.Compare():
            return _compared(tree, facts)
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return tuple(_value(part, facts) for part in parts)
        case ast.Call(func=ast.Name(id=function), args=given):
            return _FUNCTIONS[function](*(_value(part, facts) for part in given))
        case _:
            raise ValueError(ast.unparse(tree))


def _fact(name: str, facts: Mapping[str, FactValue]) -> FactValue:
    found = facts.get(name)
    if found is None:
        raise _NotApplicableError
    return found


def _compared(tree: ast.Compare, facts: Mapping[str, FactValue]) -> bool:
    left = _value(tree.left, facts)
    for op, part in zip(tree.ops, tree.comparators, strict=True):
        right = _value(part, facts)
        if not _COMPARE[type(op)](left, right):
            return False
        left = right
    return True
