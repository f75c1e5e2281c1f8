"""Its hook returns no iterable."""

from __future__ import annotations

from lowtide.plugin import hookimpl


@hookimpl
def lowtide_register_metrics() -> int:
    return 3
