"""A small network with batch normalization that tells coloured pictures apart, and pictures for it.

Its statistics are those of the pictures, as training would leave them, and its last layer is fitted to them
by least squares: so it works, and tells which order of channels and which scale it was made for.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

SIZE, CLASSES, CHANNELS = 20, 8, (3, 12, 24)
Pictures = NDArray[np.float32]


def pictures(count: int, seed: int) -> tuple[Pictures, NDArray[np.int64]]:
    """Pictures ``[count, 3, 20, 20]`` of 0…1, red first, each with a class that its colour decides."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    bits = np.stack([(labels >> channel) & 1 for channel in range(3)], axis=1)
    colour = np.array([0.5, 0.35, 0.25]) + bits * np.array([0.35, 0.3, 0.25])
    coarse = random.normal(0, 0.12, (count, 3, SIZE // 4 + 2, SIZE // 4 + 2))
    rows = np.linspace(0, coarse.shape[2] - 1.001, SIZE)
    low, part = rows.astype(int), (rows % 1)
    for axis in (2, 3):
        shape = [1, 1, 1, 1]
        shape[axis] = SIZE
        weight = part.reshape(shape)
        coarse = coarse.take(low, axis) * (1 - weight) + coarse.take(low + 1, axis) * weight
    found: Pictures = np.clip(colour[:, :, None, None] + coarse, 0, 1).astype(np.float32)
    return found, labels.astype(np.int64)


def _nodes() -> list[onnx.NodeProto]:
    made: list[onnx.NodeProto] = []
    value = "x"
    for number in (1, 2):
        norm = [f"c{number}", *(f"{part}{number}" for part in "sbmv")]
        strides = [number] * 2
        made += [
            helper.make_node("Conv", [value, f"w{number}"], [f"c{number}"], f"conv{number}", strides=strides),
            helper.make_node("BatchNormalization", norm, [f"n{number}"], f"bn{number}"),
            helper.make_node("Relu", [f"n{number}"], [f"r{number}"], f"relu{number}"),
        ]
        value = f"r{number}"
    return [
        *made,
        helper.make_node("GlobalAveragePool", [value], ["g"], "gap"),
        helper.make_node("Flatten", ["g"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "wf", "bf"], ["scores"], "fc"),
    ]


def _model(tensors: dict[str, NDArray[np.float32]], output: str) -> onnx.ModelProto:
    """The network up to a tensor."""
    nodes = _nodes()
    last = next(at for at, node in enumerate(nodes) if output in node.output)
    ends = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, SIZE, SIZE])]
    results = [helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)]
    constants = [numpy_helper.from_array(data, name) for name, data in tensors.items()]
    graph = helper.make_graph(nodes[: last + 1], "colours", ends, results, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@functools.cache
def network() -> onnx.ModelProto:
    """Two convolutions with batch normalization, a global average pool, and scores of 8 classes."""
    random = np.random.default_rng(3)
    frames, labels = pictures(160, 1)
    tensors: dict[str, NDArray[np.float32]] = {}

    def seen(output: str) -> NDArray[np.float32]:
        (found,) = ReferenceEvaluator(_model(tensors, output)).run(None, {"x": frames})
        return np.asarray(found)

    for number in (1, 2):
        inputs, outputs = CHANNELS[number - 1], CHANNELS[number]
        weights = random.normal(0, 1 / np.sqrt(inputs * 9), (outputs, inputs, 3, 3))
        tensors[f"w{number}"] = weights.astype(np.float32)
        before = seen(f"c{number}")
        tensors[f"m{number}"], tensors[f"v{number}"] = before.mean((0, 2, 3)), before.var((0, 2, 3))
        tensors[f"s{number}"], tensors[f"b{number}"] = np.ones(outputs, "f4"), np.full(outputs, 0.3, "f4")
    features = np.concatenate([seen("f"), np.ones((len(frames), 1))], axis=1)
    fitted, *_ = np.linalg.lstsq(features, 8 * np.eye(CLASSES)[labels], rcond=1e-4)
    tensors["wf"], tensors["bf"] = fitted[:-1].astype(np.float32), fitted[-1].astype(np.float32)
    return _model(tensors, "scores")


def save(folder: Path) -> Path:
    """The network as a file."""
    path = folder / "colours.onnx"
    onnx.save(network(), path)
    return path


def save_frames(path: Path, frames: NDArray[Any], labels: NDArray[Any] | None = None) -> Path:
    """Frames as one ``.npz``, with labels if there are any."""
    if labels is None:
        np.savez(path, x=frames)
    else:
        np.savez(path, x=frames, labels=labels)
    return path
