"""Both graphs in text form, and the float network: what is needed to work with an output folder later."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from lowtide.emit import Emitter
from lowtide.ir import Graph, print_graph
from lowtide.runtime import save_model

if TYPE_CHECKING:
    from lowtide.compiler.result import CompileResult


@attrs.frozen
class GraphsEmitter(Emitter):
    """Writes ``graph.ir`` (quantized), ``float.ir`` (prepared, float) and ``float.onnx``.

    Where passes of ``condition`` changed the float network, ``conditioned.ir`` and ``conditioned.onnx`` are
    what they made of it.
    """

    def emit(self, result: CompileResult, folder: Path) -> tuple[str, ...]:
        """See `Emitter.emit`."""
        (folder / "graph.ir").write_text(print_graph(result.graph), "utf-8")
        files = ["graph.ir", *_write_float(result.reference, folder, "float")]
        if result.conditioned is not result.reference:
            files += _write_float(result.conditioned, folder, "conditioned")
        return tuple(files)


def _write_float(graph: Graph, folder: Path, name: str) -> tuple[str, ...]:
    (folder / f"{name}.ir").write_text(print_graph(graph), "utf-8")
    return (f"{name}.ir", *save_model(graph, folder / f"{name}.onnx", quantized=False))
