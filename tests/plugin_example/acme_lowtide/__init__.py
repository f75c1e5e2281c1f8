"""The plugin: three records and nothing else, so that finding it costs nothing."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import CalibratorSpec, PassSpec, TargetSpec, hookimpl


@hookimpl
def lowtide_register_calibrators() -> Iterable[CalibratorSpec]:
    return [
        CalibratorSpec(
            name="headroom",
            summary="the observed range and a margin",
            implementation="acme_lowtide.headroom:Headroom",
        )
    ]


@hookimpl
def lowtide_register_targets() -> Iterable[TargetSpec]:
    return [
        TargetSpec(
            name="acme-box",
            summary="an AM68A without transposed convolutions",
            implementation="acme_lowtide:box.toml",
        )
    ]


@hookimpl
def lowtide_register_passes() -> Iterable[PassSpec]:
    return [
        PassSpec(
            name="acme-clamp-weights",
            summary="clamp weights to a limit",
            implementation="acme_lowtide.clamp:ClampWeights",
        )
    ]
