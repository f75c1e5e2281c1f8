"""Room for what calibration has not seen, where codes are plenty."""

from __future__ import annotations

import math
from typing import ClassVar

import attrs

from lowtide.calibrate import Range
from lowtide.errors import PassError
from lowtide.ir import Graph
from lowtide.passes import Pass, PassContext, PassOutcome
from lowtide_plugins.passes.checks import at_least
from lowtide_plugins.passes.facts import reach
from lowtide_plugins.scales.groups import groups_of, request_of, union


@attrs.frozen(kw_only=True)
class AddHeadroom(Pass):
    """Widen the ranges of 16-bit tensors.

    With 16 bits, rounding noise lies some 70 dB below the signal, and one element that is a tenth larger than
    any of the calibration frames costs more than all of it. Twice the range costs 6 dB of these 70. Tensors
    of 8 bits stay, and no range becomes wider than what a Clip or a Sigmoid lets through.

    Precondition: the pipeline ``scales``.

    Attributes:
        factor: of both ends of the range, at least 1.
    """

    name: ClassVar[str] = "add-headroom"
    factor: float = 2.0

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        """See `Pass.run`.

        Raises:
            PassError: elsewhere than between calibrating and solving, or for a factor out of its range.
        """
        at_least(self, factor=1)
        if math.isinf(self.factor):
            raise PassError("expected a finite number, found inf", place=f"{self.name}, factor")
        request = request_of(ctx, self.name)
        assert ctx.ranges is not None  # noqa: S101 - request_of checked it
        widened = 0
        for group in groups_of(graph, request):
            if group.bits == 16 and self.factor > 1:
                span = union(group, ctx.ranges)
                reached = [reach(root) for root in group.roots]
                low, high = min(low for low, _ in reached), max(high for _, high in reached)
                wide = Range(
                    min(span.min, max(span.min * self.factor, low)),
                    max(span.max, min(span.max * self.factor, high)),
                )
                ctx.ranges.update({value.name: wide for value in group.members})
                widened += 1
        return PassOutcome(False, {"widened": widened})
