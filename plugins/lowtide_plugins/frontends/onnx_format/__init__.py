"""ONNX files."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import FrontendSpec, hookimpl


@hookimpl
def lowtide_register_frontends() -> Iterable[FrontendSpec]:
    """Contribute ``onnx``."""
    return [
        FrontendSpec(
            name="onnx",
            summary="ONNX models, opset 7 and newer",
            suffixes=(".onnx",),
            implementation="lowtide_plugins.frontends.onnx_format.importer:OnnxFrontend",
        )
    ]
