"""What a pass is."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs

from lowtide.diagnostics import Diagnostics
from lowtide.ir import Graph

if TYPE_CHECKING:
    from lowtide.calibrate import Range
    from lowtide.calibrate.collect import Collected
    from lowtide.compiler.run import Device
    from lowtide.data import DataSource
    from lowtide.options import CompileOptions
    from lowtide.precision.api import PrecisionPlan
    from lowtide.quantize.solve import SolveRequest
    from lowtide.target import Placement, ScaleRule, Target


@attrs.frozen
class Refusal:
    """A place where a pass could have acted and did not.

    Attributes:
        place: the node, in the words of the model file.
        reason: why not, and what would have to be different.
    """

    place: str
    reason: str


@attrs.frozen
class PassOutcome:
    """What a pass did.

    Attributes:
        changed: whether the graph is another one now; a pass that runs twice changes nothing the second time.
        counters: what it did how often, for the report.
        refusals: where it did nothing, and why.
        runs: of the network on one frame that it took, parts of the network by their share: what a search
            that runs it for many plans has to pay.
    """

    changed: bool
    counters: Mapping[str, int] = attrs.field(factory=dict[str, int])
    refusals: tuple[Refusal, ...] = ()
    runs: float = 0.0


@attrs.define(kw_only=True)
class PassContext:
    """What a pass may look at besides the graph; what no earlier stage has made is ``None``.

    Attributes:
        reference: the float graph that the quantized one was made from.
        frames: the calibration frames that a pass may learn from.
        statistics: what the collector measured on the float graph.
        rule: the scale rule in force.
        ranges: of activations by tensor name, between calibrating and solving; to be replaced in place.
        weight_scales: of layers whose scale is not left to the solver, by layer name: one, or one per output
            channel; to be filled in place between calibrating and solving.
        request: the rules and ranges that the graph was quantized by.
        device: how the device rounds and what runs on the host, for exact execution.
        known: what passes keep for further runs on networks that are made of the same float graph, where a
            recipe tries several. A result must not depend on it, so a key says all that an entry depends on.
    """

    diagnostics: Diagnostics = attrs.field(factory=Diagnostics)
    options: CompileOptions | None = None
    target: Target | None = None
    placement: Placement | None = None
    reference: Graph | None = None
    frames: DataSource | None = None
    statistics: Collected | None = None
    rule: ScaleRule | None = None
    ranges: dict[str, Range] | None = None
    weight_scales: dict[str, tuple[float, ...]] | None = None
    request: SolveRequest | None = None
    plan: PrecisionPlan | None = None
    device: Device | None = None
    known: dict[object, object] = attrs.field(factory=dict[object, object])


@attrs.frozen(kw_only=True)
class Pass(abc.ABC):
    """Valid graph in, valid graph out; in between it may be broken.

    Subclasses are decorated with ``@attrs.frozen(kw_only=True)``; their fields are their options, with
    defaults, of type bool, int, float or str, or one of these or ``None``. In pipelines an option is written
    with dashes.
    """

    name: ClassVar[str]

    @property
    def used_options(self) -> tuple[str, ...]:
        """Fields of `CompileOptions` that only such passes look at: without one they have no effect."""
        return ()

    @abc.abstractmethod
    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        """Change the graph in place.

        Raises:
            PassError: when the graph cannot be handled at all; a single node that cannot is a `Refusal`.
        """

    def __str__(self) -> str:
        from lowtide.passes.text import print_pass  # noqa: PLC0415 - the text form is built on this class

        return print_pass(self)
