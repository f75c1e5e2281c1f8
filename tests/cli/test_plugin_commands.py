"""A command of a plugin is named when it fails, and ends as it likes otherwise."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import Run

PLUGIN = """
from lowtide.plugin import CommandSpec, hookimpl

@hookimpl
def lowtide_register_commands():
    names = ("fails", "refuses", "misses", "plain")
    return [CommandSpec(name=name, summary="s", implementation=f"acme_parts:{name}") for name in names]
"""
PARTS = """
import click
from lowtide.errors import DataError

@click.command()
def fails():
    raise KeyError("frame")

@click.command()
def refuses():
    raise DataError("no frame", place="frames")

@click.command()
@click.pass_context
def misses(ctx):
    ctx.exit(1)

def plain():
    pass
"""


@pytest.fixture(autouse=True)
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution with commands."""
    site = tmp_path / "site"
    info = site / "acme-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n", "utf-8")
    (info / "entry_points.txt").write_text("[lowtide.v1]\nacme = acme_commands\n", "utf-8")
    (site / "acme_commands.py").write_text(PLUGIN, "utf-8")
    (site / "acme_parts.py").write_text(PARTS, "utf-8")
    monkeypatch.syspath_prepend(str(site))
    yield
    for name in ("acme_commands", "acme_parts"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("fails", 2, "error: LT301 the command fails of acme 1 (acme): failed with KeyError: 'frame'"),
        ("refuses", 2, "error: LT701 frames: no frame"),
        ("misses", 1, ""),
        ("plain", 2, "error: LT301 command plain: acme_parts:plain should be a click.Command, found "),
    ],
)
def test_how_a_command_of_a_plugin_ends(run: Run, command: str, status: int, message: str) -> None:
    outcome = run(command)
    assert outcome.status == status
    assert outcome.err.startswith(message)
    assert "Traceback" not in outcome.err
