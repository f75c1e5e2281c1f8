"""The options for the vendor's runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from lowtide.emit import Emitter
from lowtide.ir import layers
from lowtide.options import vendor_options
from lowtide.precision import WIDE, has_parameters

if TYPE_CHECKING:
    from lowtide.compiler.result import CompileResult

A = "advanced_options:"
OUTPUTS, PARAMETERS = f"{A}output_feature_16bit_names_list", f"{A}params_16bit_names_list"
FACTOR = f"{A}mixed_precision_factor"


@attrs.frozen
class VendorOptionsEmitter(Emitter):
    """Writes ``tidl_options.json`` for devices of that vendor, with the values of this compile."""

    def emit(self, result: CompileResult, folder: Path) -> tuple[str, ...]:
        """See `Emitter.emit`."""
        if not result.target.vendor_layers:
            return ()
        decided = vendor_options(result.options)
        decided["advanced_options:quantization_scale_type"] = result.report.device.scale_type
        decided |= _widths(result, decided)
        decided.pop(FACTOR, None)  # the lists say what came of it, and a factor would have it searched again
        text = json.dumps(decided, indent=2, sort_keys=True)
        (folder / "tidl_options.json").write_text(text + "\n", "utf-8")
        return ("tidl_options.json",)


def _widths(result: CompileResult, decided: dict[str, object]) -> dict[str, str]:
    """The two 16-bit lists by the names of fused layers, which are those of their last tensors.

    Names that hold a separator are left to the vendor's tool as they are: it has no way to quote them.
    """
    activations, weights = result.plan.activations, result.plan.weights
    narrow = result.options.options.tensor_bits
    if narrow == WIDE or WIDE not in {*activations.values(), *weights.values()}:
        return {key: "" for key in (OUTPUTS, PARAMETERS) if key in decided}
    outputs = [value.name for value in result.graph.inputs if activations.get(value.name) == WIDE]
    parameters: list[str] = []
    for layer in layers(result.graph):
        if any(activations.get(value.name) == WIDE for value in layer.outputs):
            outputs.append(layer.name)
        elif weights.get(layer.name) == WIDE and has_parameters(layer):
            parameters.append(layer.name)
    return {OUTPUTS: ", ".join(outputs), PARAMETERS: ", ".join(parameters)}
