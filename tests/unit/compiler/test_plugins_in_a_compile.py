from __future__ import annotations

import sys
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import attrs
import pytest

import lowtide
from lowtide.compiler.result import CompileResult
from lowtide.compiler.stages import Compilation
from lowtide.encodings import EncodingRequest, Encodings, EncodingSource
from lowtide.errors import LowtideError, OptionError, PluginError
from lowtide.passes import Pass
from lowtide.plugin import (
    EncodingsSpec,
    Provider,
    Registry,
    ReportSectionSpec,
    StrategySpec,
    discover,
    hookimpl,
)
from lowtide.precision import PrecisionPlan, PrecisionProblem, PrecisionStrategy
from lowtide.report import Section, render_report
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
