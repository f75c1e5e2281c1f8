"""What the quantizer of ONNX Runtime makes of the same networks, frames and test samples as `accuracy.py`.

    python tests/benchmarks/peers.py DATA [--networks resnet20,vww] [--methods MinMax,Percentile]
        [--frames 100] [--limit 0]

It quantizes for a processor: zero points for every activation and a scale for each weight channel, biases of
32 bits, everything between codes in float. Metric and SQNR are measured as in `accuracy.py`, without fused
kernels, which saturate on processors without VNNI.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from networks import SQNR_FRAMES, Network, networks
from onnx import version_converter
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from lowtide.measure import ErrorSum

OPSET = 13
"""The first one with a scale for each channel."""


class Frames:
    """Calibration frames one by one, as ONNX Runtime asks for them."""

    def __init__(self, name: str, frames: Any) -> None:
        self.feeds = iter([{name: frame[None]} for frame in frames])

    def get_next(self) -> Any:
        """The next frame, or ``None``."""
        return next(self.feeds, None)


def with_logits(network: Network) -> onnx.ModelProto:
    """The model, with what a Softmax at its end reads as one more output."""
    model = onnx.load(network.model)
    if model.opset_import[0].version < OPSET:
        model = version_converter.convert_version(model, OPSET)
    made = {name: node for node in model.graph.node for name in node.output}
    for output in list(model.graph.output):
        maker = made.get(output.name)
        if maker is not None and maker.op_type == "Softmax":
            logits = onnx.helper.make_tensor_value_info(maker.input[0], onnx.TensorProto.FLOAT, None)
            model.graph.output.append(logits)
    return model


def quantized(model: onnx.ModelProto, frames: Any, method: str) -> bytes:
    """The QDQ model, serialized."""
    with tempfile.TemporaryDirectory() as folder:
        plain, ready, made = (str(Path(folder) / name) for name in ("plain.onnx", "ready.onnx", "made.onnx"))
        onnx.save(model, plain)
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        reader: Any = Frames(onnxruntime.InferenceSession(ready).get_inputs()[0].name, frames)
        quantization.quantize_static(
            ready,
            made,
            reader,
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=getattr(quantization.CalibrationMethod, method),
        )
        return Path(made).read_bytes()


def measure(network: Network, method: str, given: argparse.Namespace) -> str:
    """One line of the table."""
    model = with_logits(network)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain, fixed = (
        onnxruntime.InferenceSession(data, options)
        for data in (
            model.SerializeToString(),
            quantized(model, network.frames(given.frames), method),
        )
    )
    names = [output.name for output in plain.get_outputs()]
    ends = len(onnx.load(network.model, load_external_data=False).graph.output)
    judged = range(ends, len(names)) if len(names) > ends else range(ends)
    sums = [ErrorSum() for _ in judged]
    pairs: list[tuple[Any, Any]] = []
    for number, (x, label) in enumerate(itertools.islice(network.test(), given.limit or None)):
        feeds = {plain.get_inputs()[0].name: np.ascontiguousarray(x)[None]}
        real, made = (session.run(names, feeds) for session in (plain, fixed))
        if number < SQNR_FRAMES:
            for total, at in zip(sums, judged, strict=True):
                total.add(np.asarray(real[at]), np.asarray(made[at]))
        pairs.append((dict(zip(names[:ends], made[:ends], strict=True)), label))
    sqnr = float(np.mean([total.sqnr_db for total in sums]))
    return f"{network.name:18} {network.metric:9} {network.judge(pairs):8.4f} {sqnr:7.2f} dB  {method}"


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("data", type=Path)
    parser.add_argument("--networks", default="")
    parser.add_argument("--methods", default="MinMax,Percentile")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--limit", type=int, default=0, help="test samples; 0 is all")
    given = parser.parse_args(argv)
    logging.disable()
    known = networks(given.data)
    wanted = given.networks.split(",") if given.networks else list(known)
    for name in wanted:
        for method in given.methods.split(","):
            print(measure(known[name], method, given), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
