"""Takes a name that comes with Lowtide, under an entry point that is sorted first."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import CalibratorSpec, hookimpl


@hookimpl
def lowtide_register_calibrators() -> Iterable[CalibratorSpec]:
    return [CalibratorSpec(name="minmax", summary="s", implementation="fake:Range")]
