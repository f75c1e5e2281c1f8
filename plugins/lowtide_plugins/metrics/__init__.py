"""Built-in metrics."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import MetricSpec, hookimpl


@hookimpl
def lowtide_register_metrics() -> Iterable[MetricSpec]:
    """Contribute classification accuracy and signal-to-noise figures."""
    module = "lowtide_plugins.metrics"
    return [
        MetricSpec(
            name="top1",
            summary="share of frames whose label has the highest score",
            implementation=f"{module}.accuracy:Top1",
        ),
        MetricSpec(
            name="top5",
            summary="share of frames whose label is among the five highest scores",
            implementation=f"{module}.accuracy:Top5",
        ),
        MetricSpec(
            name="agreement",
            summary="share of frames where the highest score is that of the float network; needs no labels",
            implementation=f"{module}.accuracy:Agreement",
        ),
        MetricSpec(
            name="sqnr",
            summary="10 log10(signal / noise) over all outputs against the float network, in dB",
            implementation=f"{module}.signal:Sqnr",
        ),
    ]
