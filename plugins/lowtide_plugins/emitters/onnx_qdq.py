"""The quantized network as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from lowtide.emit import Emitter
from lowtide.runtime import save_model

if TYPE_CHECKING:
    from lowtide.compiler.result import CompileResult


@attrs.frozen
class OnnxQdqEmitter(Emitter):
    """Writes ``model.onnx`` at opset 21; above 1.5 GB the constants go to ``model.onnx.data``.

    Weights are integers behind DequantizeLinear, biases int32 with input scale times weight scale;
    activations pass QuantizeLinear and DequantizeLinear behind the layer that makes them.
    """

    def emit(self, result: CompileResult, folder: Path) -> tuple[str, ...]:
        """See `Emitter.emit`."""
        return save_model(result.graph, folder / "model.onnx", quantized=True)
