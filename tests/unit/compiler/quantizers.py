"""The demo network as ONNX Runtime's quantizer writes it, in the styles of several tools."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from support import CALIBRATION, MODEL, TEST

STYLES: dict[str, dict[str, Any]] = {
    "u8s8": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True},
    "s8s8": {
        "activation_type": QuantType.QInt8,
        "weight_type": QuantType.QInt8,
        "extra_options": {"ActivationSymmetric": True},
    },
    "u8u8": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8},
    "a16w8": {"activation_type": QuantType.QUInt16, "weight_type": QuantType.QInt8},
    # Scales at the inputs of products alone, as a runtime that fuses all the rest wants them.
    "inputs": {
        "activation_type": QuantType.QInt8,
        "weight_type": QuantType.QInt8,
        "per_channel": True,
        "op_types_to_quantize": ["Conv", "Gemm"],
        "extra_options": {
            "ActivationSymmetric": True,
            "OpTypesToExcludeOutputQuantization": ["Conv", "Gemm"],
        },
    },
}


class _Frames:
    """All that the quantizer wants of a CalibrationDataReader."""

    def __init__(self) -> None:
        self.frames: Iterator[NDArray[Any]] = iter(images(CALIBRATION)[:24])

    def get_next(self) -> Any:
        frame = next(self.frames, None)
        return None if frame is None else {"image": frame[np.newaxis]}


def images(path: Path = TEST) -> NDArray[Any]:
    """Frames of the demo, float32 [N, 1, 16, 16]."""
    with np.load(path) as data:
        found: NDArray[Any] = data["image"].astype(np.float32)
    return found


def labels() -> NDArray[Any]:
    """The digits on the test frames."""
    with np.load(TEST) as data:
        found: NDArray[Any] = data["labels"]
    return found


def quantized(folder: Path, style: str) -> Path:
    """Write the demo network quantized."""
    logging.disable(logging.WARNING)  # it advises to preprocess what has been
    try:
        ready, made = folder / "ready.onnx", folder / f"{style}.onnx"
        quant_pre_process(str(MODEL), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready), str(made), cast(Any, _Frames()), quant_format=QuantFormat.QDQ, **STYLES[style]
        )
    finally:
        logging.disable(logging.NOTSET)
    return made


def in_runtime(model: Path, frames: NDArray[Any]) -> NDArray[Any]:
    """What ONNX Runtime computes, every operator as the model has it."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(model), options)
    name = session.get_inputs()[0].name
    return np.concatenate([np.asarray(session.run(None, {name: frame[np.newaxis]})[0]) for frame in frames])


def weight_codes(model: Path) -> list[bytes]:
    """The codes of all 8-bit weights of a file."""
    graph = onnx.load(str(model)).graph
    known = {tensor.name: tensor for tensor in graph.initializer}
    read = [node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"]
    arrays = [numpy_helper.to_array(known[name]) for name in read if name in known]
    return sorted(array.tobytes() for array in arrays if array.dtype.itemsize == 1 and array.ndim)
