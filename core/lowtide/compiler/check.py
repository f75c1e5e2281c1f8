"""What a compile would meet, found out beforehand."""

from __future__ import annotations

import attrs

from lowtide.compiler.floats import check_weights, read_encodings
from lowtide.compiler.latency import estimate_codes
from lowtide.compiler.prequantized import examine
from lowtide.compiler.request import CompileRequest
from lowtide.compiler.stages import Compilation
from lowtide.compiler.widths import ask, foresee
from lowtide.data.folder import FolderSource
from lowtide.diagnostics import Diagnostics
from lowtide.doctor import Examination, examine_frames
from lowtide.errors import OptionError
from lowtide.ir import Layer, layers
from lowtide.latency import LatencyTable, estimate
from lowtide.precision import (
    ListProblem,
    PrecisionPlan,
    quantized_values,
    read_lists,
)
from lowtide.precision.lists import OUTPUTS
from lowtide.quantize.legal import Finding
from lowtide.target import Border, Head, borders, decoding, detection_head, heads, place


@attrs.frozen(kw_only=True)
class Preflight:
    """The outcome.

    Attributes:
        compilation: as far as it went: imported, prepared, placed.
        layers: all layers of the prepared network.
        borders: tensors that cross between accelerator and host.
        heads: layers that give the numbers of a detection head.
        lists: names in the 16-bit lists that cannot be meant, or are not those of the vendor's tools.
        plan: the widths as far as they are known without frames; ``None`` for a network that stays float or
            has codes.
        left_open: what only a compile with frames decides of them, in words; empty where nothing is.
        latency: estimated; ``None`` for a device without a latency model.
        findings: scales of a quantized network that do not suit the device.
        inferred: tensors of a quantized network that take their parameters from another, with that one.
        needs_data: tensors whose ranges only calibration can give.
        frames: what is wrong with the calibration frames; ``None`` where none are given.
    """

    compilation: Compilation
    layers: tuple[Layer, ...]
    borders: tuple[Border, ...] = ()
    heads: tuple[Head, ...] = ()
    lists: tuple[ListProblem, ...] = ()
    plan: PrecisionPlan | None = None
    left_open: str = ""
    latency: LatencyTable | None = None
    findings: tuple[Finding, ...] = ()
    inferred: dict[str, str] = attrs.field(factory=dict[str, str])
    needs_data: tuple[str, ...] = ()
    frames: Examination | None = None

    @property
    def refused(self) -> tuple[Finding, ...]:
        """Scales that would stop a compile."""
        return tuple(finding for finding in self.findings if finding.action == "refused")

    @property
    def stops(self) -> bool:
        """Whether a compile would be refused."""
        listed = any(problem.stops for problem in self.lists)
        return bool(self.refused) or listed or (self.frames is not None and self.frames.fatal)

    @property
    def narrow_heads(self) -> tuple[str, ...]:
        """Regression heads on the accelerator whose output has 8 bits."""
        if self.plan is None or self.left_open:
            return ()
        bits = self.plan.activations
        return tuple(
            head.layer for head in self.heads if head.kind == "regression" and bits.get(head.layer) == 8
        )


def check(request: CompileRequest) -> Preflight:
    """Import, prepare and place a network, hold its scales against the rules of the device, examine frames.

    Raises:
        LowtideError: for whatever stops a compile before its scales are looked at.
    """
    c = Compilation.begin(request)
    c.import_model()
    c.prepare()
    c.placement = place(c.graph, c.target, c.options, c.diagnostics)
    found = layers(c.graph)
    head = detection_head(found, c.options)
    checked = Preflight(
        compilation=c,
        layers=found,
        borders=borders(found, c.placement),
        heads=heads(found, decoding(found, c.options), head.tensors if head else {}),
    )
    checked = _quantized(checked) if c.prequantized else checked if c.is_float else _float(checked)
    return attrs.evolve(checked, latency=_latency(checked), frames=_frames(c))


def _latency(checked: Preflight) -> LatencyTable | None:
    """With the widths of the strategy, or of the codes that the network has."""
    c = checked.compilation
    if checked.plan is None or c.target.latency is None:
        return estimate_codes(c)
    return estimate(c.graph, c.target, c.placement, checked.plan, c.request.registry)


def _float(checked: Preflight) -> Preflight:
    """Lists, widths and what has to be calibrated."""
    c = checked.compilation
    check_weights(c)
    c.encodings = read_encodings(c)
    values = quantized_values(c.graph, c.target, c.placement)
    problem = ask(c)
    lists = read_lists(problem).problems
    plan, left_open = None, ""
    if not any(entry.stops for entry in lists):
        try:
            plan, left_open = foresee(c, problem)
        except OptionError as error:
            lists = (*lists, ListProblem(error.place or OUTPUTS, "", error.message, error.hint))
    missing = tuple(value.name for value in values if value.name not in c.encodings.ranges)
    return attrs.evolve(checked, lists=lists, plan=plan, left_open=left_open, needs_data=missing)


def _quantized(checked: Preflight) -> Preflight:
    c = checked.compilation
    if c.target.keeps_codes:
        return checked
    legal, inferred = examine(c)
    return attrs.evolve(
        checked,
        findings=tuple(legal.findings),
        inferred=inferred.from_others,
        needs_data=tuple(name for name in inferred.open if name not in legal.ranges),
    )


def _frames(c: Compilation) -> Examination | None:
    c.open_frames()
    if c.source is None:
        return None
    raw, progress = c.source.raw, c.clock.progress
    return examine_frames(
        c.imported,
        c.reference,
        # What is noted of single frames is among the findings.
        attrs.evolve(c.source, diagnostics=Diagnostics()),
        preprocess=raw.preprocess if isinstance(raw, FolderSource) else None,
        progress=progress.advance,
        stage=progress.stage,
    )
