from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from lowtide.errors import LowtideError
from lowtide.frontend import ImportRequest
from lowtide.ir import Array, Graph
from lowtide.runtime import Session, to_model
from lowtide_plugins.frontends.onnx_format.importer import OnnxFrontend
from unit.passes_builtin.equivalence import PREPARE, deviation, ops, run_passes

ROOT = os.environ.get("LOWTIDE_REAL_DATA")
MODELS = sorted(Path(ROOT, "models").glob("*.onnx")) if ROOT else []
CLEAN = ("mobilenet", "resnet")

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not MODELS, reason="LOWTIDE_REAL_DATA names no folder with models"),
]


def load(path: Path) -> Graph:
    """A float network; one that the frontend refuses, or that has codes in it, is skipped."""
    try:
        graph = OnnxFrontend().load(path, ImportRequest())
    except LowtideError as error:
        pytest.skip(f"not imported: {error.message}")
    if "DequantizeLinear" in ops(graph) or any(value.type.quant for value in graph.values.values()):
        pytest.skip("quantized already")
    return graph


def feeds(graph: Graph) -> dict[str, Array]:
    random = np.random.default_rng(0)
    return {
        value.name: random.uniform(0, 1, value.type.static_shape).astype(value.type.dtype.numpy)
        for value in graph.inputs
    }


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_real_network_keeps_all_tensors_that_survive(path: Path) -> None:
    graph = load(path)
    original, given = graph.clone(), feeds(graph)
    run_passes(graph, PREPARE)
    names = [
        value.name
        for node in graph
        for value in node.outputs
        if value.name in original.values and original.values[value.name].type == value.type
    ]
    assert {value.name for value in original.outputs} <= set(names)
    before, after = (
        Session(to_model(made, quantized=False, outputs=names)).run(given) for made in (original, graph)
    )
    error = deviation(before, after)
    print(f"{path.stem}: {len(original)} -> {len(graph)} nodes, largest relative error {error:.1e}")
    assert error < 1e-4
    if any(word in path.stem for word in CLEAN):
        assert not {"BatchNormalization", "Identity"} & set(ops(graph))
