"""The real networks of the data folder with their frames and metrics, for benchmarks.

The folder holds ``models``, data sets, and ``eval`` with scripts that offer ``load_data`` and ``metric``.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

import lowtide
from lowtide.compiler.run import session_of
from lowtide.ir import Array, Graph
from lowtide.measure import ErrorSum

Outputs = Mapping[str, Array]
SQNR_FRAMES = 100
Sample = tuple[Array, Any]
"""A frame without the batch axis, and what its metric needs beside the outputs."""


@attrs.frozen
class Network:
    """A trained network with data.

    Attributes:
        model: its file.
        metric: the name of its metric.
        calibration: makes the calibration frames, without the batch axis.
        test: makes the test samples.
        judge: the metric of the outputs of all test samples.
        goals: required metric by device and scale type, as the project set itself.
    """

    name: str
    model: Path
    metric: str
    calibration: Callable[[], Iterable[Array]]
    test: Callable[[], Iterable[Sample]]
    judge: Callable[[Sequence[tuple[Outputs, Any]]], float]

    def frames(self, count: int) -> Array:
        """The first `count` calibration frames, one array."""
        found: list[Array] = []
        for frame in self.calibration():
            found.append(frame)
            if len(found) == count:
                break
        return np.stack(found)


def sqnr(network: Network, result: lowtide.CompileResult, mode: Any) -> float:
    """10 log10(sum f^2 / sum (f - q)^2) of logits or raw outputs, in dB, the mean over outputs."""
    plain = session_of(_before_softmax(result.reference), "float")
    fixed = session_of(_before_softmax(result.graph), mode, result.device)
    source = result.graph.inputs[0].name
    sums: list[ErrorSum] = []
    for x, _ in itertools.islice(network.test(), SQNR_FRAMES):
        feeds = {source: np.ascontiguousarray(x)[None]}
        pairs = list(zip(plain.run(feeds).values(), fixed.run(feeds).values(), strict=True))
        sums = sums or [ErrorSum() for _ in pairs]
        for total, (real, made) in zip(sums, pairs, strict=True):
            total.add(real, made)
    return float(np.mean([total.sqnr_db for total in sums]))


def _before_softmax(graph: Graph) -> Graph:
    """The network without a Softmax at its end, as other tools are measured."""
    made = graph.clone()
    makers = [value.producer for value in made.outputs]
    made.set_outputs(
        [
            maker.value(0) if maker is not None and maker.op == "Softmax" else value
            for value, maker in zip(made.outputs, makers, strict=True)
        ]
    )
    made.prune()
    return made


def networks(data: Path) -> dict[str, Network]:
    """All of them by short name."""
    sys.path.insert(0, str(data / "eval"))
    models = data / "models"
    found = [
        *(_imagenet(name, models / file, offset) for name, file, offset in _IMAGENET),
        *(_cifar(name, models / file, prep) for name, file, prep in _CIFAR),
        _scores("vww", models / "mlperf_vww_mobilenetv1.onnx", "vww", {"prep": "unit_nchw"}),
        _scores("kws", models / "alibaba_kws.onnx", "kws", {}),
        _yolox(models / "yolox_nano_416.onnx"),
        _yunet(models / "yunet_n_320_320.onnx"),
        _ultraface(models / "ultraface_rfb_320.onnx"),
        _superres(models / "superres_x3_224.onnx"),
    ]
    return {network.name: network for network in found}


_IMAGENET = (
    ("mobilenet_v1_025", "mobilenet_v1_0.25_224.onnx", 0),
    ("mobilenet_v1_075", "mobilenet_v1_0.75_224.onnx", 0),
    ("mobilenet_v2", "mobilenet_v2_1.0_224_dequant_ptq.onnx", 1),
)
_CIFAR = (
    ("resnet20", "cifar10_resnet20.onnx", "torch_nchw"),
    ("resnet56", "cifar10_resnet56.onnx", "torch_nchw"),
    ("resnet8", "mlperf_resnet8_cifar10.onnx", "raw_nchw"),
)


def _only(outputs: Outputs) -> Array:
    return next(iter(outputs.values()))


def _imagenet(name: str, model: Path, offset: int) -> Network:
    script: Any = importlib.import_module("imagenet")

    def judge(pairs: Sequence[tuple[Outputs, Any]]) -> float:
        return float(script.metric([(_only(o), label) for o, label in pairs], offset)["top1"])

    return Network(
        name,
        model,
        "top1",
        lambda: (x for x, _ in script.load_data("calib", "tf_nchw")),
        lambda: script.load_data("test", "tf_nchw"),
        judge,
    )


def _cifar(name: str, model: Path, prep: str) -> Network:
    return _scores(name, model, "cifar10", {"prep": prep})


def _scores(name: str, model: Path, module: str, options: dict[str, str]) -> Network:
    script: Any = importlib.import_module(module)
    return Network(
        name,
        model,
        "accuracy",
        lambda: (x for x, _ in script.load_data("calib", **options)),
        lambda: script.load_data("test", **options),
        lambda pairs: float(script.metric([(_only(o), label) for o, label in pairs])["acc"]),
    )


def _yolox(model: Path) -> Network:
    script: Any = importlib.import_module("coco_det")

    def test() -> Iterable[Sample]:
        for image, boxes, classes, _ in script.load_data("test"):
            x, scale = script.yolox_prep(image)
            yield x, (scale, boxes, classes)

    def judge(pairs: Sequence[tuple[Outputs, Any]]) -> float:
        results = [
            (*script.yolox_post(script.yolox_decode(_only(o).reshape(-1, 85)), scale), boxes, classes)
            for o, (scale, boxes, classes) in pairs
        ]
        return float(script.ap(results)["map"])

    calibration = lambda: (script.yolox_prep(sample[0])[0] for sample in script.load_data("calib"))  # noqa: E731
    return Network("yolox_nano", model, "mAP", calibration, test, judge)


def _yunet(model: Path) -> Network:
    script: Any = importlib.import_module("faces")

    def test() -> Iterable[Sample]:
        for image, boxes, _ in script.load_data("test"):
            x, scale = script.yunet_prep(image, 320)
            yield x, (scale, boxes)

    def judge(pairs: Sequence[tuple[Outputs, Any]]) -> float:
        found = [(*script.yunet_post(o, 320, scale), boxes) for o, (scale, boxes) in pairs]
        return float(script.metric(found)["ap50"])

    calibration = lambda: (script.yunet_prep(s[0], 320)[0] for s in script.load_data("calib"))  # noqa: E731
    return Network("yunet", model, "AP50", calibration, test, judge)


def _ultraface(model: Path) -> Network:
    script: Any = importlib.import_module("faces")

    def test() -> Iterable[Sample]:
        for image, boxes, _ in script.load_data("test"):
            yield script.ultra_prep(image, 320, 240), (image.shape[:2], boxes)

    def judge(pairs: Sequence[tuple[Outputs, Any]]) -> float:
        found = [(*script.ultra_post(list(o.values()), shape), boxes) for o, (shape, boxes) in pairs]
        return float(script.metric(found)["ap50"])

    calibration = lambda: (script.ultra_prep(s[0], 320, 240) for s in script.load_data("calib"))  # noqa: E731
    return Network("ultraface", model, "AP50", calibration, test, judge)


def _superres(model: Path) -> Network:
    script: Any = importlib.import_module("superres")

    def judge(pairs: Sequence[tuple[Outputs, Any]]) -> float:
        found = [
            (script.psnr(np.clip(np.round(_only(o)[0, 0] * 255), 0, 255), truth), 0.0) for o, truth in pairs
        ]
        return float(script.metric(found)["psnr_y"])

    return Network(
        "superres",
        model,
        "PSNR",
        lambda: (sample[0] for sample in script.load_data("calib")),
        lambda: ((x, truth) for x, truth, _ in script.load_data("test")),
        judge,
    )
