"""Graph passes: what they are, pipelines as text, and the runner."""

from __future__ import annotations

from lowtide.passes.base import Pass, PassContext, PassOutcome, Refusal
from lowtide.passes.pipeline import PassRun, run_pipeline
from lowtide.passes.text import option_types, parse_configured, parse_pipeline, print_pass, print_pipeline

__all__ = [
    "Pass",
    "PassContext",
    "PassOutcome",
    "PassRun",
    "Refusal",
    "option_types",
    "parse_configured",
    "parse_pipeline",
    "print_pass",
    "print_pipeline",
    "run_pipeline",
]
