"""Canonical forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs

from lowtide.ir import Graph, Node
from lowtide.passes import Pass, PassContext, PassOutcome
from lowtide_plugins.passes.activations import merge_clamps, name_hard_sigmoid, name_hard_swish
from lowtide_plugins.passes.auto_pad import explicit_pads
from lowtide_plugins.passes.matrix import canonical_gemm, gemm_of_matmul
from lowtide_plugins.passes.rewrite import Tally, is_alive
from lowtide_plugins.passes.simple import add_of_sub, mul_of_div, pool_of_mean

Rewrite = Callable[[Graph, Node, Tally], None]

REWRITES: tuple[Rewrite, ...] = (
    explicit_pads,
    pool_of_mean,
    canonical_gemm,
    gemm_of_matmul,
    add_of_sub,
    mul_of_div,
    merge_clamps,
    name_hard_sigmoid,
    name_hard_swish,
)

ROUNDS = 16
"""No rewrite undoes another and most shorten a chain, so that real networks need two or three rounds."""


@attrs.frozen(kw_only=True)
class Decompose(Pass):
    """Brings operators into the one form that later passes and devices know.

    Precondition: shapes are inferred. Effect: ``auto_pad`` becomes explicit; ReduceMean over height and width
    becomes GlobalAveragePool; a Gemm with constant weights has them as `[N, K]` with transB=1, transA=0,
    alpha=beta=1 and a bias `[N]`; MatMul of a matrix with a constant and the Add of a bias become such a
    Gemm; Sub and Div by constants become Add and Mul; clamps one after the other become Relu or Clip;
    HardSigmoid and HardSwish written out become these operators. One-dimensional convolutions and all else
    stay. It refuses, node by node, what lacks a constant or a static shape that it needs.
    """

    name: ClassVar[str] = "decompose"

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:  # noqa: ARG002 - the graph says it all
        """See `Pass.run`."""
        tally = Tally()
        for _ in range(ROUNDS):
            before = tally.total
            for node in graph:
                for rewrite in REWRITES:
                    if is_alive(graph, node):
                        rewrite(graph, node, tally)
            if tally.total == before:
                break
        return tally.outcome()
