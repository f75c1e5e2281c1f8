"""Asks every diagnosis why the worst layers lose accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lowtide.diagnosis import CODE, Diagnosis, DiagnosisView, measure_parts, rank, remedy_options
from lowtide.errors import OptionError, PluginError
from lowtide.options import OptionLayer, resolve_options
from lowtide.plugin import SPEC_KINDS, DiagnosisSpec, plugin_code
from lowtide.report.model import Finding

if TYPE_CHECKING:
    from lowtide.compiler.stages import Compilation


def diagnose(c: Compilation) -> tuple[Finding, ...]:
    """The findings of all diagnoses, those of the worst layer first; what two of them say is said once.

    Costs one run of the measured frames through the float network and a few layers beside it.

    Raises:
        PluginError: naming a diagnosis that fails, or returns what is no finding of its own.
    """
    view = view_of(c)
    registry = c.request.registry
    found: dict[Finding, None] = {}
    for spec in registry.all(DiagnosisSpec):
        place = registry.describe(spec)
        kind: type[Diagnosis] = registry.load(DiagnosisSpec, spec.name)
        with plugin_code(place):
            said = list(kind().find(view))
        check_findings(kind, said, view, place)
        found.update(dict.fromkeys(said))
    order = {cost.layer: position for position, cost in enumerate(view.worst)}
    return tuple(sorted(found, key=lambda finding: order.get(finding.layer, len(order))))


def check_findings(kind: type[Diagnosis], said: Iterable[object], view: DiagnosisView, place: str) -> None:
    """Check what a diagnosis returned.

    Raises:
        PluginError: for anything but a finding with a cause of the diagnosis' own list, a layer or input of
            the network, evidence and a remedy that can be set.
    """
    listed = {cause.code: cause.text for cause in kind.causes}
    known = {*view.layers, *(value.name for value in view.graph.inputs)}
    for finding in said:
        if not isinstance(finding, Finding):
            raise PluginError(f"should return findings, found {finding!r}", place=place)
        if not CODE.fullmatch(finding.code) or listed.get(finding.code) != finding.cause:
            raise PluginError(
                f"names a cause that is not on its list: {finding.code} {finding.cause}", place=place
            )
        if finding.layer not in known:
            raise PluginError(f"names a layer that the network does not have: {finding.layer}", place=place)
        if not finding.evidence or not finding.remedy:
            raise PluginError(
                f"gives {finding.layer} a cause without evidence or without remedy", place=place
            )
        try:
            resolve_options([OptionLayer("remedy", remedy_options([finding]))])
        except OptionError as error:
            raise PluginError(f"the remedy {finding.remedy!r} cannot be set: {error}", place=place) from error


def view_of(c: Compilation) -> DiagnosisView:
    """A finished compilation as diagnoses see it; measures where the noise of the worst layers comes from."""
    assert c.measurement is not None  # noqa: S101 - the caller measures before
    errors = {error.layer: error for error in c.measurement.layers}
    worst = rank(errors.values())
    parts = measure_parts(
        c.reference,
        c.graph,
        c.measured_frames(),
        errors,
        wanted={cost.layer for cost in worst},
        progress=c.clock.progress.advance,
    )
    outputs = c.agreement.outputs if c.agreement is not None else c.measurement.outputs
    registry = c.request.registry
    return DiagnosisView(
        graph=c.graph,
        reference=c.reference,
        imported=c.imported,
        target=c.target,
        rule=c.rule,
        placement=c.placement,
        plan=c.plan,
        options=c.options,
        ranges=c.ranges,
        prequantized=c.prequantized,
        calibrated=frozenset(c.collected.infos if c.collected else ()),
        calibrator=c.calibrator,
        pipelines=c.pipelines,
        statistics=c.collected,
        solved=c.solved,
        frames=c.measurement.frames,
        errors=errors,
        histograms=c.measurement.histograms,
        outputs_db=min((sums.sqnr_db for sums in outputs.values()), default=math.inf),
        worst=worst,
        parts=parts,
        available={
            kind: frozenset(spec.name for spec in registry.all(record)) for kind, record in SPEC_KINDS.items()
        },
    )
