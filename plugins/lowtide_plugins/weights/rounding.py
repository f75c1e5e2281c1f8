"""Weight rounding that makes up for the error of one weight with those that follow."""

from __future__ import annotations

from typing import ClassVar

import attrs
import numpy as np

from lowtide.errors import PassError
from lowtide.ir import Array, Constant, Graph, Node
from lowtide.passes import Pass, PassContext, PassOutcome, Refusal
from lowtide.quantize.numbers import round_half_away
from lowtide.quantize.operands import MacOperands, mac_operands
from lowtide_plugins.passes.checks import at_least
from lowtide_plugins.weights.moments import second_moments
from lowtide_plugins.weights.rows import (
    NO_TWIN,
    as_rows,
    from_rows,
    original_weights,
    row_scales,
    rows_objection,
)

BLOCK = 32
"""Columns that are finished before the error goes to all that follow; for speed only."""


@attrs.frozen(kw_only=True)
class RoundWeights(Pass):
    """Choose the codes of 8-bit weights so that the error of every output is small, not that of every weight.

    Precondition: the network is quantized and calibration frames are given. Effect: weights are rounded one
    after the other, those with the strongest inputs first; what one loses is made up for by those that
    follow, as far as their inputs go together. A channel keeps nearest rounding where that is better. Scales
    stay. It refuses transposed convolutions and products of more than `most` inputs, whose moments are too
    large.

    Source: Frantar et al., GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers,
    2022, algorithm 1, with activation order.

    Attributes:
        frames: how many frames the moments are measured on.
        rows: positions of each frame.
        damp: share of the mean moment that is added to all, against directions that were never seen.
        most: the largest number of inputs of an output.
    """

    name: ClassVar[str] = "round-weights"
    frames: int = 64
    rows: int = 128
    damp: float = 0.01
    most: int = 4608

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        """See `Pass.run`.

        Raises:
            PassError: when the graph is not quantized yet, no data was given, or an option is out of range.
        """
        if ctx.reference is None or ctx.frames is None or ctx.request is None:
            raise PassError("needs a quantized graph and calibration frames", place=self.name)
        at_least(self, frames=1, rows=1, damp=0, most=1)
        refusals: list[Refusal] = []
        layers: list[tuple[Node, MacOperands]] = []
        for node in graph:
            operands = mac_operands(node)
            quant = operands.weights.type.quant if operands is not None else None
            if operands is None or quant is None or quant.bits != 8:
                continue
            reason = self._objection(node, operands, ctx.reference)
            if reason is None:
                layers.append((node, operands))
            else:
                refusals.append(Refusal(node.place, reason))
        narrow = ctx.request.rule.weight_codes == "narrow"
        frames = ctx.frames.select(self.frames)
        moments = second_moments(ctx.reference, layers, frames, rows=self.rows)
        runs = float(frames.count or 0)
        changed = 0
        for node, operands in layers:
            if node.name in moments:
                matrix = moments[node.name].matrix
                changed += self._round(graph, ctx.reference, node, operands, matrix, narrow=narrow)
        return PassOutcome(changed > 0, {"rounded": changed}, tuple(refusals), runs)

    def _objection(self, node: Node, operands: MacOperands, reference: Graph) -> str | None:
        if (reason := rows_objection(node)) is not None:
            return reason
        if original_weights(node, reference) is None:
            return NO_TWIN
        shape = operands.weights.type.static_shape
        count = int(np.prod(shape[1:])) if node.op == "Conv" else max(shape)
        if count > self.most:
            return f"an output has {count} inputs; the limit is {self.most}."
        return None

    def _round(
        self,
        graph: Graph,
        reference: Graph,
        node: Node,
        operands: MacOperands,
        matrix: Array,
        *,
        narrow: bool,
    ) -> int:
        """Give one layer its codes; 1 when they are others now."""
        quant, weights = operands.weights.type.quant, operands.weights
        real = original_weights(node, reference)
        assert quant is not None  # noqa: S101 - the caller checks
        assert real is not None  # noqa: S101 - the caller checks
        groups = matrix.shape[0]
        rows = as_rows(node, real).astype(np.float64)
        scale = row_scales(quant, len(rows))
        low = -quant.dtype.max if narrow else quant.dtype.min
        steps = (rows / scale[:, np.newaxis]).reshape(groups, len(rows) // groups, -1)
        codes = round_steps(steps, matrix.astype(np.float64), low, quant.dtype.max, self.damp)
        made = from_rows(node, codes.reshape(rows.shape), real.shape).astype(quant.dtype.numpy)
        constant = Constant.of(made)
        if constant == weights.constant:
            return 0
        graph.set_constant(weights, constant, weights.type)
        return 1


def round_steps(steps: Array, matrix: Array, low: int, high: int, damp: float) -> Array:
    """Codes whose error, weighed by the moments, is small.

    Args:
        steps: real weights in units of their scale, float64 ``[groups, outputs, K]``.
        matrix: moments, float64 ``[groups, K, K]``.
        low: the lowest code.
        high: the highest.
        damp: share of the mean of the diagonal that is added to it.

    Returns:
        Codes as float64 of the shape of `steps`; a row of nearest codes where these are better.
    """
    nearest = np.clip(round_half_away(steps), low, high)
    damped = matrix + np.eye(matrix.shape[-1]) * (
        damp * np.trace(matrix, axis1=1, axis2=2) / matrix.shape[-1] + 1e-9
    ).reshape(-1, 1, 1)
    chosen = np.empty_like(nearest)
    if matrix.shape[-1] <= 64:
        chosen = _feed_back(steps, damped, low, high)
    else:
        for group in range(len(matrix)):
            chosen[group] = _feed_back(steps[group : group + 1], damped[group : group + 1], low, high)[0]
    single = damped.astype(np.float32)
    before, after = (_energy((codes - steps).astype(np.float32), single) for codes in (nearest, chosen))
    return np.where((after < before)[..., np.newaxis], chosen, nearest)


def _energy(error: Array, matrix: Array) -> Array:
    """The error of every output, ``[groups, outputs]``."""
    return np.asarray(np.einsum("gok,gok->go", np.matmul(error, matrix), error))


def _feed_back(steps: Array, matrix: Array, low: int, high: int) -> Array:
    """Round column by column, in the order of the diagonal, and spread the error over those that follow."""
    groups, _, size = steps.shape
    order = np.argsort(-np.diagonal(matrix, axis1=1, axis2=2), axis=1, kind="stable")
    rows = np.take_along_axis(matrix, order[:, :, np.newaxis], axis=1)
    sorted_matrix = np.take_along_axis(rows, order[:, np.newaxis, :], axis=2)
    factor = _inverse_factor(sorted_matrix)
    # One row for each column of the weights, so that what a step touches lies together.
    turned = np.ascontiguousarray(steps.transpose(0, 2, 1))
    work = np.take_along_axis(turned, order[:, :, np.newaxis], axis=1)
    codes, moved = np.empty_like(work), np.empty_like(work)
    for start in range(0, size, BLOCK):
        end = min(start + BLOCK, size)
        errors = np.empty((groups, end - start, work.shape[2]))
        for at in range(start, end):
            row = np.minimum(np.maximum(round_half_away(work[:, at]), low), high)
            error = (work[:, at] - row) / factor[:, at, at, np.newaxis]
            codes[:, at], errors[:, at - start] = row, error
            ahead = slice(at + 1, end)
            np.multiply(factor[:, at, ahead, np.newaxis], error[:, np.newaxis], out=moved[:, ahead])
            work[:, ahead] -= moved[:, ahead]
        np.matmul(factor[:, start:end, end:].transpose(0, 2, 1), errors, out=moved[:, end:])
        work[:, end:] -= moved[:, end:]
    back = np.argsort(order, axis=1, kind="stable")
    return np.take_along_axis(codes, back[:, :, np.newaxis], axis=1).transpose(0, 2, 1)


def _inverse_factor(matrix: Array) -> Array:
    """The upper triangular U with U' U the inverse: that of the mirrored matrix, inverted and mirrored."""
    mirrored = np.linalg.cholesky(matrix[:, ::-1, ::-1])
    factor: Array = np.linalg.inv(mirrored)[:, ::-1, ::-1]
    return factor
