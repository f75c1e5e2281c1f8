"""What the author of a plugin is told, and what a plugin prints, on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import CALIBRATION, MODEL, Run

Install = Callable[[str], None]

HEAD = """
from typing import ClassVar
import attrs
from lowtide.calibrate import Calibrator, Range
from lowtide.passes import Pass, PassOutcome
from lowtide.plugin import *
from lowtide.report import Section

print("imported")
"""
TALKING = """
@attrs.frozen(kw_only=True)
class Talking(Calibrator):
    name: ClassVar[str] = "talking"
    statistics: ClassVar[tuple[str, ...]] = ("minmax",)
    margin: float

    def range(self, statistics, fmt):
        print("range")
        return Range(statistics["minmax"].low, statistics["minmax"].high)

@attrs.frozen(kw_only=True)
class Chatter(Pass):
    name: ClassVar[str] = "chatter"

    def run(self, graph, ctx):
        print("pass")
        return PassOutcome(changed=False)

@attrs.frozen
class Aloud(Section):
    title: str = "aloud"

    def text(self, compilation):
        print("section")
        return "text"

@hookimpl
def lowtide_register_calibrators():
    print("register")
    return [CalibratorSpec(name="talking", summary="s", implementation="acme_author:Talking")]

@hookimpl
def lowtide_register_passes():
    return [PassSpec(name="chatter", summary="s", implementation="acme_author:Chatter")]

@hookimpl
def lowtide_register_report_sections():
    return [ReportSectionSpec(name="aloud", summary="s", implementation="acme_author:Aloud")]

@hookimpl
def lowtide_compile_finished(result):
    print("finished")
"""
COMMAND = """
@hookimpl
def lowtide_register_commands():
    return [CommandSpec(name="compile", summary="s", implementation="acme_author:command")]
"""
COMPARISON = """
from lowtide.difference import Comparison

@attrs.frozen
class Lost(Comparison):
    def differences(self, first, second):
        raise KeyError("ranges")

@hookimpl
def lowtide_register_comparisons():
    found = ComparisonSpec(name="lost", summary="s", implementation="acme_author:Lost", suffixes=(".acme",))
    return [found]
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a distribution whose plugin has a text of one's own."""

    def put(text: str) -> None:
        site = tmp_path / "site"
        info = site / "acme-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n", "utf-8")
        (info / "entry_points.txt").write_text("[lowtide.v1]\nacme = acme_author\n", "utf-8")
        (site / "acme_author.py").write_text(HEAD + text, "utf-8")
        monkeypatch.syspath_prepend(str(site))

    yield put
    sys.modules.pop("acme_author", None)


def arguments(*more: object) -> list[object]:
    few = ["--data", CALIBRATION, "--frames", 4, "--no-cache", "--set", "recipe=use calibrator minmax"]
    return ["compile", MODEL, "--target", "generic", *few, *more]


def test_what_the_code_of_a_plugin_prints_does_not_get_into_the_json(run: Run, install: Install) -> None:
    install(TALKING)
    chosen = ["--calibrator", "talking{margin=1}", "--set", "prepare=chatter,fuse-layers"]
    outcome = run(*arguments(*chosen, "--json"))
    assert outcome.status == 0, outcome.err
    assert outcome.json["sections"] == {"aloud": "text"}
    for said in ("imported", "register", "range", "pass", "section", "finished"):
        assert f"{said}\n" in outcome.err


def test_a_plugin_that_does_not_load_is_told_of_once_and_the_compile_goes_on(
    run: Run, install: Install
) -> None:
    install('raise ImportError("the driver\\nis missing")')
    outcome = run(*arguments("--json"))
    assert outcome.status == 0, outcome.err
    (found,) = (entry for entry in outcome.json["diagnostics"] if entry["code"] == "LT351")
    assert found == {
        "severity": "warning",
        "code": "LT351",
        "place": "plugin acme 1 (acme)",
        "message": "it is not loaded: ImportError: the driver is missing",
        "hint": "see `lowtide plugins`; --disable-plugin acme does without it",
    }
    assert "LT351" not in run("--disable-plugin", "acme", *arguments("--force")).out


def test_a_plugin_that_does_not_load_is_an_error_where_something_of_it_is_asked_for(
    run: Run, install: Install
) -> None:
    install('raise ImportError("the driver is missing")')
    outcome = run(*arguments("--calibrator", "acme-range"))
    assert outcome.status == 2
    assert (
        "acme 1 (acme) is broken and may have provided it: ImportError: the driver is missing" in outcome.err
    )


def test_a_command_of_a_plugin_that_lowtide_has_is_refused(run: Run, install: Install) -> None:
    install(COMMAND)
    outcome = run("plugins")
    assert outcome.status == 2
    assert outcome.err == (
        "imported\n"
        "error: LT302 command compile: lowtide and acme 1 (acme) both provide the command 'compile' "
        "(uninstall acme or use --disable-plugin acme)\n"
    )
    assert run("--disable-plugin", "acme", "plugins").status == 0


def test_a_calibrator_without_an_option_that_it_needs_says_how_to_write_it(
    run: Run, install: Install
) -> None:
    install(TALKING)
    outcome = run(*arguments("--calibrator", "talking"))
    assert outcome.status == 2
    assert "talking needs the option margin (write talking{margin=VALUE})" in outcome.err
    assert "margin   float   (required)" in run("calibrators", "talking").out


def test_a_comparison_that_fails_is_named(run: Run, install: Install, tmp_path: Path) -> None:
    install(COMPARISON)
    (tmp_path / "one.acme").touch()
    outcome = run("diff", "one.acme", "one.acme")
    assert outcome.status == 2
    assert "LT301 the comparison lost of acme 1 (acme): failed with KeyError: 'ranges'" in outcome.err


@pytest.mark.parametrize("name", ["sqnr", "top1"])
def test_what_a_metric_counts_is_not_listed_as_its_options(run: Run, name: str) -> None:
    text = run("metrics", name).out
    assert "option" not in text
    assert "Factory" not in text
