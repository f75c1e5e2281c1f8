"""The documentation names every hook with its arguments, and its blocks and links are valid."""

from __future__ import annotations

import inspect
import re
import shutil
import tomllib
from pathlib import Path
from typing import get_args

import attrs
import numpy as np
import pytest

from lowtide import errors
from lowtide.cli import COMMANDS
from lowtide.options import FIELDS, CompileOptions, Effect
from lowtide.passes import PassContext, PassOutcome
from lowtide.plugin import CalibratorSpec, PassSpec, TargetSpec, discover, hookspecs, testing
from lowtide.plugin.registry import OBSERVER_HOOKS, REGISTRATION_HOOKS
from lowtide.report.model import (
    Finding,
    FrontPoint,
    HistogramReport,
    InputReport,
    LayerReport,
    Report,
    SpreadReport,
    StepReport,
)
from lowtide.target import LatencyData, ScaleRule, list_targets
from lowtide.target.documents import REPLACE, TOP_KEYS
from lowtide.target.facts import FACTS
from lowtide.target.model import BiasFormat, Constraint, OperatorKind, OperatorRule, Rung, TuneData
from support import CALIBRATION, MODEL

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for part in ("core", "plugins", "targets") for path in (ROOT / part).rglob("*.py"))
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        matches = re.finditer(rf"```{language}\n(.*?)```", text, re.DOTALL)
        found += [(f"{page.name}:{text.count(chr(10), 0, match.start()) + 1}", match[1]) for match in matches]
    return found


@pytest.mark.parametrize("hook", [*REGISTRATION_HOOKS, *OBSERVER_HOOKS])
def test_every_hook_has_a_heading_with_its_exact_arguments(hook: str) -> None:
    arguments = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    page = (ROOT / "docs" / "plugins.md").read_text("utf-8")
    assert f"### {hook}({arguments})\n" in page


@pytest.mark.parametrize(("place", "text"), blocks("toml"))
def test_toml_blocks_parse(place: str, text: str) -> None:
    assert tomllib.loads(text), place


@pytest.mark.parametrize(("place", "text"), blocks("console"))
def test_console_blocks_use_commands_that_exist(place: str, text: str) -> None:
    for line in text.splitlines():
        for command in re.findall(r"\blowtide ([a-z]+)", line):
            assert command in {*COMMANDS, "demo"}, place


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_option_has_a_row_with_its_default() -> None:
    page = (ROOT / "docs" / "options.md").read_text("utf-8")
    defaults = CompileOptions()
    for field, info in FIELDS.items():
        default = getattr(defaults, field)
        shown = "-" if default is None else "" if default in ((), "", {}) else default
        shown = int(shown) if isinstance(shown, bool) else shown
        mark = " *(vendor)*" if info.effect is Effect.VENDOR_ONLY else ""
        assert f"| `{info.key}` | {shown} | {info.help}{mark} |\n" in page


def test_every_pass_is_described() -> None:
    page = (ROOT / "docs" / "passes.md").read_text("utf-8")
    ours = [spec for spec in discover().all(PassSpec) if spec.implementation.startswith("lowtide_plugins.")]
    for spec in ours:
        assert f"| `{spec.name}` |" in page


def test_every_calibrator_and_device_is_described() -> None:
    registry = discover()
    calibration = (ROOT / "docs" / "calibration.md").read_text("utf-8")
    for calibrator in registry.all(CalibratorSpec):
        if calibrator.implementation.startswith("lowtide_plugins."):
            assert f"| `{calibrator.name}` |" in calibration
    devices = (ROOT / "docs" / "devices.md").read_text("utf-8")
    for target in list_targets(registry):
        if (
            not target.abstract
            and registry.provider(registry.get(TargetSpec, target.name)).distribution == "lowtide"
        ):
            assert f"| `{target.name}`" in devices


def keys(page: Path, heading: str) -> set[str]:
    """What the first column of a section's tables names."""
    section = re.split(r"^## ", page.read_text("utf-8"), flags=re.MULTILINE)
    (text,) = (part for part in section if part.startswith(heading))
    return set(re.findall(r"^\| `([\w-]+)", text, re.MULTILINE))


