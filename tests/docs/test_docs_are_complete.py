"""The documentation names every hook with its arguments, and its blocks and links are valid."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import pytest

from lowtide.cli import COMMANDS
from lowtide.plugin import hookspecs
from lowtide.plugin.registry import OBSERVER_HOOKS, REGISTRATION_HOOKS

ROOT = Path(__file__).parents[2]
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
