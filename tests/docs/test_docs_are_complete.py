"""The documentation names every hook with its arguments, and its Python, TOML and console blocks are valid."""

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
        for match in re.finditer(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            found.append((f"{page.name}:{page.read_text('utf-8')[: match.start()].count(chr(10)) + 1}", match[1]))
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
