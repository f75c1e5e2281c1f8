"""Room for what calibration has not seen, where codes are plenty."""

from __future__ import annotations

from typing import ClassVar

import attrs

from lowtide.calibrate import Range
from lowtide.errors import OptionError
from lowtide.ir import Graph
from lowtide.passes import Pass, PassContext, PassOutcome
from lowtide_plugins.passes.facts import reach
from lowtide_plugins.scales.groups import groups_of, request_of, union


def _check_factor(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not 1 <= value < float("inf"):
        raise OptionError(f"{attribute.name} should be at least 1, found {value}", place="add-headroom")


@attrs.frozen(kw_only=True)
class AddHeadroom(Pass):
    """Widen the ranges of 16-bit tensors.

    With 16 bits, rounding noise lies some 70 dB below the signal, and one element that is a tenth larger than
    any of the calibration frames costs more than all of it. Twice the range costs 6 dB of these 70. Tensors
    of 8 bits stay, and no range becomes wider than what a Clip or a Sigmoid lets through.

    Precondition: the pipeline ``scales``.

    Attributes:
        factor: of both ends of the range.

    Raises:
        OptionError: on construction, when `factor` is below 1.
    """

    name: ClassVar[str] = "add-headroom"
    factor: float = attrs.field(default=2.0, validator=_check_factor)

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        """See `Pass.run`.

        Raises:
            PassError: elsewhere than between calibrating and solving.
        """
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
