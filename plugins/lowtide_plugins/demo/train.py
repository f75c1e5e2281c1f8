# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy>=1.26", "onnx>=1.18", "scikit-learn>=1.5", "torch>=2.4"]
# ///
# The type checkers run without PyTorch and without scikit-learn, which only this script needs:
# mypy: disable-error-code="import-not-found"
# pyright: reportMissingImports=false, reportMissingTypeStubs=false
"""Makes the network and the frames of the demo: `uv run train.py --output DIR`.

Nothing of Lowtide imports this module; it is kept so that the shipped files can be made again and checked.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

SEED = 20
EPOCHS = 100
BATCH = 32
CLASSES = 10
TEST_FRAMES = 360
CALIBRATION_FRAMES = 100
EPSILON = 1e-5
OPSET = 13
IR_VERSION = 8

CREDIT = (
    "Trained on the handwritten digits of E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository, "
    "https://doi.org/10.24432/C50P49, CC BY 4.0."
)

Indices = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float32]
Tensors = Mapping[str, Floats]


class Unit(NamedTuple):
    """A convolution with its batch normalization and what follows it.

    Attributes:
        stride: of both axes; the padding keeps `ceil(size / stride)`.
        groups: equal to `inputs` for a depthwise convolution.
        activation: `relu6` or `relu`.
        shortcut: name of the unit whose output is added before the activation, or empty.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int
    groups: int
    activation: str
    shortcut: str = ""


NETWORK = (
    Unit("stem", 1, 16, 3, 1, 1, "relu6"),
    Unit("block1/depthwise", 16, 16, 3, 2, 16, "relu6"),
    Unit("block1/pointwise", 16, 32, 1, 1, 1, "relu"),
    Unit("block2/depthwise", 32, 32, 3, 1, 32, "relu6"),
    Unit("block2/pointwise", 32, 32, 1, 1, 1, "relu", shortcut="block1/pointwise"),
    Unit("block3/depthwise", 32, 32, 3, 2, 32, "relu6"),
    Unit("block3/pointwise", 32, 64, 1, 1, 1, "relu"),
)


