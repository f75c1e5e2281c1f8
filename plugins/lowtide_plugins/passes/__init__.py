"""Built-in passes that bring a float network into the form that devices execute."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import PassSpec, hookimpl

_PASSES = {
    "fold-qdq": ("fold QuantizeLinear and DequantizeLinear into types", "quantization:FoldQdq"),
    "drop-inner-codes": ("take out quantization inside a layer", "quantization:DropInnerCodes"),
    "infer-shapes": ("infer dtype and shape of every tensor", "housekeeping:InferShapes"),
    "prune": ("remove nodes and constants that reach no output", "housekeeping:Prune"),
    "fold-constants": ("evaluate nodes whose operands are all known", "constants:FoldConstants"),
    "fold-batch-norm": (
        "fold batch normalization into the weights beside it",
        "batch_norm:FoldBatchNorm",
    ),
    "fold-scale-shift": (
        "fold constant factors and offsets into the weights beside them",
        "scale_shift:FoldScaleShift",
    ),
    "fold-input-normalization": (
        "let the network take raw pixels: fold mean and scale into the first layer",
        "input_normalization:FoldInputNormalization",
    ),
    "remove-identity": ("remove nodes that change nothing", "identity:RemoveIdentity"),
    "merge-pads": ("move zero padding into convolutions and pools", "pads:MergePads"),
    "merge-transposes": ("cancel and compose transpositions", "transposes:MergeTransposes"),
    "merge-reshapes": ("compose changes of shape", "reshapes:MergeReshapes"),
    "decompose": ("bring operators into canonical form", "decompose:Decompose"),
    "fuse-layers": ("group nodes that the device executes as one layer", "layers:FuseLayers"),
}


@hookimpl
def lowtide_register_passes() -> Iterable[PassSpec]:
    """Contribute the prepare passes."""
    return [
        PassSpec(name=name, summary=summary, implementation=f"lowtide_plugins.passes.{reference}")
        for name, (summary, reference) in _PASSES.items()
    ]
