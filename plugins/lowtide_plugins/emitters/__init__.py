"""Built-in emitters."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import EmitterSpec, hookimpl

_MODULE = "lowtide_plugins.emitters"


@hookimpl
def lowtide_register_emitters() -> Iterable[EmitterSpec]:
    """Contribute the files of the output folder."""
    return [
        EmitterSpec(
            name="onnx-qdq",
            summary="the quantized network as ONNX with QuantizeLinear and DequantizeLinear",
            implementation=f"{_MODULE}.onnx_qdq:OnnxQdqEmitter",
        ),
        EmitterSpec(
            name="graphs",
            summary="the quantized and the float network in text form, and the float one as ONNX",
            implementation=f"{_MODULE}.graphs:GraphsEmitter",
        ),
        EmitterSpec(
            name="report-json",
            summary="the report as JSON",
            implementation=f"{_MODULE}.report_json:ReportJsonEmitter",
        ),
        EmitterSpec(
            name="report-html",
            summary="the report as one page",
            implementation=f"{_MODULE}.html:ReportHtmlEmitter",
        ),
        EmitterSpec(
            name="vendor-options",
            summary="the options for the vendor's runtime",
            implementation=f"{_MODULE}.vendor_options:VendorOptionsEmitter",
        ),
    ]
