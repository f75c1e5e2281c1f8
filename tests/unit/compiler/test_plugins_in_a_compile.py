from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import attrs
import pytest

import lowtide
from lowtide.compiler.result import CompileResult
from lowtide.compiler.stages import Compilation
from lowtide.diagnosis import Cause, Diagnosis, DiagnosisView
from lowtide.encodings import EncodingRequest, Encodings, EncodingSource
from lowtide.errors import LowtideError, OptionError, PluginError, UnknownNameError
from lowtide.passes import Pass
from lowtide.plugin import (
    DiagnosisSpec,
    EncodingsSpec,
    Provider,
    Registry,
    ReportSectionSpec,
    StrategySpec,
    TargetSpec,
    discover,
    hookimpl,
)
from lowtide.precision import PrecisionPlan, PrecisionProblem, PrecisionStrategy
from lowtide.report import Section, render_report
from lowtide.report.model import Finding
from support import CALIBRATION, MODEL

PROVIDER = Provider("test", "1", "test")


@attrs.frozen
class Widest(Section):
    """Names the tensor with the widest range."""

    title: str = "widest range"

    def text(self, compilation: Compilation) -> str:
        return max(compilation.ranges, key=lambda name: compilation.ranges[name].max)


def registry_with(plugin: Any) -> Registry:
    registry = discover()
    registry.add_plugin(plugin, PROVIDER)
    return registry


def compiled(registry: Registry, **more: Any) -> CompileResult:
    # Passes that are tried and dropped are heard of too, but not in the report.
    options = {"recipe": "use calibrator minmax; use weights correct-bias"}
    return lowtide.compile(
        MODEL, target="generic", data=str(CALIBRATION), frames=4, registry=registry, options=options, **more
    )


def test_a_plugin_adds_a_section_to_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plugin:
        @hookimpl
        def lowtide_register_report_sections(self) -> Iterable[ReportSectionSpec]:
            return [ReportSectionSpec(name="widest", summary="s", implementation="widest_section:Widest")]

    monkeypatch.setitem(sys.modules, "widest_section", cast(Any, SimpleNamespace(Widest=Widest)))
    report = compiled(registry_with(Plugin())).report
    assert list(report.sections) == ["widest range"]
    assert render_report(report)


@attrs.frozen(kw_only=True)
class Budgeted(PrecisionStrategy):
    """Tells what budget it has got."""

    name: ClassVar[str] = "budgeted"

    def plan(self, problem: PrecisionProblem) -> PrecisionPlan:
        assert problem.budget is not None
        group = problem.classes[-1]
        raised = problem.uniform(8).with_class(problem, group, 16)
        return attrs.evolve(raised, reasons={group.name: f"16 bit within {problem.budget.text}"})


def test_a_strategy_of_a_plugin_gets_the_options_that_its_record_names_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Plugin:
        @hookimpl
        def lowtide_register_strategies(self) -> Iterable[StrategySpec]:
            where = "acme_strategies:Budgeted"
            return [StrategySpec(name="budgeted", summary="s", implementation=where, uses=("budget_ms",))]

    monkeypatch.setitem(sys.modules, "acme_strategies", cast(Any, SimpleNamespace(Budgeted=Budgeted)))
    registry = registry_with(Plugin())

    def compiled_with(**option: object) -> CompileResult:
        options = {"strategy": "budgeted", "accuracy_level": 0, **option}
        data = str(CALIBRATION)
        return lowtide.compile(
            MODEL, target="tda4vm", data=data, frames=4, registry=registry, options=options
        )

    reasons = {layer.width_reason for layer in compiled_with(budget_ms=30).report.layers}
    assert "16 bit within 30 ms" in reasons
    refusal = r"factor .*the strategy budgeted of test 1 \(test\) does not use this option"
    with pytest.raises(OptionError, match=refusal):
        compiled_with(mixed_precision_factor=1.2)


def test_observers_hear_of_every_pass_and_of_the_end() -> None:
    heard: list[str] = []

    class Observer:
        @hookimpl
        def lowtide_pass_finished(self, item: Pass) -> None:
            heard.append(item.name)

        @hookimpl
        def lowtide_compile_finished(self, result: CompileResult) -> None:
            heard.append(result.target.name)

    result = compiled(registry_with(Observer()))
    assert heard == [item.text.partition("{")[0] for item in result.report.passes] + ["generic"]


def test_an_observer_that_fails_is_named() -> None:
    class Observer:
        @hookimpl
        def lowtide_compile_finished(self) -> None:
            raise RuntimeError("disk full")

    with pytest.raises(LowtideError, match="disk full"):
        compiled(registry_with(Observer()))


def test_every_pass_can_be_watched() -> None:
    seen: list[str] = []
    result = compiled(discover(), after_pass=lambda item, graph: seen.append(f"{item} {len(graph) > 0}"))
    assert seen == [f"{item.text} True" for item in result.report.passes]


