"""Writes the protos."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from lowtide.emit import Emitter
from lowtide.errors import OutputError
from lowtide_plugins.tidl_proto.build import build
from lowtide_plugins.tidl_proto.text import print_net

if TYPE_CHECKING:
    from lowtide.compiler.result import CompileResult

NAME = "quant_params.prototxt"


@attrs.frozen
class TidlProtoEmitter(Emitter):
    """Writes ``quant_params.prototxt`` for the vendor's devices, numbered when there are several parts."""

    def emit(self, result: CompileResult, folder: Path) -> tuple[str, ...]:
        """See `Emitter.emit`."""
        texts = _texts(result, Path(NAME))
        for path, text in texts.items():
            (folder / path).write_text(text, "utf-8")
        return tuple(str(path) for path in texts)


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


def _write(path: Path, text: str) -> None:
    """In one step, so that nobody finds half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
            file.write(text)
        os.chmod(file.name, 0o644)  # noqa: PTH101 - a temporary file is readable by its owner only
        Path(file.name).replace(path)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", place=str(path)) from error
