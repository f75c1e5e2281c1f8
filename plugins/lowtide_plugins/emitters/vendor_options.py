"""The options for the vendor's runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from lowtide.emit import Emitter
from lowtide.options import vendor_options
from lowtide.precision import WIDE, listed, precision_classes

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
    """The two 16-bit lists by names of the model file: for a fused layer that of its last tensor.

    Names that hold a separator are left to the vendor's tool as they are: it has no way to quote them.
    """
    activations, weights = result.plan.activations, result.plan.weights
    narrow = result.options.options.tensor_bits
    if narrow == WIDE or WIDE not in {*activations.values(), *weights.values()}:
        return {key: "" for key in (OUTPUTS, PARAMETERS) if key in decided}
    classes = precision_classes(result.graph, result.target, result.placement)
    outputs, parameters = listed(result.plan, result.graph, classes)
    return {OUTPUTS: ", ".join(outputs), PARAMETERS: ", ".join(parameters)}
