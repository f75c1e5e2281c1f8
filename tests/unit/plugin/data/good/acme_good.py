"""A plugin that contributes records and observes."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import CalibratorSpec, PassSpec, TargetSpec, hookimpl


@hookimpl
def lowtide_register_calibrators() -> Iterable[CalibratorSpec]:
    return [
        CalibratorSpec(name="acme-range", summary="from 0 to 1", implementation="acme_good_parts:UnitRange"),
        CalibratorSpec(name="acme-lost", summary="is not there", implementation="acme_nowhere:Lost"),
        CalibratorSpec(name="acme-absent", summary="is not in it", implementation="acme_good_parts:Absent"),
        CalibratorSpec(name="acme-plain", summary="no attrs", implementation="acme_good_parts:Plain"),
        CalibratorSpec(name="acme-partial", summary="no range", implementation="acme_good_parts:Partial"),
        CalibratorSpec(name="acme-number", summary="no class", implementation="acme_good_parts:NUMBER"),
        CalibratorSpec(name="acme-crash", summary="no module", implementation="acme_good_crash:Anything"),
    ]


@hookimpl
def lowtide_register_passes() -> Iterable[PassSpec]:
    yield PassSpec(name="acme-misnamed", summary="another name", implementation="acme_good_parts:Misnamed")


@hookimpl
def lowtide_register_targets() -> Iterable[TargetSpec]:
    return (
        TargetSpec(
            name="acme-device", summary="a device", implementation="acme_good:device.toml", aliases=("acme",)
        ),
    )
