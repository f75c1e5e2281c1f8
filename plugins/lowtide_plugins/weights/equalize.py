"""Cross-layer equalization with measured activations."""

from __future__ import annotations

from typing import ClassVar

import attrs

from lowtide.errors import PassError
from lowtide.ir import Graph
from lowtide.passes import Pass, PassContext, PassOutcome, Refusal
from lowtide_plugins.passes.checks import at_least
from lowtide_plugins.weights.channels import channel_groups
from lowtide_plugins.weights.scaling import (
    Bounds,
    has_row_scales,
    measure_channels,
    products_of,
    scalings_of,
    settle,
    write,
)

FINE_ALREADY = (
    "all weights that make and read it have a scale for each channel, so equal channels gain nothing."
)


@attrs.frozen(kw_only=True)
class Equalize(Pass):
    """Scale channels between layers so that the errors of rounding matter least.

    Where a product gives y and the next reads it, row c of the first is multiplied by s_c and column c of
    the second divided by it, which changes nothing in float. With one step for a tensor, the errors are, in
    units of the unscaled channel, (d_w^2 X + d_a^2) / s^2 in front, with the steps d_w of the first weights
    and d_a of y and the power X of what these weights multiply, and d_v^2 s^2 in the second weights.
    Weighed by what an error of y and of the second product does to the outputs (`output_gains`) and by the
    power of y, the sum is least at

        s_c^4 = G_c (d_w^2 X + d_a^2) / (d_v^2 E[y_c^2] T_c)

    with G_c the gain of y_c and T_c the sum of the gains of all outputs and taps that read it. No channel is
    scaled so far that it, its weights or its bias become the largest of their tensor, or of their row where
    rows have scales. Weights with a scale for each channel have no such step, and tensors are refused around
    which all weights have: there rounding of the second weights can only get worse, and by hand it cost up
    to 2 dB. A channel that is 0 in all frames keeps its scale.

    A channel that reaches the limit of a Clip keeps s = 1; one that does not is scaled until it would, at
    most. Relu, pools, means and sums of equal shapes carry factors on, so all tensors of a residual chain
    have the same. What lies further beyond the frames than `margin` may be clipped otherwise than before.

    Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019,
    section 4.1, for the scaling; the factors follow from the noise of uniform rounding, step^2 / 12.

    Attributes:
        iterations: how often all groups are gone through, at most.
        limit: the largest factor and the inverse of the smallest.
        margin: room that is left below a Clip, as a share of its limit.
        frames: how many frames powers and maxima are measured on.
    """

    name: ClassVar[str] = "equalize"
    iterations: int = 20
    limit: float = 256.0
    margin: float = 0.25
    frames: int = 64

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        """See `Pass.run`.

        Raises:
            PassError: when no data was given, or an option is out of range.
        """
        if ctx.frames is None:
            raise PassError("needs calibration frames", place=self.name)
        at_least(self, iterations=1, limit=1, frames=1)
        if not 0 <= self.margin < 1:
            raise PassError(
                f"expected at least 0 and below 1, found {self.margin}", place=f"{self.name}, margin"
            )
        every = channel_groups(graph)
        products = products_of(every)
        steps = {node: not has_row_scales(product, ctx) for node, product in products.items()}
        groups = [group for group in every if any(steps[n] for n in (*group.producers, *group.consumers))]
        refusals = [Refusal(group.values[0].name, FINE_ALREADY) for group in every if group not in groups]
        if not groups:
            return PassOutcome(False, {}, tuple(refusals))
        bounds = Bounds(iterations=self.iterations, limit=self.limit, margin=self.margin)
        measured = measure_channels(graph, ctx.frames.select(self.frames))
        scalings = scalings_of(graph, groups, products, measured, steps, bounds)
        settle(scalings, bounds)
        scaled = write(graph, scalings)
        return PassOutcome(scaled > 0, {"channels": scaled} if scaled else {}, tuple(refusals))
