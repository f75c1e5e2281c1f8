"""Built-in latency models."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import LatencyModelSpec, hookimpl


@hookimpl
def lowtide_register_latency_models() -> Iterable[LatencyModelSpec]:
    """Contribute ``roofline``."""
    return [
        LatencyModelSpec(
            name="roofline",
            summary="the slowest of products, vector unit and memories, and a start for each layer",
            implementation="lowtide_plugins.latency.roofline:Roofline",
        )
    ]
