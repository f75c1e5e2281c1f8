"""What every command has: two consoles and the plugins; imported for ``--help`` too, so it is light."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lowtide.cli import COMMANDS
from lowtide.plugin import CommandSpec, Registry, discover
from lowtide.plugin.registry import DISTRIBUTION

if TYPE_CHECKING:
    from rich.console import Console


def stdout() -> Console:
    """Where results go; colours only on a terminal and not with NO_COLOR."""
    from rich.console import Console  # noqa: PLC0415 - costs time that `--help` does not have

    return Console(emoji=False)


def stderr() -> Console:
    """Where everything else goes."""
    from rich.console import Console  # noqa: PLC0415 - costs time that `--help` does not have

    return Console(stderr=True, emoji=False)


def registry_of(ctx: click.Context) -> Registry:
    """The plugins, found once a command line.

    Raises:
        PluginConflictError: when two provide the same, or one has a command that Lowtide has.
    """
    root = ctx.find_root()
    settings: dict[str, Any] = root.obj or {}
    if "registry" not in settings:
        found = discover(disabled=settings.get("disabled", ()), strict=bool(settings.get("strict")))
        for spec in found.all(CommandSpec):
            if spec.name in COMMANDS:
                raise found.conflict(spec.kind, spec.name, DISTRIBUTION, found.provider(spec))
        settings["registry"] = found
        root.obj = settings
    registry: Registry = settings["registry"]
    return registry
