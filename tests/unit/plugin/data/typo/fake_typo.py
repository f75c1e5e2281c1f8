"""Has a hook whose name does not exist."""

from __future__ import annotations

from lowtide.plugin import hookimpl


@hookimpl
def lowtide_register_calibratos() -> list[object]:
    return []
