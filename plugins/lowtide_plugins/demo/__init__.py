"""``lowtide demo``: the main job on a small trained network and real data that come with Lowtide."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import CommandSpec, hookimpl


@hookimpl
def lowtide_register_commands() -> Iterable[CommandSpec]:
    """Contribute ``demo``."""
    return [
        CommandSpec(
            name="demo",
            summary="Compile a small trained network that comes with Lowtide.",
            implementation="lowtide_plugins.demo.command:command",
        )
    ]
