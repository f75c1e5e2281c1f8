"""Its hook fails."""

from __future__ import annotations

from lowtide.plugin import PassSpec, hookimpl


@hookimpl
def lowtide_register_passes() -> list[PassSpec]:
    return [PassSpec(name="Not A Name", summary="", implementation="fake:Pass")]


@hookimpl
def lowtide_register_metrics() -> list[object]:
    raise ZeroDivisionError
