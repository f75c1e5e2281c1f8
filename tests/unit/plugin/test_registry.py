"""Records are checked when they are made, and taken in all or not at all."""

from __future__ import annotations

import pytest

from lowtide.errors import PluginConflictError, PluginError, UnknownNameError
from lowtide.plugin import (
    SPEC_KINDS,
    CalibratorSpec,
    EmitterSpec,
    Provider,
    Registry,
    StrategySpec,
    TargetSpec,
    hookimpl,
)
from lowtide.plugin.registry import HOOK_KINDS, REGISTRATION_HOOKS

ACME, OTHER = Provider("acme", "1", "acme"), Provider("other", "2", "other")


def target(name: str, *aliases: str) -> TargetSpec:
    return TargetSpec(name=name, summary="a device", implementation="acme:device.toml", aliases=aliases)


@pytest.mark.parametrize("name", ["", "Upper", "with space", "-dash", "9lives", "ünicode"])
def test_a_malformed_name_is_refused(name: str) -> None:
    with pytest.raises(PluginError, match="name should be lower-case letters"):
        EmitterSpec(name=name, summary="", implementation="acme:Emitter")


@pytest.mark.parametrize("reference", ["", "acme", "acme.module", "acme:", ":Emitter", "acme module:Emitter"])
def test_a_malformed_reference_is_refused(reference: str) -> None:
    with pytest.raises(PluginError, match=r"should read 'package\.module:attribute'"):
        EmitterSpec(name="acme", summary="", implementation=reference)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (target("one"), target("one")),
        (target("one", "alias"), target("two", "alias")),
        (target("one", "two"), target("two")),
        (target("one"), target("two", "one")),
    ],
)
def test_names_and_aliases_of_targets_share_one_space(first: TargetSpec, second: TargetSpec) -> None:
    registry = Registry()
    registry.add(first, ACME)
    with pytest.raises(PluginConflictError, match=r"acme 1 \(acme\) and other 2 \(other\) both provide"):
        registry.add(second, OTHER)
    assert registry.all(TargetSpec) == (first,)


def conflict(first: Provider, second: Provider, *others: Provider) -> str:
    registry = Registry(providers=[first, *others])
    registry.add(target("one"), first)
    with pytest.raises(PluginConflictError) as caught:
        registry.add(target("one"), second)
    return caught.value.hint


def test_a_conflict_advises_to_do_without_the_newcomer() -> None:
    assert conflict(ACME, OTHER) == "uninstall other or use --disable-plugin other"


@pytest.mark.parametrize("others", [(), (ACME,)])
def test_a_plugin_whose_entry_point_has_the_name_of_another_is_not_to_be_disabled(
    others: tuple[Provider, ...],
) -> None:
    first = Provider("first", "1", "first") if others else ACME
    assert conflict(first, Provider("other", "2", "acme"), *others) == "uninstall other"


@pytest.mark.parametrize("second", [target("one"), target("two", "one")])
def test_a_plugin_that_lists_a_name_twice_is_told_so(second: TargetSpec) -> None:
    registry = Registry()
    registry.add(target("one"), ACME)
    with pytest.raises(PluginError) as caught:
        registry.add(second, ACME)
    assert not isinstance(caught.value, PluginConflictError)
    assert str(caught.value) == ("LT301 acme 1 (acme): lists the target 'one' twice (leave one of them out)")


def test_a_hook_that_does_not_exist_comes_with_the_nearest_names() -> None:
    class Plugin:
        @hookimpl
        def lowtide_register_calibratos(self) -> list[object]:
            return []

    with pytest.raises(PluginError) as caught:
        Registry().add_plugin(Plugin(), ACME)
    assert str(caught.value).startswith(
        "LT301 acme 1 (acme): there is no hook lowtide_register_calibratos "
        "(did you mean lowtide_register_calibrators"
    )


def test_a_hook_that_may_be_missing_is_no_mistake() -> None:
    class Plugin:
        @hookimpl(optionalhook=True)
        def lowtide_register_tomorrow(self) -> list[object]:
            return []

    registry = Registry()
    registry.add_plugin(Plugin(), ACME)
    assert registry.providers == [ACME]


def test_different_kinds_may_have_the_same_name() -> None:
    registry = Registry()
    calibrator = CalibratorSpec(name="best", summary="", implementation="acme:A")
    strategy = StrategySpec(name="best", summary="", implementation="acme:B")
    registry.add(calibrator, ACME)
    registry.add(strategy, OTHER)
    assert registry.get(CalibratorSpec, "best") is calibrator
    assert registry.provider(strategy) == OTHER


def test_without_any_contribution_the_hint_says_so() -> None:
    with pytest.raises(UnknownNameError, match="none is known"):
        Registry().get(StrategySpec, "best")


def test_a_plugin_cannot_be_added_twice() -> None:
    class Observer:
        @hookimpl
        def lowtide_compile_finished(self, result: object) -> None:
            del result

    registry, observer = Registry(), Observer()
    registry.add_plugin(observer, ACME)
    with pytest.raises(PluginError, match="registered already"):
        registry.add_plugin(observer, OTHER)
    assert registry.providers == [ACME]


def test_a_conflict_takes_nothing_of_the_second_plugin() -> None:
    class Plugin:
        def __init__(self, *names: str) -> None:
            self.names = names

        @hookimpl
        def lowtide_register_targets(self) -> list[TargetSpec]:
            return [target(name) for name in self.names]

    registry = Registry()
    registry.add_plugin(Plugin("shared"), ACME)
    with pytest.raises(PluginConflictError):
        registry.add_plugin(Plugin("fresh", "shared"), OTHER)
    assert [spec.name for spec in registry.all(TargetSpec)] == ["shared"]
    assert registry.providers == [ACME]


def test_every_kind_has_its_hook() -> None:
    assert tuple(HOOK_KINDS) == REGISTRATION_HOOKS
    for hook, kind in HOOK_KINDS.items():
        noun = "strategies" if kind is StrategySpec else f"{kind.kind.replace('-', '_')}s"
        assert hook == f"lowtide_register_{noun.replace('passs', 'passes').replace('siss', 'ses')}"
    assert set(SPEC_KINDS.values()) == set(HOOK_KINDS.values())
