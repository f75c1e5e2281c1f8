"""What a record names is checked when it is loaded, not in the middle of a compile."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import attrs
import click
import pytest

from lowtide.calibrate import Calibrator, MinMax, NumberFormat, Range, Statistic
from lowtide.errors import DataError, PluginError
from lowtide.plugin import (
    CalibratorSpec,
    CommandSpec,
    Provider,
    Registry,
    Spec,
    StatisticSpec,
    StrategySpec,
    plugin_code,
)
from lowtide.precision import PrecisionPlan, PrecisionProblem, PrecisionStrategy

ACME = Provider("acme", "1", "acme")


class Peaks(MinMax):
    """A statistic without faults."""

    name: ClassVar[str] = "peaks"


@attrs.frozen(kw_only=True)
class Fixed(Calibrator):
    """A calibrator without faults."""

    name: ClassVar[str] = "fixed"
    statistics: ClassVar[tuple[str, ...]] = ("minmax",)

    def range(self, statistics: Mapping[str, Statistic], fmt: NumberFormat) -> Range:
        del statistics, fmt
        return Range(0.0, 1.0)


def load(monkeypatch: pytest.MonkeyPatch, kind: type[Spec], name: str, found: object) -> object:
    monkeypatch.setitem(sys.modules, "acme_parts", cast(Any, SimpleNamespace(Part=found)))
    registry = Registry()
    registry.add(kind(name=name, summary="a part", implementation="acme_parts:Part"), ACME)
    return registry.load(kind, name)


def with_class(base: type, **facts: object) -> type:
    return attrs.frozen(kw_only=True)(type("Part", (base,), facts))


@attrs.frozen(kw_only=True)
class Narrow(PrecisionStrategy):
    """A strategy without faults."""

    name: ClassVar[str] = "narrow"

    def plan(self, problem: PrecisionProblem) -> PrecisionPlan:
        return problem.uniform(8)


@pytest.mark.parametrize("uses", ["goal", ("budget",), ["goal"], None])
def test_a_strategy_uses_options_about_widths_by_their_names(
    monkeypatch: pytest.MonkeyPatch, uses: object
) -> None:
    monkeypatch.setitem(sys.modules, "acme_parts", cast(Any, SimpleNamespace(Part=Narrow)))
    spec = StrategySpec(
        name="narrow", summary="8 bits", implementation="acme_parts:Part", uses=cast(tuple[str, ...], uses)
    )
    with pytest.raises(PluginError, match=r"strategy narrow: uses .* among .*budget_ms, goal, .*; found"):
        spec.load()
    assert attrs.evolve(spec, uses=("goal",)).load() is Narrow


@pytest.mark.parametrize("wants", ["extremes", "array"])
def test_a_statistic_may_want_extremes_or_the_array(monkeypatch: pytest.MonkeyPatch, wants: str) -> None:
    part = type("Part", (Peaks,), {"wants": wants})
    assert load(monkeypatch, StatisticSpec, "peaks", part) is part


@pytest.mark.parametrize("wants", ["arrays", "Array", "", None, ["array"]])
def test_a_statistic_that_wants_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch, wants: object
) -> None:
    with pytest.raises(PluginError) as caught:
        load(monkeypatch, StatisticSpec, "peaks", type("Part", (Peaks,), {"wants": wants}))
    assert str(caught.value).splitlines() == [
        (
            "LT301 statistic peaks: wants in acme_parts:Part should be 'extremes' or 'array', "
            f'found {wants!r} (give the class: wants: ClassVar[Wants] = "extremes")'
        ),
        "  provided by acme 1 (acme)",
    ]


def test_a_statistic_that_does_not_say_what_it_wants_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    methods = {name: getattr(MinMax, name) for name in ("update", "merge", "save")}
    part = type("Part", (Statistic,), {**methods, "load": MinMax.__dict__["load"], "name": "peaks"})
    with pytest.raises(PluginError, match="should be 'extremes' or 'array', found None"):
        load(monkeypatch, StatisticSpec, "peaks", part)


@pytest.mark.parametrize("statistics", ["minmax", ["minmax"], (MinMax,), None])
def test_a_calibrator_whose_statistics_are_no_tuple_of_names_is_refused(
    monkeypatch: pytest.MonkeyPatch, statistics: object
) -> None:
    with pytest.raises(PluginError, match="should be a tuple of names, found") as caught:
        load(monkeypatch, CalibratorSpec, "fixed", with_class(Fixed, statistics=statistics))
    assert caught.value.place == "calibrator fixed"
    assert "provided by acme 1 (acme)" in str(caught.value)


def test_a_calibrator_without_a_list_of_statistics_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    part = with_class(Calibrator, name="fixed", range=Fixed.range)
    with pytest.raises(PluginError, match="should be a tuple of names, found None"):
        load(monkeypatch, CalibratorSpec, "fixed", part)


@pytest.mark.parametrize("name", ["fixd", 3, None])
def test_a_class_with_another_name_than_its_record_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: object
) -> None:
    with pytest.raises(PluginError, match=f"has the name {name!r}, expected 'fixed'"):
        load(monkeypatch, CalibratorSpec, "fixed", with_class(Fixed, name=name))


def test_a_class_without_a_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    part = with_class(Calibrator, statistics=(), range=Fixed.range)
    with pytest.raises(PluginError, match="has the name None, expected 'fixed'"):
        load(monkeypatch, CalibratorSpec, "fixed", part)


def test_a_command_is_a_click_command(monkeypatch: pytest.MonkeyPatch) -> None:
    command = click.Command("join")
    assert load(monkeypatch, CommandSpec, "join", command) is command
    with pytest.raises(PluginError, match=r"acme_parts:Part should be a click\.Command, found <built-in"):
        load(monkeypatch, CommandSpec, "join", print)


def test_who_provides_a_part_is_said_once_where_its_module_asks_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = Registry()
    for name, module in (("outer", "acme_outer"), ("lost", "acme_nowhere")):
        registry.add(CalibratorSpec(name=name, summary="", implementation=f"{module}:Part"), ACME)

    class Asking:
        def __getattr__(self, attribute: str) -> object:
            return registry.load(CalibratorSpec, "lost")

    monkeypatch.setitem(sys.modules, "acme_outer", cast(Any, Asking()))
    with pytest.raises(PluginError) as caught:
        registry.load(CalibratorSpec, "outer")
    assert str(caught.value).splitlines() == [
        "LT301 calibrator lost: acme_nowhere:Part cannot be loaded: No module named 'acme_nowhere'",
        "  provided by acme 1 (acme)",
    ]


def test_what_the_code_of_a_plugin_prints_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with plugin_code("the metric x"):
        print("inside")
        with plugin_code("the metric y"):
            print("further inside")
    print("outside")
    assert capsys.readouterr() == ("outside\n", "inside\nfurther inside\n")


def test_plugins_that_end_in_another_order_than_they_began_leave_standard_output_alone() -> None:
    before, first, second = sys.stdout, plugin_code("the metric x"), plugin_code("the metric y")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert sys.stdout is before


@pytest.mark.parametrize("error", [ZeroDivisionError("by 0"), SystemExit(3), OSError("disk full")])
def test_what_the_code_of_a_plugin_raises_becomes_an_error_that_names_it(error: BaseException) -> None:
    with pytest.raises(PluginError) as caught, plugin_code("the metric x of acme 1 (acme)"):
        raise error
    assert str(caught.value) == (
        f"LT301 the metric x of acme 1 (acme): failed with {type(error).__name__}: {error}"
    )
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [DataError("no label"), KeyboardInterrupt(), OSError("disk full")])
def test_what_a_plugin_raises_on_purpose_and_interruptions_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, plugin_code("the metric x", passing=(OSError,)):
        raise error
    assert caught.value is error
