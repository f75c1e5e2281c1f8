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
        texts = _texts(result, Path(NAME))
        for path, text in texts.items():
            (folder / path).write_text(text, "utf-8")
        names = tuple(str(path) for path in texts)
        return (*names, *_save_network(result, folder / NAME)) if texts else ()


def network_beside(proto: Path) -> Path:
    """Where the network is that a proto is for."""
    return proto.with_suffix(".onnx")


def _save_network(result: CompileResult, proto: Path) -> tuple[str, ...]:
    graph = result.graph.clone()
    remove_codes(graph)
    return save_model(graph, network_beside(proto), quantized=False)


def numbered(path: Path, count: int) -> tuple[Path, ...]:
    """The files of `count` parts: the path itself for one, ``stem_0.suffix`` and so on for several."""
    if count == 1:
        return (path,)
    return tuple(path.with_name(f"{path.stem}_{number}{path.suffix}") for number in range(count))


def _texts(result: CompileResult, path: Path) -> dict[Path, str]:
    if not result.target.vendor_layers:
        return {}
    nets = build(result)
    return dict(zip(numbered(path, len(nets)), map(print_net, nets), strict=True))


def write_named(result: CompileResult) -> None:
    """Write the files that the option quant_params_proto_path names, unless they are there.

    The network with these weights goes beside them, unless there is one.

    Raises:
        OutputError: when they cannot be written.
    """
    chosen = result.options.options.quant_params_proto_path
    if not chosen:
        return
    texts = _texts(result, Path(chosen))
    if any(path.exists() for path in texts):
        return
    for path, text in texts.items():
        _write(path, text)
    if texts and not network_beside(Path(chosen)).exists():
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
