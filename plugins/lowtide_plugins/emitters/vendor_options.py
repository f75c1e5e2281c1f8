"""The options for the vendor's runtime."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from lowtide.emit import Emitter
from lowtide.ir import layers
from lowtide.options import vendor_options
from lowtide.precision import WIDE, listed, precision_classes
from lowtide.target import layer_names

if TYPE_CHECKING:
    from lowtide.compiler.result import CompileResult

A = "advanced_options:"
OUTPUTS, PARAMETERS = f"{A}output_feature_16bit_names_list", f"{A}params_16bit_names_list"
FACTOR = f"{A}mixed_precision_factor"
ALLOWED, DENIED = "allow_list:layer_name", "deny_list:layer_name"


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
        decided |= _placement(result)
        decided.pop(FACTOR, None)  # the lists say what came of it, and a factor would have it searched again
        text = json.dumps(decided, indent=2, sort_keys=True)
        (folder / "tidl_options.json").write_text(text + "\n", "utf-8")
        return ("tidl_options.json",)


def _placement(result: CompileResult) -> dict[str, str]:
    """The list of layers that says what the device could run and is on the host, by names of nodes.

    With an allow list, which excludes the other, such layers leave it. A name that other layers have too, or
    that holds a separator, cannot be listed.
    """
    options, found = result.options.options, layers(result.graph)
    chosen = {entry.layer for entry in result.placement.assignments if entry.chosen}
    if not chosen:
        return {}
    named = layer_names(found)
    if options.allow_list_layer_name:
        kept = (name for name in options.allow_list_layer_name if not named[name] <= chosen)
        return {ALLOWED: ", ".join(kept)}
    names = (node.name for layer in found if layer.name in chosen for node in layer.nodes)
    new = (name for name in names if named[name] <= chosen and not re.search(r"[,\s]", name))
    return {DENIED: ", ".join(dict.fromkeys((*options.deny_list_layer_name, *new)))}


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
