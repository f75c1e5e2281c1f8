"""TFLite files."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import FrontendSpec, hookimpl


@hookimpl
def lowtide_register_frontends() -> Iterable[FrontendSpec]:
    """Contribute ``tflite``."""
    return [
        FrontendSpec(
            name="tflite",
            summary="TFLite models, float and integer",
            suffixes=(".tflite", ".lite"),
            implementation="lowtide_plugins.frontends.tflite_format.importer:TfliteFrontend",
        )
    ]
