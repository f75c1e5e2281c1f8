"""Ranking, parts of the noise, what plugins may say, and the closed list."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest

import lowtide
from lowtide.compiler.diagnose import view_of
from lowtide.compiler.stages import Compilation
from lowtide.diagnosis import Cause, Diagnosis, DiagnosisView, rank, remedy_options
from lowtide.errors import OptionError, PluginError
from lowtide.measure import ErrorSum, LayerError
from lowtide.plugin import DiagnosisSpec, Provider, discover, hookimpl
from lowtide.plugin.testing import check_diagnosis
from lowtide.report.model import Finding
from support import CALIBRATION, MODEL
from unit.diagnosis.networks import DIGITS, REGISTRY, Builder, demo, diagnosed

ROOT = Path(__file__).parents[3]
LOUD = Cause("LT999", "too loud", "always")


def error(layer: str, noise: float) -> LayerError:
    return LayerError(layer, ErrorSum(signal=1.0, noise=noise), ErrorSum(signal=1.0, noise=noise))


@pytest.fixture(scope="module")
def compilation(tmp_path_factory: pytest.TempPathFactory) -> Compilation:
    return diagnosed(demo(), tmp_path_factory.mktemp("demo"), DIGITS, "tda4vm").compilation


def test_the_worst_layers_are_those_that_make_nine_tenths_of_the_noise() -> None:
    found = rank([error("a", 0.5), error("b", 0.02), error("c", 0.3), error("d", 0.01)])
    assert [cost.layer for cost in found] == ["a", "c"]
    assert found[0].share == pytest.approx(0.5 / 0.83)


def test_a_layer_with_40_db_is_none_of_the_worst_and_there_are_at_most_eight() -> None:
    assert rank([error("a", 1e-4), error("b", 5e-5)]) == ()
    assert len(rank([error(str(number), 0.1) for number in range(20)])) == 8


def test_parts_of_the_noise_are_those_of_the_layer_with_nothing_else_as_codes(tmp_path: Path) -> None:
    net = Builder()
    net.conv("y", net.node("Relu", "a", net.conv("c", "x", (8, 4), kernel=3, scale=30.0)), (4, 8), kernel=3)
    made = diagnosed(net.model("y"), tmp_path, net.frames(), "am68a").compilation
    view = view_of(made)
    parts = view.parts["y"]
    assert parts.total == made.measurement.layers[-1].isolated.noise  # type: ignore[union-attr]
    # Independent roundings add up.
    total = parts.inputs + parts.weights + parts.clipping + parts.rounding
    assert total == pytest.approx(parts.total, rel=0.25)
    scale = view.layers["y"].output.type.quant.scale[0]  # type: ignore[union-attr]
    elements = view.frames * 4 * 12 * 12
    assert parts.rounding == pytest.approx(elements * scale**2 / 12, rel=0.1)


def test_findings_are_in_the_report_and_two_compiles_find_the_same() -> None:
    first, second = (
        lowtide.compile(
            MODEL, target="tda4vm", data=str(CALIBRATION), frames=16, options={"accuracy_level": 0}
        )
        for _ in range(2)
    )
    assert first.report.findings == second.report.findings
    assert first.report.findings[0].layer == "block2/depthwise/relu6"


@pytest.mark.parametrize("name", ["ranges", "weights", "functions", "guidelines"])
def test_the_built_in_diagnoses_keep_the_contract(name: str, compilation: Compilation) -> None:
    check_diagnosis(REGISTRY.load(DiagnosisSpec, name), compilation)


@attrs.frozen(kw_only=True)
class Loud(Diagnosis):
    """Says what the test tells it to."""

    name: ClassVar[str] = "loud"
    causes: ClassVar[tuple[Cause, ...]] = (LOUD,)
    said: ClassVar[Callable[[DiagnosisView], Iterable[object]]]

    def find(self, view: DiagnosisView) -> Iterable[Finding]:
        return type(self).said(view)  # type: ignore[return-value]


GOOD = LOUD.finding("stem/relu6", "100 dB", "tensor_bits=16")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("quiet", "should return findings"),
        (attrs.evolve(GOOD, code="LT998"), "not on its list"),
        (attrs.evolve(GOOD, cause="too quiet"), "not on its list"),
        (attrs.evolve(GOOD, layer="stemm"), "a layer that the network does not have"),
        (attrs.evolve(GOOD, evidence=""), "without evidence"),
        (attrs.evolve(GOOD, remedy=""), "without evidence or without remedy"),
        (attrs.evolve(GOOD, remedy="louder=1"), "cannot be set"),
        (attrs.evolve(GOOD, remedy="turn it down"), "cannot be set"),
    ],
)
def test_what_is_no_finding_of_the_diagnosis_is_refused(
    said: object, message: str, compilation: Compilation
) -> None:
    Loud.said = staticmethod(lambda _: [said])
    with pytest.raises(PluginError, match=message):
        check_diagnosis(Loud, compilation)


def test_a_diagnosis_that_finds_something_else_each_time_is_refused(compilation: Compilation) -> None:
    numbers = iter(range(9))
    Loud.said = staticmethod(lambda _: [attrs.evolve(GOOD, evidence=str(next(numbers)))])
    with pytest.raises(PluginError, match="the second time"):
        check_diagnosis(Loud, compilation)


def test_a_diagnosis_that_changes_the_network_is_refused(tmp_path: Path) -> None:
    net = Builder()
    net.conv("y", "x", (4, 4))
    made = diagnosed(net.model("y"), tmp_path, net.frames(), "am68a").compilation

    def change(view: DiagnosisView) -> Iterable[object]:
        view.graph.rename(view.graph.outputs[0], view.graph.fresh_name("y"))
        return []

    Loud.said = staticmethod(change)
    with pytest.raises(PluginError, match="changes the network"):
        check_diagnosis(Loud, made)


class Plugin:
    @staticmethod
    @hookimpl
    def lowtide_register_diagnoses() -> Iterable[DiagnosisSpec]:
        return [DiagnosisSpec(name="loud", summary="test", implementation=f"{__name__}:Loud")]


def test_a_plugin_s_findings_are_in_the_report_and_its_failure_names_it() -> None:
    registry = discover()
    registry.add_plugin(Plugin(), Provider("acme", "1", "loud"))
    Loud.said = staticmethod(lambda _: [GOOD])
    net: dict[str, Any] = {"target": "am68a", "data": str(CALIBRATION), "frames": 4, "registry": registry}
    assert GOOD in lowtide.compile(MODEL, **net).report.findings

    def fail(view: DiagnosisView) -> Iterable[object]:
        raise ZeroDivisionError(view.frames)

    Loud.said = staticmethod(fail)
    with pytest.raises(PluginError, match=r"the diagnosis loud of acme 1 \(loud\).*ZeroDivisionError"):
        lowtide.compile(MODEL, **net)


def test_remedies_join_lists_and_leave_the_first_of_other_options() -> None:
    def remedy(text: str) -> Finding:
        return attrs.evolve(GOOD, remedy=text)

    key = "advanced_options:params_16bit_names_list"
    found = remedy_options(map(remedy, [f"{key}=a", "calibrator=mse", f"{key}=a,b;c", "calibrator=minmax"]))
    assert found == {key: ("a", "b;c"), "calibrator": "mse"}
    with pytest.raises(OptionError, match="KEY=VALUE"):
        remedy_options([remedy("calibrate better")])


def test_every_cause_has_a_code_of_its_own_and_a_row_in_the_docs() -> None:
    page = (ROOT / "docs" / "diagnosis.md").read_text("utf-8")
    rows = re.findall(r"^\| `(LT\d{3})` \| ([^|]+) \| ([^|]+) \|", page, re.MULTILINE)
    causes = [
        cause
        for spec in REGISTRY.all(DiagnosisSpec)
        for cause in REGISTRY.load(DiagnosisSpec, spec.name).causes
    ]
    assert len({cause.code for cause in causes}) == len(causes)
    assert sorted(rows) == sorted((cause.code, cause.text, cause.threshold) for cause in causes)


def test_nothing_is_diagnosed_without_frames_or_without_codes(tmp_path: Path) -> None:
    net = Builder()
    net.conv("y", "x", (4, 4))
    frames = net.frames()
    assert diagnosed(net.model("y"), tmp_path, frames, "am68a", {"tensor_bits": 32}).findings == ()
    assert np.isfinite(frames).all()
