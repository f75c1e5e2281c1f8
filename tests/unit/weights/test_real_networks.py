"""Equalization of trained networks on the frames that their publishers meant."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lowtide.compiler.run import input_specs
from lowtide.data import open_data
from lowtide.frontend import ImportRequest
from lowtide.ir import Array
from lowtide.passes import PassContext
from lowtide.runtime import Session, to_model
from lowtide_plugins.frontends.onnx_format.importer import OnnxFrontend
from lowtide_plugins.weights.equalize import Equalize
from unit.passes_builtin.equivalence import PREPARE, run_passes

ROOT = os.environ.get("LOWTIDE_REAL_DATA")

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not ROOT, reason="LOWTIDE_REAL_DATA names no folder with models"),
]

NETWORKS = (
    ("mobilenet_v1_0.25_224.onnx", "imagenet", ("calib", "tf_nchw")),
    ("mobilenet_v2_1.0_224_dequant_ptq.onnx", "imagenet", ("calib", "tf_nchw")),
    ("cifar10_resnet20.onnx", "cifar10", ("calib", "torch_nchw")),
)


def frames(module: str, arguments: tuple[str, str], count: int) -> list[Array]:
    assert ROOT is not None
    folder = str(Path(ROOT, "eval"))
    if folder not in sys.path:
        sys.path.insert(0, folder)
    script: Any = importlib.import_module(module)
    return [
        np.ascontiguousarray(x, np.float32)[np.newaxis]
        for x, _ in itertools.islice(script.load_data(*arguments), count)
    ]


@pytest.mark.parametrize(("file", "module", "arguments"), NETWORKS, ids=[entry[0] for entry in NETWORKS])
def test_an_equalized_network_computes_the_same_on_the_frames_that_it_was_made_with(
    file: str, module: str, arguments: tuple[str, str]
) -> None:
    assert ROOT is not None
    graph = OnnxFrontend().load(Path(ROOT, "models", file), ImportRequest())
    run_passes(graph, PREPARE)
    arrays = frames(module, arguments, 8)
    name = graph.inputs[0].name
    made = graph.clone()
    source = open_data(np.stack(arrays), input_specs(graph))
    assert Equalize(frames=8).run(made, PassContext(frames=source)).changed
    before, after = (Session(to_model(network, quantized=False)) for network in (graph, made))
    for array in arrays:
        results = zip(before.run({name: array}).values(), after.run({name: array}).values(), strict=True)
        for real, scaled in results:
            assert np.abs(real - scaled).max() <= 1e-4 * np.abs(real).max()