def fields_of(*kinds: type[attrs.AttrsInstance]) -> set[str]:
    return {field.name for kind in kinds for field in attrs.fields(kind)}


def test_every_key_of_a_device_file_is_described() -> None:
    page = ROOT / "docs" / "device-files.md"
    assert keys(page, "The file") == TOP_KEYS
    assert keys(page, "A scale rule") == fields_of(ScaleRule)
    assert keys(page, "An operator") == fields_of(OperatorRule) | {REPLACE, *FACTS, *get_args(OperatorKind)}
    text = page.read_text("utf-8")
    assert fields_of(Constraint, Rung) <= set(re.findall(r"`(\w+)`", text))
    for name, (kind, meaning) in FACTS.items():
        assert f"| `{name}` | {kind} | {meaning} |\n" in text
    assert keys(page, "Biases") == fields_of(BiasFormat)
    assert keys(page, "What layers cost") == fields_of(LatencyData)
    assert keys(page, "What tuning tries") == fields_of(TuneData)


def test_every_check_for_authors_of_plugins_is_described() -> None:
    text = (ROOT / "docs" / "plugin-tests.md").read_text("utf-8")
    assert sorted(re.findall(r"^\| `(check_\w+)\(", text, re.MULTILINE)) == sorted(testing.__all__)


def test_everything_that_a_pass_gets_and_returns_is_described() -> None:
    named = re.findall(r"`(\w+)`", (ROOT / "docs" / "plugin-passes.md").read_text("utf-8"))
    assert fields_of(PassContext, PassOutcome) <= set(named)


def test_every_error_code_is_listed() -> None:
    page = (ROOT / "docs" / "codes.md").read_text("utf-8")
    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, errors.LowtideError) and name != "LowtideError":
            assert f"| `{error.code}` | `{name}` |" in page


def spoken() -> set[str]:
    """The codes that our sources name, but for that of the abstract error."""
    return {code for path in SOURCES for code in re.findall(r'"(LT\d{3})"', path.read_text("utf-8"))} - {
        "LT000"
    }


def test_every_code_has_a_row_and_every_row_a_code_that_exists() -> None:
    rows = [
        row for page in PAGES for row in re.findall(r"^\| (`LT.*?) \|", page.read_text("utf-8"), re.MULTILINE)
    ]
    assert {code for row in rows for code in re.findall(r"LT\d{3}", row)} == spoken()


def test_codes_are_listed_as_the_kind_that_they_are_told_as() -> None:
    page = (ROOT / "docs" / "codes.md").read_text("utf-8")
    kinds = {"note": "info", "warning": "warning"}
    listed = {
        (code, kinds[kind])
        for row, kind in re.findall(r"^\| (`LT[^|]*) \| (note|warning) \|", page, re.MULTILINE)
        for code in re.findall(r"LT\d{3}", row)
    }
    told = {
        (code, method)
        for path in SOURCES
        for method, code in re.findall(r'\.(info|warning)\(\s*"(LT\d{3})"', path.read_text("utf-8"))
    }
    assert told
    assert told <= listed


def test_every_field_of_the_report_and_of_its_layers_is_described() -> None:
    page = (ROOT / "docs" / "results.md").read_text("utf-8")
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", page, re.MULTILINE)
    described = {name for row in rows for name in re.findall(r"\w+", row)}
    fields = {field.name for model in (Report, LayerReport) for field in attrs.fields(model)}
    assert fields <= described
    parts = (InputReport, HistogramReport, SpreadReport, Finding, StepReport, FrontPoint)
    named = {*re.findall(r"`(\w+)`", page), "seconds"}
    assert {field.name for part in parts for field in attrs.fields(part)} <= named


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=lambda page: page.name)
def test_python_blocks_run_one_after_the_other(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(MODEL, "net.onnx")
    Path("frames").mkdir()
    with np.load(CALIBRATION) as data:
        for index in range(6):
            np.save(f"frames/{index}.npy", data["image"][index])
    names: dict[str, object] = {}
    for block in python_blocks(page):
        exec(compile(block, page.name, "exec"), names)  # noqa: S102 - the documentation is ours
