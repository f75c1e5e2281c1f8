"""Errors say where, what and what to do; diagnostics are kept once and in order."""

from __future__ import annotations

import re

import pytest

from lowtide import errors
from lowtide.diagnostics import Diagnostic, Diagnostics, Severity
from lowtide.errors import LowtideError, counted, nearest

ALL = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LowtideError)]


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in ALL]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"LT\d{3}", code) for code in codes)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "LT801 what"),
        ({"place": "tensor x"}, "LT801 tensor x: what"),
        ({"hint": "do that"}, "LT801 what (do that)"),
        ({"place": "tensor x", "hint": "do that"}, "LT801 tensor x: what (do that)"),
    ],
)
def test_an_error_prints_code_place_message_and_hint(arguments: dict[str, str], text: str) -> None:
    assert str(errors.QuantizationError("what", **arguments)) == text


def test_notes_follow_on_lines_of_their_own() -> None:
    error = errors.PassError("what")
    error.add_note("in pass fold")
    assert str(error) == "LT201 what\n  in pass fold"


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("relu", ["Relu", "Conv"], "did you mean Relu?"),
        ("colour", ["color", "colon", "shape"], "did you mean color or colon?"),
        ("x", [], "none is known"),
        ("unlike", ["b", "a"], "known: a, b"),
        ("abs", ["Abs", "ABS"], "did you mean ABS or Abs?"),
    ],
)
def test_near_names_are_offered_else_the_known_ones(name: str, known: list[str], hint: str) -> None:
    assert nearest(name, known) == hint


def test_a_long_list_of_names_is_cut() -> None:
    hint = nearest("?", [f"name{number:02}" for number in range(31)])
    assert hint.endswith("name29, …")


def test_diagnostics_are_kept_once_in_the_order_of_their_discovery() -> None:
    found = Diagnostics()
    found.warning("LT851", "tensor b", "clipped", "use percentile")
    found.info("LT651", "tensor a", "without effect")
    found.warning("LT851", "tensor b", "clipped", "use percentile")
    assert list(found) == [
        Diagnostic(Severity.WARNING, "LT851", "tensor b", "clipped", "use percentile"),
        Diagnostic(Severity.INFO, "LT651", "tensor a", "without effect"),
    ]
    assert len(found) == 2


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 frames"), (1, "1 frame"), (2, "2 frames"), (12345, "12,345 frames")]
)
def test_a_number_has_its_noun(number: int, words: str) -> None:
    assert counted(number, "frame") == words
