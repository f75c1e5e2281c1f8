"""The vendor's quantization proto: written, read, compared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lowtide.plugin import ComparisonSpec, EmitterSpec, EncodingsSpec, hookimpl

if TYPE_CHECKING:
    from lowtide.compiler.result import CompileResult

_MODULE = "lowtide_plugins.tidl_proto"


@hookimpl
def lowtide_register_encodings() -> Iterable[EncodingsSpec]:
    """Contribute ``tidl-proto``."""
    return [
        EncodingsSpec(
            name="tidl-proto",
            summary="ranges, widths and biases of the file that quant_params_proto_path names",
            implementation=f"{_MODULE}.source:TidlProtoSource",
        )
    ]


@hookimpl
def lowtide_register_emitters() -> Iterable[EmitterSpec]:
    """Contribute ``tidl-proto``."""
    return [
        EmitterSpec(
            name="tidl-proto",
            summary="the quantization proto of every part on the accelerator",
            implementation=f"{_MODULE}.emitter:TidlProtoEmitter",
        )
    ]


@hookimpl
def lowtide_register_comparisons() -> Iterable[ComparisonSpec]:
    """Contribute ``tidl-proto``."""
    return [
        ComparisonSpec(
            name="tidl-proto",
            summary="ranges, scales, widths and biases of two quantization protos",
            suffixes=(".prototxt", ".txt"),
            implementation=f"{_MODULE}.compare:TidlProtoComparison",
        )
    ]


@hookimpl
def lowtide_compile_finished(result: CompileResult) -> None:
    """Write the file that quant_params_proto_path names, when it is not there yet."""
    from lowtide_plugins.tidl_proto.emitter import write_named  # noqa: PLC0415 - protobuf costs time

    write_named(result)
