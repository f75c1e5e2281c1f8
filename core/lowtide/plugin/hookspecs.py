"""The hooks of API version 1. Registration hooks return records; nothing is chosen by order.

A plugin is a module or object named by an entry point in the group ``lowtide.v1``::

    [project.entry-points."lowtide.v1"]
    acme = "acme_lowtide"
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from lowtide.compiler.result import CompileResult
    from lowtide.ir import Graph
    from lowtide.passes.base import Pass, PassOutcome
    from lowtide.plugin.specs import (
        CalibratorSpec,
        CommandSpec,
        ComparisonSpec,
        DiagnosisSpec,
        EmitterSpec,
        EncodingsSpec,
        FrontendSpec,
        LatencyModelSpec,
        MetricSpec,
        PassSpec,
        ReportSectionSpec,
        StatisticSpec,
        StrategySpec,
        TargetSpec,
    )

# The hooks have no bodies, which mypy is told line by line: pluggy calls the implementations only.
PROJECT = "lowtide"
GROUP = "lowtide.v1"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def lowtide_register_frontends() -> Iterable[FrontendSpec]:  # type: ignore[empty-body]
    """Model formats that can be read."""


@hookspec
def lowtide_register_statistics() -> Iterable[StatisticSpec]:  # type: ignore[empty-body]
    """Accumulators over activations, for calibrators to ask for."""


@hookspec
def lowtide_register_calibrators() -> Iterable[CalibratorSpec]:  # type: ignore[empty-body]
    """Ways from statistics to a range."""


@hookspec
def lowtide_register_encodings() -> Iterable[EncodingsSpec]:  # type: ignore[empty-body]
    """Sources of ranges, scales, biases and widths that are known before calibration."""


@hookspec
def lowtide_register_strategies() -> Iterable[StrategySpec]:  # type: ignore[empty-body]
    """Ways to assign 8 and 16 bits."""


@hookspec
def lowtide_register_passes() -> Iterable[PassSpec]:  # type: ignore[empty-body]
    """Graph passes for pipelines."""


@hookspec
def lowtide_register_targets() -> Iterable[TargetSpec]:  # type: ignore[empty-body]
    """Devices."""


@hookspec
def lowtide_register_latency_models() -> Iterable[LatencyModelSpec]:  # type: ignore[empty-body]
    """Ways to tell what layers cost, for devices to name."""


@hookspec
def lowtide_register_emitters() -> Iterable[EmitterSpec]:  # type: ignore[empty-body]
    """Files that a compile writes."""


@hookspec
def lowtide_register_metrics() -> Iterable[MetricSpec]:  # type: ignore[empty-body]
    """Measures of a network's outputs."""


@hookspec
def lowtide_register_comparisons() -> Iterable[ComparisonSpec]:  # type: ignore[empty-body]
    """Files that ``lowtide diff`` can compare."""


@hookspec
def lowtide_register_diagnoses() -> Iterable[DiagnosisSpec]:  # type: ignore[empty-body]
    """Causes of lost accuracy, and what to do about them."""


@hookspec
def lowtide_register_report_sections() -> Iterable[ReportSectionSpec]:  # type: ignore[empty-body]
    """Parts of the terminal report."""


@hookspec
def lowtide_register_commands() -> Iterable[CommandSpec]:  # type: ignore[empty-body]
    """Subcommands of ``lowtide``."""


@hookspec
def lowtide_pass_finished(item: Pass, graph: Graph, outcome: PassOutcome, seconds: float) -> None:
    """Called after every pass. The graph must not be changed: it is verified before this call, not after."""


@hookspec
def lowtide_compile_finished(result: CompileResult) -> None:
    """Called once at the end of a compile that succeeded."""
