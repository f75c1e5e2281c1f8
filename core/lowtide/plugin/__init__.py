"""Plugins: the hooks, the records they return, and the registry of what is installed."""

from __future__ import annotations

from lowtide.plugin.calls import plugin_code, prints_aside
from lowtide.plugin.hookspecs import GROUP, hookimpl
from lowtide.plugin.registry import Provider, Registry, discover
from lowtide.plugin.specs import (
    SPEC_KINDS,
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
    Spec,
    StatisticSpec,
    StrategySpec,
    TargetSpec,
)

__all__ = [
    "GROUP",
    "SPEC_KINDS",
    "CalibratorSpec",
    "CommandSpec",
    "ComparisonSpec",
    "DiagnosisSpec",
    "EmitterSpec",
    "EncodingsSpec",
    "FrontendSpec",
    "LatencyModelSpec",
    "MetricSpec",
    "PassSpec",
    "Provider",
    "Registry",
    "ReportSectionSpec",
    "Spec",
    "StatisticSpec",
    "StrategySpec",
    "TargetSpec",
    "discover",
    "hookimpl",
    "plugin_code",
    "prints_aside",
]
