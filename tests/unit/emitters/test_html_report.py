from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import attrs
import pytest

import lowtide
from lowtide.compiler.result import CompileResult
from lowtide.report import report_json
from lowtide_plugins.emitters.html import page
from support import CALIBRATION, MODEL
from unit.report.reports import FULL

DATA = re.compile(r'<script type="application/json" id="report">(.*?)</script>', re.DOTALL)


@pytest.fixture(scope="module")
def compiled() -> CompileResult:
    return lowtide.compile(MODEL, target="am68a", data=str(CALIBRATION), frames=2)


def held(text: str) -> object:
    """The report in a page."""
    found = DATA.search(text)
    assert found
    return json.loads(found[1])


def test_a_compile_writes_the_page_and_the_same_one_can_be_made_from_the_json(
    compiled: CompileResult, tmp_path: Path
) -> None:
    folder = compiled.save(tmp_path / "out")
    written = (folder / "report.html").read_text("utf-8")
    document = (folder / "report.json").read_text("utf-8")
    assert held(written) == json.loads(document)
    assert page(document) == written


def test_no_place_holder_is_left_and_braces_of_a_report_stay(compiled: CompileResult) -> None:
    assert "{{" not in page(report_json(compiled.report, volatile=False))
    odd = attrs.evolve(FULL, sections={"{{title}}": "{{style}} \\1"})
    assert held(page(report_json(odd))) == json.loads(report_json(odd))


def test_the_policy_allows_the_style_and_the_script_of_the_page_and_nothing_else() -> None:
    text = page(report_json(FULL))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == "'none'"
    for name, pattern in (("style-src", r"<style>(.*?)</style>"), ("script-src", r"<script>(.*?)</script>")):
        blocks = re.findall(pattern, text, re.DOTALL)
        assert len(blocks) == 1
        digest = base64.b64encode(hashlib.sha256(blocks[0].encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"


def test_the_page_names_no_other_place() -> None:
    text = page(report_json(FULL))
    assert set(re.findall(r"\b\w+://[^\"'\s]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(", text)


def test_a_name_cannot_end_the_element_that_holds_it() -> None:
    name = "</script><script>alert(1)</script><!--"
    odd = attrs.evolve(FULL, model=attrs.evolve(FULL.model, file=name))
    text = page(report_json(odd))
    assert text.count("<script") == 2
    assert "<title>&lt;/script&gt;" in text
    assert held(text) == json.loads(report_json(odd))