class Frames(NamedTuple):
    """Frames `[N, 1, 16, 16]` uint8 and their labels `[N]` uint8."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]

    def save(self, path: Path) -> None:
        """Write the compressed archive, whose `image` is named like the input of the network."""
        np.savez_compressed(path, image=self.images, labels=self.labels)


class Split(NamedTuple):
    """The three parts of the data; the calibration frames are some of the training frames."""

    train: Frames
    calibration: Frames
    test: Frames


def load_split() -> Split:
    """The digits in stratified parts, scaled from 0..16 to 0..255 and each pixel doubled to fill 16x16."""
    # Imported by name, since the type checkers run where scikit-learn is not installed.
    datasets = cast(Any, importlib.import_module("sklearn.datasets"))
    selection = cast(Any, importlib.import_module("sklearn.model_selection"))
    digits = datasets.load_digits()
    small = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, np.newaxis]
    images = small.repeat(2, axis=2).repeat(2, axis=3)
    labels = digits.target.astype(np.uint8)
    split: Callable[..., tuple[Indices, Indices]] = selection.train_test_split
    every = np.arange(len(labels))
    training, test = split(every, test_size=TEST_FRAMES, stratify=labels, random_state=SEED)
    _, calibration = split(
        training, test_size=CALIBRATION_FRAMES, stratify=labels[training], random_state=SEED
    )
    return Split(*(Frames(images[chosen], labels[chosen]) for chosen in (training, calibration, test)))


def train(frames: Frames) -> dict[str, Floats]:
    """Train with momentum and a cosine schedule, on one thread so that every run gives the same weights.

    Returns:
        Every tensor by name: `stem/weight`, `stem/bn/scale`, `head/gemm/weight` and so on.
    """
    import torch  # noqa: PLC0415  # `--help` answers at once

    framework: Any = torch
    framework.manual_seed(SEED)
    framework.set_num_threads(1)
    framework.use_deterministic_algorithms(mode=True)
    net = _layers(framework.nn)
    images = framework.from_numpy(frames.images.astype(np.float32))
    labels = framework.from_numpy(frames.labels.astype(np.int64))
    optimizer = framework.optim.SGD(net.parameters(), lr=0.3, momentum=0.9, weight_decay=1e-5)
    schedule = framework.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for chosen in framework.randperm(len(labels)).split(BATCH):
            logits = _forward(framework, net, images[chosen])
            loss = framework.nn.functional.cross_entropy(logits, labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return _tensors(net)


def _layers(nn: Any) -> Any:
    layers = nn.ModuleDict()
    for unit in NETWORK:
        layers[unit.name] = nn.Conv2d(
            unit.inputs,
            unit.outputs,
            unit.kernel,
            unit.stride,
            padding=unit.kernel // 2,
            groups=unit.groups,
            bias=False,
        )
        layers[f"{unit.name}/bn"] = nn.BatchNorm2d(unit.outputs, eps=EPSILON)
    layers["head/gemm"] = nn.Linear(NETWORK[-1].outputs, CLASSES)
    return layers


def _forward(framework: Any, net: Any, images: Any) -> Any:
    activations = {"relu": framework.nn.functional.relu, "relu6": framework.nn.functional.relu6}
    value = images
    done: dict[str, Any] = {}
    for unit in NETWORK:
        value = net[f"{unit.name}/bn"](net[unit.name](value))
        if unit.shortcut:
            value = value + done[unit.shortcut]
        value = activations[unit.activation](value)
        done[unit.name] = value
    return net["head/gemm"](value.mean(dim=(2, 3)))


def _tensors(net: Any) -> dict[str, Floats]:
    onnx_names = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
    tensors: dict[str, Floats] = {}
    for name, tensor in net.state_dict().items():
        layer, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        leaf = onnx_names[leaf] if layer.endswith("/bn") else leaf
        tensors[f"{layer}/{leaf}"] = tensor.detach().numpy().astype(np.float32)
    return tensors


def build(tensors: Tensors) -> onnx.ModelProto:
    """The network in ONNX: input `image` `[N, 1, 16, 16]` float32 in 0..255, output `logits` `[N, 10]`.

    Batch normalization stays a node of its own, as in a network that nobody prepared for quantization.
    """
    nodes: list[onnx.NodeProto] = []
    value = "image"
    done: dict[str, str] = {}
    for unit in NETWORK:
        added, value = _unit_nodes(unit, value, done)
        nodes += added
        done[unit.name] = value
    nodes += _head_nodes(value)
    limits = {"relu6/min": np.float32(0), "relu6/max": np.float32(6)}
    constants = {**tensors, **{name: np.asarray(limit) for name, limit in limits.items()}}
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
        doc_string=CREDIT,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="lowtide demo",
        doc_string=CREDIT,
    )
    onnx.checker.check_model(model, full_check=True)  # pyright: ignore[reportUnknownMemberType]  # a bare PathLike
    return model


def _unit_nodes(unit: Unit, value: str, done: Mapping[str, str]) -> tuple[list[onnx.NodeProto], str]:
    """The nodes of a unit, each named like its output, and the name of the last output."""
    nodes: list[onnx.NodeProto] = []

    def add(op: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    value = add(
        "Conv",
        unit.name,
        [value, f"{unit.name}/weight"],
        kernel_shape=[unit.kernel] * 2,
        strides=[unit.stride] * 2,
        pads=[unit.kernel // 2] * 4,
        dilations=[1, 1],
        group=unit.groups,
    )
    normalization = f"{unit.name}/bn"
    statistics = [f"{normalization}/{leaf}" for leaf in ("scale", "bias", "mean", "var")]
    value = add("BatchNormalization", normalization, [value, *statistics], epsilon=EPSILON)
    if unit.shortcut:
        value = add("Add", f"{unit.name}/add", [value, done[unit.shortcut]])
    if unit.activation == "relu6":
        value = add("Clip", f"{unit.name}/relu6", [value, "relu6/min", "relu6/max"])
    else:
        value = add("Relu", f"{unit.name}/relu", [value])
    return nodes, value


def _head_nodes(value: str) -> list[onnx.NodeProto]:
    gemm = ["head/flatten", "head/gemm/weight", "head/gemm/bias"]
    return [
        helper.make_node("GlobalAveragePool", [value], ["head/pool"], name="head/pool"),
        helper.make_node("Flatten", ["head/pool"], ["head/flatten"], name="head/flatten", axis=1),
        helper.make_node("Gemm", gemm, ["logits"], name="head/gemm", transB=1),
    ]


def accuracy(model: onnx.ModelProto, frames: Frames) -> float:
    """Share of frames 0..1 whose largest logit is the label, by the reference implementation of ONNX."""
    evaluator = cast("Any", ReferenceEvaluator(model))
    logits: Floats = evaluator.run(None, {"image": frames.images.astype(np.float32)})[0]
    shares: npt.NDArray[np.bool_] = np.argmax(logits, axis=1) == frames.labels
    return float(np.mean(shares))


def main(argv: Sequence[str] | None = None) -> int:
    """Train, write `digits.onnx`, `digits_calib.npz` and `digits_test.npz`, and print the accuracy."""
    parser = argparse.ArgumentParser(description="Make the network and the frames of the demo.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, metavar="DIR")
    output: Path = parser.parse_args(argv).output
    split = load_split()
    model = build(train(split.train))
    output.mkdir(parents=True, exist_ok=True)
    (output / "digits.onnx").write_bytes(model.SerializeToString(deterministic=True))
    split.calibration.save(output / "digits_calib.npz")
    split.test.save(output / "digits_test.npz")
    shares = {"train": accuracy(model, split.train), "test": accuracy(model, split.test)}
    print("accuracy:", ", ".join(f"{part} {share:.4f}" for part, share in shares.items()))  # noqa: T201  # asked for
    return 0


if __name__ == "__main__":
    sys.exit(main())
