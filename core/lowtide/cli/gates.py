"""The flag ``--require`` of `compile` and `evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from lowtide.cli.context import stderr
from lowtide.errors import OptionError
from lowtide.measure.gates import FIGURES, MEASURED, PLACE, Gate, missed, parse_gate
from lowtide.plugin import MetricSpec, Registry
from lowtide.target import load_target

F = TypeVar("F", bound=Callable[..., Any])

GATE_MISSED = 1


def require_option(command: F) -> F:
    """The flag, as ``requirements``."""
    return click.option(
        "--require",
        "requirements",
        multiple=True,
        metavar="FIGURE>=NUMBER",
        help="Exit with status 1 when the result does not reach it; repeatable.",
    )(command)


def gates_of(requirements: Sequence[str], registry: Registry) -> tuple[Gate, ...]:
    """Read the flags.

    Raises:
        OptionError: when one does not parse, or names neither a metric nor a figure of the report.
    """
    known = {*FIGURES, *(spec.name for spec in registry.all(MetricSpec))}
    return tuple(parse_gate(text, known) for text in requirements)


def metric_names(
    gates: Sequence[Gate], registry: Registry, *, beside: Mapping[str, object]
) -> tuple[str, ...]:
    """The gates on metrics that are not among the figures that are known without running any frame."""
    metrics = {spec.name for spec in registry.all(MetricSpec)}
    return tuple(
        dict.fromkeys(gate.name for gate in gates if gate.name in metrics and gate.name not in beside)
    )


def check_possible(gates: Sequence[Gate], target: str, registry: Registry, *, has_data: bool) -> None:
    """Refuse gates that a compile could not measure.

    Raises:
        OptionError: naming the gate.
    """
    for gate in gates:
        needs_frames = gate.name in MEASURED or gate.name not in FIGURES
        if needs_frames and not has_data:
            raise OptionError(
                "is measured on frames, and none are given", place=f"{PLACE} {gate}", hint="--data DATA"
            )
        if gate.name == "latency_ms" and load_target(target, registry).latency is None:
            raise OptionError(
                f"there is no latency model of {target}",
                place=f"{PLACE} {gate}",
                hint="leave the gate out, or compile for a device that has one",
            )


def judge(gates: Sequence[Gate], figures: Mapping[str, float | None]) -> int:
    """Print a line for every missed gate on standard error, and give the exit status."""
    lines = missed(gates, figures)
    for line in lines:
        stderr().print(line, style="red", markup=False, highlight=False, soft_wrap=True)
    return GATE_MISSED if lines else 0
