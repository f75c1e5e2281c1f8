"""What is wrong with the text of a pipeline is said with its column."""

from __future__ import annotations

from typing import ClassVar

import attrs
import pytest

from lowtide.errors import PipelineError, UnknownNameError
from lowtide.ir import Graph
from lowtide.passes import (
    Pass,
    PassContext,
    PassOutcome,
    option_types,
    parse_pipeline,
    print_pass,
    print_pipeline,
)
from lowtide.passes.text import option_defaults
from lowtide.plugin import PassSpec, Provider, Registry
from strategies import Everything


def positive(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value < 1:
        raise ValueError(f"{attribute.name} should be positive")


@attrs.frozen(kw_only=True)
class Strict(Pass):
    """Has a required and a checked option."""

    name: ClassVar[str] = "strict"
    times: int = attrs.field(validator=positive)

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        del graph, ctx
        return PassOutcome(changed=False)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setattr("strategies.Strict", Strict, raising=False)
    found = Registry()
    for name, kind in (("everything", "Everything"), ("strict", "Strict")):
        spec = PassSpec(name=name, summary="for tests", implementation=f"strategies:{kind}")
        found.add(spec, Provider("tests", "0", "tests"))
    return found


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("everything;", 11, "unexpected ';'"),
        (",everything", 1, "expected a word, found ','"),
        ("everything everything", 12, "expected a end, found 'everything'"),
        ("everything{flag", 16, "expected a word, found 'the end'"),
        ("everything{flag=}", 17, "expected a word or string, found '}'"),
        ("everything{flga}", 12, "everything has no option flga"),
        ("everything{flag flag}", 17, "the option flag is given twice"),
        ("everything{flag=3}", 17, "expected bool, found '3'"),
        ("everything{count=2.5}", 18, "expected int, found '2.5'"),
        ("everything{share=wide}", 18, "expected float, found 'wide'"),
        ('everything{count="3"}', 18, "expected int, found '3'"),
        ("everything{limit=no}", 18, "expected int or none, found 'no'"),
        ("everything{count}", 12, "expected int, found 'true'"),
        ('everything{label="\\q"}', 18, "is no string"),
        ("strict", 1, "strict needs the option times"),
        ("everything,strict{times=0}", 12, "times should be positive"),
    ],
)
def test_mistakes_are_said_with_their_column(
    registry: Registry, text: str, column: int, message: str
) -> None:
    with pytest.raises(PipelineError, match="LT202") as caught:
        parse_pipeline(text, registry)
    assert message in caught.value.message
    assert caught.value.place == f"pipeline, column {column}"
    assert str(caught.value).endswith(f"\n  {text}\n  {' ' * (column - 1)}^")


def test_an_unknown_option_comes_with_the_nearest_one(registry: Registry) -> None:
    with pytest.raises(PipelineError, match=r"did you mean with-underscore\?"):
        parse_pipeline("everything{with-underscroe}", registry)


def test_an_unknown_pass_comes_with_the_nearest_one(registry: Registry) -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean everything\?"):
        parse_pipeline("everythign", registry)


def test_the_empty_text_is_the_empty_pipeline(registry: Registry) -> None:
    assert parse_pipeline("  ", registry) == ()
    assert print_pipeline(()) == ""


def test_spaces_are_free_and_a_bare_option_is_true(registry: Registry) -> None:
    parsed = parse_pipeline(" everything { flag count = 4 } , everything ", registry)
    assert parsed == (Everything(flag=True, count=4), Everything())
    assert print_pipeline(parsed) == "everything{flag=true count=4},everything"


def test_strings_that_look_like_something_else_are_quoted() -> None:
    passes = [Everything(choice="none"), Everything(either="true"), Everything(size="7")]
    assert print_pipeline(passes) == (
        'everything{choice="none"},everything{either="true"},everything{size="7"}'
    )


def test_the_types_of_options_are_those_of_the_fields() -> None:
    kinds = option_types(Everything)
    assert kinds["limit"] == (int, type(None))
    assert kinds["flag"] == (bool,)
    assert "name" not in kinds


@attrs.frozen(kw_only=True)
class Derived(Everything):
    """Has an option without a default, one that follows from another, and a field that is no option."""

    needed: int
    half: float = attrs.field(default=attrs.Factory(lambda made: made.needed / 2, takes_self=True))
    square: float = attrs.field(init=False, default=attrs.Factory(lambda made: made.half**2, takes_self=True))


def test_a_field_that_nobody_can_set_is_no_option() -> None:
    assert {"needed", "half"} < option_types(Derived).keys()
    assert "square" not in option_types(Derived)
    assert print_pass(Derived(needed=4)) == "everything{needed=4 half=2.0}"


def test_defaults_are_those_that_can_be_written() -> None:
    defaults = option_defaults(Derived)
    assert "needed" not in defaults
    assert {name: defaults[name] for name in ("flag", "limit", "half")} == {
        "flag": "false",
        "limit": "none",
        "half": "(computed)",
    }
