"""The tables of the calibration-set doctor."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from lowtide.doctor import Examination
from lowtide.doctor.records import Convergence
from lowtide.errors import counted, short_name
from lowtide.report.terminal import new_table

MOVING = 5
"""Tensors that are named."""


def render_examination(found: Examination) -> Iterator[RenderableType]:
    """The frames in a few lines: findings with remedies, and how the ranges settle."""
    table = new_table("calibration frames", "what", "value")
    table.add_row("data", Text(f"{found.data}: {found.good} of {counted(found.frames, 'frame')} can be used"))
    table.add_row("judged by", Text(found.basis))
    if found.convergence is not None:
        table.add_row("enough", _enough(found.convergence))
    yield table
    if found.convergence is not None:
        yield from _steps(found.convergence)
    if found.findings:
        table = new_table("what is wrong with the frames", "code", "frame", "cause", "evidence", "remedy")
        for entry in found.findings:
            style = "red" if entry.fatal else "yellow"
            row = (entry.code, short_name(entry.place), entry.cause, entry.evidence, entry.remedy)
            table.add_row(*(Text(text, style=style) for text in row))
        yield table


def _enough(found: Convergence) -> Text:
    settled = found.tensors - found.allowed
    some = f"{settled} of {counted(found.tensors, 'tensor')}"
    counts = f"{found.needed} of {found.frames} frames"
    ranges = f"from there on the ranges of {some} stay within {found.tolerance:.0%}"
    if found.enough:
        return Text(f"{counts}: {ranges}", style="green")
    return Text(f"not settled: {counts} were needed; {ranges}", style="yellow")


def _steps(found: Convergence) -> Iterator[RenderableType]:
    table = new_table("ranges by number of frames", right=("frames", "tensors still moving", "most"))
    table.add_column("tensor", overflow="fold")
    for count, unsettled, worst in found.steps:
        most, name = ("-", "") if worst is None else (f"{worst.missing:.0%}", short_name(worst.tensor))
        table.add_row(str(count), str(unsettled), most, Text(name))
    yield table
    if found.moving:
        named = ", ".join(
            f"{short_name(entry.tensor)} ({entry.missing:.0%})" for entry in found.moving[:MOVING]
        )
        more = f" and {len(found.moving) - MOVING} more" if len(found.moving) > MOVING else ""
        yield Text(f"still moving after {counted(found.needed, 'frame')}: {named}{more}", style="dim")
