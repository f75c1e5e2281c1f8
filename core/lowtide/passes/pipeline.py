"""Runs passes one after the other and trusts none of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import cast

import attrs

from lowtide.errors import GraphError, LowtideError, PassError
from lowtide.ir import Graph, verify
from lowtide.passes.base import Pass, PassContext, PassOutcome
from lowtide.plugin import Registry, prints_aside


@attrs.frozen
class PassRun:
    """One pass as it ran: its text with options, what it did, and the wall time in seconds."""

    text: str
    outcome: PassOutcome
    seconds: float


def run_pipeline(
    graph: Graph,
    passes: Sequence[Pass],
    ctx: PassContext,
    *,
    registry: Registry | None = None,
    after_each: Callable[[Pass, Graph], None] | None = None,
) -> tuple[PassRun, ...]:
    """Run passes in order on the graph, in place; verify it before the first and after every one.

    Args:
        graph: the graph to change.
        passes: what to run.
        ctx: what the passes may look at.
        registry: whose plugins hear ``lowtide_pass_finished``.
        after_each: called with every pass and the verified graph, for printing.

    Raises:
        GraphError: when the graph is not valid to begin with.
        PassError: naming the pass, when one fails or leaves an invalid graph behind. An error that a pass
            raises on purpose comes through as it is, with a note that names the pass.
        PluginError: naming the plugin, when an observer fails.
    """
    verify(graph)
    runs: list[PassRun] = []
    for item in passes:
        start = time.perf_counter()
        outcome = _run(item, graph, ctx)
        seconds = time.perf_counter() - start
        runs.append(PassRun(str(item), outcome, seconds))
        if registry is not None:
            registry.notify("lowtide_pass_finished", item=item, graph=graph, outcome=outcome, seconds=seconds)
        if after_each is not None:
            after_each(item, graph)
    return tuple(runs)


def _run(item: Pass, graph: Graph, ctx: PassContext) -> PassOutcome:
    try:
        with prints_aside():
            outcome = cast("object", item.run(graph, ctx))  # a plugin may not keep its word
    except LowtideError as error:
        error.add_note(f"in pass {item}")
        raise
    except (Exception, SystemExit) as error:
        raise PassError(f"the pass failed: {type(error).__name__}: {error}", place=str(item)) from error
    if not isinstance(outcome, PassOutcome):
        raise PassError(f"the pass should return a PassOutcome, found {outcome!r}", place=str(item))
    try:
        verify(graph)
    except GraphError as error:
        raise PassError(f"the pass left an invalid graph behind: {error}", place=str(item)) from error
    return outcome
