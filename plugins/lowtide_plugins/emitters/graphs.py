"""Both graphs in text form, and the float network: what is needed to work with an output folder later."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from lowtide.emit import Emitter
from lowtide.ir import print_graph
from lowtide.runtime import save_model

if TYPE_CHECKING:
    from lowtide.compiler.result import CompileResult


@attrs.frozen
class GraphsEmitter(Emitter):
    """Writes ``graph.ir`` (quantized), ``float.ir`` (prepared, float) and ``float.onnx``."""

    def emit(self, result: CompileResult, folder: Path) -> tuple[str, ...]:
        """See `Emitter.emit`."""
        (folder / "graph.ir").write_text(print_graph(result.graph), "utf-8")
        (folder / "float.ir").write_text(print_graph(result.reference), "utf-8")
        return ("graph.ir", "float.ir", *save_model(result.reference, folder / "float.onnx", quantized=False))
