"""What a compile would meet, found out beforehand."""

from __future__ import annotations

import attrs

from lowtide.compiler.floats import read_encodings
from lowtide.compiler.latency import estimate_codes
from lowtide.compiler.prequantized import examine
from lowtide.compiler.request import CompileRequest
from lowtide.compiler.stages import Compilation
from lowtide.data.folder import FolderSource
from lowtide.diagnostics import Diagnostics
from lowtide.doctor import Examination, examine_frames
from lowtide.ir import Graph, Layer, layers
from lowtide.latency import LatencyTable
from lowtide.precision import quantized_values
from lowtide.quantize.legal import Finding
from lowtide.target import place


@attrs.frozen(kw_only=True)
class Preflight:
    """The outcome.

    Attributes:
        compilation: as far as it went: imported, prepared, placed.
        layers: all layers of the prepared network.
        findings: scales of a quantized network that do not suit the device.
        inferred: tensors of a quantized network that take their parameters from another, with that one.
        latency: what a frame takes; ``None`` for a device without latency model.
        needs_data: tensors whose ranges only calibration can give.
        frames: what is wrong with the calibration frames; ``None`` where none are given.
    """

    compilation: Compilation
    layers: tuple[Layer, ...]
    findings: tuple[Finding, ...] = ()
    latency: LatencyTable | None = None
    inferred: dict[str, str] = attrs.field(factory=dict[str, str])
    needs_data: tuple[str, ...] = ()
    frames: Examination | None = None

    @property
    def refused(self) -> tuple[Finding, ...]:
        """What would stop a compile."""
        return tuple(finding for finding in self.findings if finding.action == "refused")


def check(request: CompileRequest) -> Preflight:
    """Import, prepare and place a network, hold its scales against the rules of the device, examine frames.

    Raises:
        LowtideError: for whatever stops a compile before its scales are looked at.
    """
    c = Compilation.begin(request)
    c.import_model()
    original = c.graph.clone()
    c.prepare()
    c.placement = place(c.graph, c.target, c.options, c.diagnostics)
    return attrs.evolve(_preflight(c), frames=_frames(c, original))


def _frames(c: Compilation, original: Graph) -> Examination | None:
    c.open_frames()
    if c.source is None:
        return None
    raw, progress = c.source.raw, c.clock.progress
    return examine_frames(
        original,
        c.reference,
        # What is noted of single frames is among the findings.
        attrs.evolve(c.source, diagnostics=Diagnostics()),
        preprocess=raw.preprocess if isinstance(raw, FolderSource) else None,
        progress=progress.advance,
        stage=progress.stage,
    )


def _preflight(c: Compilation) -> Preflight:
    found = layers(c.graph)
    if c.is_float:
        return Preflight(compilation=c, latency=estimate_codes(c), layers=found)
    if c.prequantized:
        return _quantized(c, found)
    c.encodings = read_encodings(c)
    values = quantized_values(c.graph, c.target, c.placement)
    missing = tuple(value.name for value in values if value.name not in c.encodings.ranges)
    return Preflight(compilation=c, latency=estimate_codes(c), layers=found, needs_data=missing)


def _quantized(c: Compilation, found: tuple[Layer, ...]) -> Preflight:
    if c.target.keeps_codes:
        return Preflight(compilation=c, latency=estimate_codes(c), layers=found)
    legal, inferred = examine(c)
    return Preflight(
        compilation=c,
        latency=estimate_codes(c),
        layers=found,
        findings=tuple(legal.findings),
        inferred=inferred.from_others,
        needs_data=tuple(name for name in inferred.open if name not in legal.ranges),
    )
