"""What the records of `fake_good` name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs

from lowtide.calibrate import Calibrator, NumberFormat, Range, Statistic
from lowtide.ir import Graph
from lowtide.passes import Pass, PassContext, PassOutcome

NUMBER = 3


@attrs.frozen(kw_only=True)
class UnitRange(Calibrator):
    """From 0 to 1."""

    name: ClassVar[str] = "fake-range"
    statistics: ClassVar[tuple[str, ...]] = ()

    def range(self, statistics: Mapping[str, Statistic], fmt: NumberFormat) -> Range:
        del statistics, fmt
        return Range(0.0, 1.0)


class Plain(UnitRange):
    """Lacks the decorator."""

    name: ClassVar[str] = "fake-plain"


@attrs.frozen(kw_only=True)
class Partial(Calibrator):
    """Lacks its method."""

    name: ClassVar[str] = "fake-partial"
    statistics: ClassVar[tuple[str, ...]] = ()


@attrs.frozen(kw_only=True)
class Misnamed(Pass):
    """Has another name than its record."""

    name: ClassVar[str] = "misnamed"

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        del graph, ctx
        return PassOutcome(changed=False)