@attrs.frozen(kw_only=True)
class Lost(EncodingSource):
    """Looks for what is not there."""

    name: ClassVar[str] = "lost"

    def read(self, request: EncodingRequest) -> Encodings | None:
        del request
        raise KeyError("ranges")


def test_a_source_of_encodings_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plugin:
        @hookimpl
        def lowtide_register_encodings(self) -> Iterable[EncodingsSpec]:
            return [EncodingsSpec(name="lost", summary="s", implementation="lost_source:Lost")]

    monkeypatch.setitem(sys.modules, "lost_source", cast(Any, SimpleNamespace(Lost=Lost)))
    with pytest.raises(PluginError, match="failed with KeyError") as caught:
        compiled(registry_with(Plugin()))
    assert caught.value.place == "the encoding lost of test 1 (test)"


def test_plugins_that_are_not_loaded_are_told_of_in_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = discover()
    monkeypatch.setitem(registry.broken, PROVIDER, "ImportError: no\n  driver")
    monkeypatch.setitem(
        registry.unfit, Provider("old", "9", "old"), "made for lowtide.v2, this is lowtide.v1"
    )
    notes = [entry for entry in compiled(registry).report.diagnostics if entry.code == "LT351"]
    assert [(entry.place, entry.message) for entry in notes] == [
        ("plugin test 1 (test)", "it is not loaded: ImportError: no driver"),
        ("plugin old 9 (old)", "it is not loaded: made for lowtide.v2, this is lowtide.v1"),
    ]


@attrs.frozen
class Numbers(Section):
    """Is no text."""

    def text(self, compilation: Compilation) -> str:
        return cast(str, len(compilation.ranges))


def test_a_section_that_is_no_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plugin:
        @hookimpl
        def lowtide_register_report_sections(self) -> Iterable[ReportSectionSpec]:
            return [ReportSectionSpec(name="numbers", summary="s", implementation="numbers_section:Numbers")]

    monkeypatch.setitem(sys.modules, "numbers_section", cast(Any, SimpleNamespace(Numbers=Numbers)))
    with pytest.raises(PluginError, match="text should return text, found"):
        compiled(registry_with(Plugin()))


@attrs.frozen(kw_only=True)
class Helpless(Diagnosis):
    """Advises an option that does not exist."""

    name: ClassVar[str] = "helpless"
    causes: ClassVar[tuple[Cause, ...]] = (Cause("LT999", "too loud", "always"),)

    def find(self, view: DiagnosisView) -> Iterable[Finding]:
        yield self.causes[0].finding(next(iter(view.layers)), "100 dB", "louder=1")


def test_a_remedy_that_cannot_be_set_is_blamed_on_the_diagnosis(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plugin:
        @hookimpl
        def lowtide_register_diagnoses(self) -> Iterable[DiagnosisSpec]:
            return [DiagnosisSpec(name="helpless", summary="s", implementation="helpless_causes:Helpless")]

    monkeypatch.setitem(sys.modules, "helpless_causes", cast(Any, SimpleNamespace(Helpless=Helpless)))
    with pytest.raises(PluginError, match=r"the remedy 'louder=1' cannot be set: .*unknown option") as caught:
        compiled(registry_with(Plugin()))
    assert caught.value.place == "the diagnosis helpless of test 1 (test)"


@pytest.mark.parametrize(
    ("device", "options", "where"),
    [
        (
            'recipes = { "1" = ["use calibrator minmx"] }',
            {},
            "in stage calibrator of target acme-box: recipes.1",
        ),
        (
            'recipes = { "1" = ["use calibrator minmax", "try weights corect-bias"] }',
            {},
            "in stage weights of target acme-box: recipes.1",
        ),
        ('prepare = "fold-batch-nrm"', {}, "in target acme-box: prepare"),
        ("", {"weights": "corect-bias"}, "in the option weights"),
        ("", {"calibrator": "minmx"}, "in the option calibrator"),
        ("", {"prepare": "fold-batch-nrm"}, "in the option prepare"),
    ],
)
def test_an_unknown_name_says_which_device_or_option_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, options: dict[str, object], where: str
) -> None:
    (tmp_path / "acme_box").mkdir()
    (tmp_path / "acme_box" / "box.toml").write_text(
        f'schema = 1\nname = "acme-box"\ntitle = "Box"\nsummary = "a box"\nextends = "am68a"\n{device}',
        "utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = discover()
    registry.add(TargetSpec(name="acme-box", summary="a box", implementation="acme_box:box.toml"), PROVIDER)
    with pytest.raises(UnknownNameError, match="did you mean") as caught:
        lowtide.compile(
            MODEL, target="acme-box", data=str(CALIBRATION), frames=4, registry=registry, options=options
        )
    assert str(caught.value).endswith(f"\n  {where}")
