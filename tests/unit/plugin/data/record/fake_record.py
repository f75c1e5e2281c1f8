"""Returns another record than the hook asks for, after a good one."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import EmitterSpec, MetricSpec, Spec, hookimpl


@hookimpl
def lowtide_register_emitters() -> Iterable[Spec]:
    yield EmitterSpec(name="fake-file", summary="a file", implementation="fake:File")
    yield MetricSpec(name="fake-metric", summary="a metric", implementation="fake:Metric")
