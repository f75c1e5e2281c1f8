from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.errors import TargetError
from lowtide.target.expressions import LONGEST, FactValue, compile_expression

KINDS = {"a": "number", "b": "number", "on": "truth", "name": "text", "dims": "number*", "known": "truth*"}
FACTS: dict[str, FactValue] = {
    "a": 3,
    "b": -2,
    "on": True,
    "name": "Conv",
    "dims": (1, 2, 3),
    "known": (True, False),
}


def holds(text: str, **changed: FactValue) -> bool:
    return compile_expression(text, KINDS, "here").holds({**FACTS, **changed})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a == 3", True),
        ("a != 3", False),
        ("1 < a <= 3", True),
        ("1 < a < 3", False),
        ("a in (1, 2)", False),
        ("a not in [1, 2]", True),
        ("(a, b) in ((3, -2), (0, 0))", True),
        ("name in ('Conv', 'Gemm') and on", True),
        ("not on or a > 5", False),
        ("a + b * 2 - 1 == -2", True),
        ("a / 2 == 1.5 and a // 2 == 1 and b % 3 == 1", True),
        ("+a == -(-a)", True),
        ("min(a, b) == -2 and max(dims) == 3 and len(dims) == 3 and abs(b) == 2", True),
        ("all(known)", False),
        ("any(known)", True),
        ("dims == (1, 2, 3)", True),
        ("False", False),
    ],
)
def test_an_expression_means_what_it_means_in_python(text: str, *, expected: bool) -> None:
    assert holds(text) is expected


NUMBERS = st.recursive(
    st.sampled_from(["a", "b", "0", "1", "2.5", "7"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda parts: f"({' '.join(parts)})"),
        inner.map(lambda part: f"abs({part})"),
        inner.map(lambda part: f"(-{part})"),
        st.tuples(inner, inner).map(lambda parts: f"max({parts[0]}, {parts[1]})"),
    ),
    max_leaves=5,
)
TRUTHS = st.recursive(
    st.one_of(
        st.tuples(NUMBERS, st.sampled_from(["<", "<=", "==", "!=", ">", ">="]), NUMBERS).map(" ".join),
        st.tuples(NUMBERS, NUMBERS, NUMBERS).map(lambda parts: f"{parts[0]} in ({parts[1]}, {parts[2]})"),
        st.tuples(NUMBERS, NUMBERS, NUMBERS).map(lambda parts: f"{parts[0]} < {parts[1]} <= {parts[2]}"),
        st.just("on"),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" and ", " or "]), inner).map(lambda p: f"({p[0]}{p[1]}{p[2]})"),
        inner.map(lambda part: f"not ({part})"),
    ),
    max_leaves=4,
)


@given(TRUTHS, st.integers(-9, 9), st.integers(-9, 9), st.booleans())
def test_every_valid_expression_agrees_with_python(text: str, a: int, b: int, on: bool) -> None:
    if len(text) > LONGEST:
        return
    expected = eval(text, {"abs": abs, "max": max, "a": a, "b": b, "on": on})  # noqa: S307 - the oracle
    assert holds(text, a=a, b=b, on=on) is bool(expected)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__",
        "name.upper() == 'CONV'",
        "dims[0] == 1",
        "(lambda: True)()",
        "[x for x in dims] == dims",
        "a if on else b",
        "(a := 3) == 3",
        "f'{a}' == '3'",
        "eval('True')",
        "open('x') == a",
        "min(dims, key=abs) == 1",
        "max(*dims) == 3",
        "2 ** 99 == a",
        "a << 99 == 0",
        "a is 3",
        "await a",
        "{1: 2} == a",
        "{1, 2} == a",
        "None == a",
        "b'x' == name",
        "1j == a",
        "... == a",
        "name * 9 == name",
        "dims * 9 == dims",
        "() == dims",
        "a; b",
        "a = 3",
        "'\\x41' == name",
        "",
        "(",
        "a == 1\x00",
        "(" * 200 + "a" + ")" * 200,
        "a == 1 or " * 60 + "on",
    ],
)
def test_everything_else_of_python_is_refused(text: str) -> None:
    with pytest.raises(TargetError) as caught:
        compile_expression(text, KINDS, "here")
    assert caught.value.place == "here"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a", "number, expected a condition"),
        ("a == name", "compares a number with a text"),
        ("name < 'z'", "compares"),
        ("name in dims", "compares a text with a tuple of numbers"),
        ("on and a", "'a' is a number, expected a truth"),
        ("a in dims and a in name", "compares a number with a text"),
        ("(1, 'x') == dims", "'x'"),
        ("any(dims)", "gives any what it does not take"),
        ("min(a) == 1", "gives min what it does not take"),
        ("abs(a, b) == 1", "gives abs"),
        ("on + 1 == 2", "'on' is a truth, expected a number"),
    ],
)
def test_a_mixture_of_kinds_is_found_before_any_node(text: str, words: str) -> None:
    with pytest.raises(TargetError) as caught:
        compile_expression(text, KINDS, "here")
    assert words in str(caught.value)


def test_an_unknown_fact_comes_with_the_nearest_ones() -> None:
    with pytest.raises(TargetError, match="did you mean name"):
        compile_expression("nam == 'Conv'", KINDS, "here")


PIECES = [*KINDS, "min", "max", "(", ")", "[", "]", ",", ".", "and", "or", "not", "in", "is", "if", "else"]
PIECES += [
    "lambda",
    ":",
    "=",
    "==",
    "<",
    "+",
    "-",
    "*",
    "**",
    "/",
    "%",
    "1",
    "0",
    "'x'",
    "__class__",
    "for",
    "@",
]


@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join)))
def test_no_text_runs_code_or_escapes_as_another_error(text: str) -> None:
    try:
        made = compile_expression(text, KINDS, "here")
        made.holds(FACTS)
    except TargetError:
        return
    forbidden = ast.Attribute | ast.Subscript | ast.Lambda | ast.comprehension | ast.Starred | ast.keyword
    nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    assert not any(isinstance(node, forbidden) for node in nodes)
    called = [node.func for node in nodes if isinstance(node, ast.Call)]
    assert all(
        isinstance(func, ast.Name) and func.id in {"min", "max", "len", "all", "any", "abs"}
        for func in called
    )


def test_a_condition_that_reads_a_fact_without_meaning_is_met() -> None:
    assert holds("a == 99", a=None)
    assert holds("not (a == 99)", a=None)
    assert holds("b == 99 or a == 99", a=None)


def test_a_fact_that_need_not_be_read_does_not_matter() -> None:
    assert not holds("b == 99 and a == 99", a=None)
    assert holds("on or a == 99", a=None)


def test_a_division_by_zero_names_the_expression() -> None:
    with pytest.raises(TargetError, match="1 % a == 0"):
        holds("1 % a == 0", a=0)
    with pytest.raises(TargetError, match="min"):
        holds("min(dims) == 0", dims=())
