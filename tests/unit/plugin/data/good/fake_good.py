"""A plugin that contributes records and observes."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import CalibratorSpec, PassSpec, TargetSpec, hookimpl


@hookimpl
def lowtide_register_calibrators() -> Iterable[CalibratorSpec]:
    return [
        CalibratorSpec(name="fake-range", summary="from 0 to 1", implementation="fake_good_parts:UnitRange"),
        CalibratorSpec(name="fake-lost", summary="is not there", implementation="fake_nowhere:Lost"),
        CalibratorSpec(name="fake-absent", summary="is not in it", implementation="fake_good_parts:Absent"),
        CalibratorSpec(name="fake-plain", summary="no attrs", implementation="fake_good_parts:Plain"),
        CalibratorSpec(name="fake-partial", summary="no range", implementation="fake_good_parts:Partial"),
        CalibratorSpec(name="fake-number", summary="no class", implementation="fake_good_parts:NUMBER"),
        CalibratorSpec(name="fake-crash", summary="no module", implementation="fake_good_crash:Anything"),
        CalibratorSpec(name="fake-exit", summary="no module", implementation="fake_good_exit:Anything"),
    ]


@hookimpl
def lowtide_register_passes() -> Iterable[PassSpec]:
    yield PassSpec(name="fake-misnamed", summary="another name", implementation="fake_good_parts:Misnamed")


@hookimpl
def lowtide_register_targets() -> Iterable[TargetSpec]:
    return (
        TargetSpec(
            name="fake-device", summary="a device", implementation="fake_good:device.toml", aliases=("fake",)
        ),
    )
