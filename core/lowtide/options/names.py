"""Further names: of older tools, other spellings, and of what stands among options and is none."""

from __future__ import annotations

from collections.abc import Mapping

from lowtide.options.schema import A

OLD_NAMES: Mapping[str, str] = {
    "numParamBits": "tensor_bits",
    "numFeatureBits": "tensor_bits",
    "calibrationOption": "accuracy_level",
    "quantizationStyle": f"{A}quantization_scale_type",
    "biasCalibrationIterations": f"{A}calibration_iterations",
    "numFrames": f"{A}calibration_frames",
    "outputFeature16bitNamesList": f"{A}output_feature_16bit_names_list",
    "params16bitNamesList": f"{A}params_16bit_names_list",
    "mixedPrecisionFactor": f"{A}mixed_precision_factor",
    "foldBnInConv2D": f"{A}pre_batchnorm_fold",
}
"""Names of older tools, with the present ones; refused, since their values have other meanings."""

ALIASES: Mapping[str, str] = {"deny_list": "deny_list_layer_type"}
"""Further spellings of the vendor's that are still in use, with the field that they mean."""

SCRIPT_KEYS = frozenset({"import", "info"})
"""Entries among the vendor's options that only its scripts read.

``import`` chooses between compiling and running; ``info`` tells of the model, see `LoadedOptions.info`.
"""
