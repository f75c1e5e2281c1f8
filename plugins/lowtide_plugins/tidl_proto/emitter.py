"""Writes the protos, and the float network that they are for."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from lowtide.emit import Emitter
from lowtide.errors import OutputError
from lowtide.quantize.codes import remove_codes
from lowtide.runtime import save_model
from lowtide_plugins.tidl_proto.build import build
from lowtide_plugins.tidl_proto.files import description, named, network_file, numbered
from lowtide_plugins.tidl_proto.text import print_net

if TYPE_CHECKING:
    from lowtide.compiler.result import CompileResult

NAME = "quant_params.prototxt"


@attrs.frozen
class TidlProtoEmitter(Emitter):
    """Writes ``quant_params.prototxt`` for the vendor's devices, numbered when there are several parts.

    A proto holds scales and biases but no weights, and passes may have changed those. ``quant_params.onnx``
    is the float network whose weights are the codes times their scales: with it, the proto gives these codes.
    """

    def emit(self, result: CompileResult, folder: Path) -> tuple[str, ...]:
        """See `Emitter.emit`."""
        texts = _texts(result)
        paths = numbered(folder / NAME, len(texts))
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text, "utf-8")
        names = tuple(path.name for path in paths)
        return (*names, *_save_network(result, folder / NAME)) if texts else ()


def _save_network(result: CompileResult, proto: Path) -> tuple[str, ...]:
    path = network_file(proto, result.digests["model"])
    graph = result.graph.clone()
    remove_codes(graph, clamped=False)  # the proto has its layers and its ranges, which clamp
    return save_model(graph, path, quantized=False, description=description(proto))


def _texts(result: CompileResult) -> tuple[str, ...]:
    return tuple(map(print_net, build(result))) if result.target.vendor_layers else ()


def write_named(result: CompileResult) -> None:
    """Write the files that the option quant_params_proto_path names, unless they are there.

    The network with these weights goes beside them.

    Raises:
        OptionError: when the path is a folder, or the file of another number of parts.
        OutputError: when they cannot be written.
    """
    chosen = result.options.options.quant_params_proto_path
    if not chosen:
        return
    texts = _texts(result)
    paths = named(chosen, len(texts))
    if not texts or any(path.exists() for path in paths):
        return
    for path, text in zip(paths, texts, strict=True):
        _write(path, text)
    _save_network(result, Path(chosen))


def _write(path: Path, text: str) -> None:
    """In one step, so that nobody finds half a file."""
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            file.write(text)
        os.chmod(file.name, 0o644)  # noqa: PTH101 - a temporary file is readable by its owner only
        Path(file.name).replace(path)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", place=str(path)) from error
