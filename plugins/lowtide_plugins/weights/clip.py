"""Outliers among weights, clipped so that the others get a finer step."""

from __future__ import annotations

import math
from typing import ClassVar

import attrs
import numpy as np

from lowtide.errors import PassError, nearest
from lowtide.ir import Array, Constant, Graph, Node, QuantParams
from lowtide.passes import Pass, PassContext, PassOutcome, Refusal
from lowtide.quantize.numbers import ceil_log2, quantize
from lowtide.quantize.operands import MacOperands, mac_operands, output_channels
from lowtide.quantize.weights import requantize_bias
from lowtide_plugins.passes.checks import at_least
from lowtide_plugins.weights.rows import (
    NO_TWIN,
    as_rows,
    original_bias,
    original_weights,
    rows_objection,
)
from lowtide_plugins.weights.scales import ScaleChoice

METHODS = ("vendor", "mse")

LARGE = 15.0
"""Weights are clipped by the vendor's rule only if the largest magnitude is above this.

Source, as of the two below: the vendor's published training-side simulation.
"""

OUTLIER = 16.0
"""And only if it is above this many times the median magnitude."""

MARGIN = 8 / 128
"""The share of the next power of two that is left free."""


@attrs.frozen(kw_only=True)
class ClipWeights(Pass):
    """Lower the scale of weights; those that do not fit saturate.

    ``vendor``: tensors with max|w| > 15 and max|w| > 16 median|w| are clipped at
    (1 - 8/128) 2^ceil(log2(16 median|w|)), and the scale is the one that this limit needs. ``mse``: the scale
    with the least squared error of rounding and saturation, by tensor or channel as the scales are, within
    `halvings` octaves.

    Scales of outputs stay, so under shift-only rules the scale falls by powers of two. No scale falls so far
    that the bias format would not hold the bias. Codes are those of the real weights, rounded to the nearest,
    and the bias is the real one: passes that improve on these come after this one.

    Source: the vendor's published training-side simulation; ``mse`` is a search.
    """

    name: ClassVar[str] = "clip-weights"
    method: str = "vendor"
    halvings: int = 6

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        """See `Pass.run`.

        Raises:
            PassError: when the graph is not quantized yet, or an option is unknown or out of range.
        """
        if ctx.reference is None or ctx.request is None:
            raise PassError("needs a quantized graph", place=self.name)
        if self.method not in METHODS:
            raise PassError(
                f"expected {' or '.join(METHODS)}, found {self.method!r}",
                place=f"{self.name}, method",
                hint=nearest(self.method, METHODS),
            )
        at_least(self, halvings=0)
        refusals: list[Refusal] = []
        changed = 0
        for node in graph:
            operands = mac_operands(node)
            if operands is None or operands.weights.type.quant is None:
                continue
            real = original_weights(node, ctx.reference)
            reason = rows_objection(node, sampled=False)
            if (bits := operands.weights.type.quant.bits) != 8:
                reason = f"its weights have {bits} bits; expected 8."
            if reason is not None or real is None:
                refusals.append(Refusal(node.place, reason or NO_TWIN))
                continue
            scales = self._scales(node, operands, real, ctx)
            changed += _store(graph, node, operands, real, scales, ctx)
        return PassOutcome(changed > 0, {"clipped": changed} if changed else {}, tuple(refusals))

    def _scales(self, node: Node, operands: MacOperands, real: Array, ctx: PassContext) -> tuple[float, ...]:
        quant, source = operands.weights.type.quant, operands.activation.type.quant
        assert quant is not None  # noqa: S101 - the caller checks
        assert ctx.request is not None  # noqa: S101 - run checked it
        assert ctx.reference is not None  # noqa: S101 - run checked it
        rule, rows = ctx.request.rule, as_rows(node, real).astype(np.float64)
        limit = vendor_limit(rows) if self.method == "vendor" else math.inf
        if source is None or (self.method == "vendor" and limit == math.inf):
            return quant.scale
        bias = np.abs(original_bias(node, ctx.reference, len(rows)))
        choice = ScaleChoice(
            wanted=rows[np.newaxis],
            moments=np.eye(rows.shape[1])[np.newaxis],
            gains=np.ones((1, len(rows))),
            bias=bias[np.newaxis],
            quant=quant,
            input_scale=source.scale[0],
            low=-quant.dtype.max if rule.weight_codes == "narrow" else quant.dtype.min,
            shift=rule.requantize == "shift",
            split=ctx.request.target.bias.split,
            halvings=self.halvings,
        )
        return choice.scales() if self.method == "mse" else choice.scales_for(limit)


def vendor_limit(weights: Array) -> float:
    """Where the vendor clips weights; infinity where it does not."""
    magnitudes = np.abs(weights)
    largest, middle = float(magnitudes.max(initial=0.0)), float(np.median(magnitudes))
    if not (largest > LARGE and largest > OUTLIER * middle) or middle == 0:
        return math.inf
    return math.ldexp(1.0, ceil_log2(OUTLIER * middle)) * (1 - MARGIN)


def _store(  # noqa: PLR0917 - all of them decide on the codes
    graph: Graph,
    node: Node,
    operands: MacOperands,
    real: Array,
    scales: tuple[float, ...],
    ctx: PassContext,
) -> int:
    """Give a layer finer scales; 1 when they are others now."""
    quant = operands.weights.type.quant
    assert quant is not None  # noqa: S101 - the caller checks
    assert ctx.request is not None  # noqa: S101 - run checked it
    assert ctx.reference is not None  # noqa: S101 - run checked it
    if scales == quant.scale:
        return 0
    chosen = QuantParams(quant.dtype, scales, quant.zero_point, quant.axis)
    codes = quantize(real, chosen, half="away")
    if ctx.request.rule.weight_codes == "narrow":
        codes = np.maximum(codes, -quant.dtype.max).astype(codes.dtype)
    graph.set_constant(operands.weights, Constant.of(codes), operands.weights.type.with_quant(chosen))
    if operands.bias is not None:
        bias = original_bias(node, ctx.reference, output_channels(node, operands))
        requantize_bias(graph, node, bias, ctx.request)
    return 1
