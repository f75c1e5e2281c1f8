"""Published models: what is read computes what the runtimes of its format compute."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import lowtide
from lowtide.errors import UnsupportedModelError
from lowtide.frontend import ImportRequest, load_model
from lowtide.ir import Array, Graph
from lowtide.plugin import discover
from lowtide.quantize.codes import quantized_activations
from lowtide.runtime import Session, to_model
from support import needs_integer_kernels

pytestmark = [pytest.mark.real, pytest.mark.conformance]

REGISTRY = discover()
ROOT = os.environ.get("LOWTIDE_REAL_DATA")
REFUSED = {
    "coral_keras_lstm_mnist_ptq.tflite": "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "tflm_dtln_int8.tflite": "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "tflm_mnist_lstm_float.tflite": "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "tflm_mnist_lstm_int8.tflite": "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "portrait_mnv3_seg_quant.tflite": "zero points other than 0",
    "superres_with_prepost_op18.onnx": "DecodeImage",
}
DYNAMIC = ("dtln_model_quant_1", "mlperf_ad_toycar_dynrange", "mlperf_kws_dscnn_float")
"""Models whose kernels round activations while they run; here their weights are plain numbers."""


def models(suffix: str) -> list[Path]:
    return sorted((Path(ROOT) / "models").glob(f"*{suffix}")) if ROOT else []


def loaded(path: Path) -> Graph:
    return load_model(path, REGISTRY, ImportRequest())


def random_feeds(graph: Graph, seed: int) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for value in graph.inputs:
        shape, dtype = value.type.static_shape, value.type.dtype
        if dtype.is_float:
            feeds[value.name] = generator.uniform(-1, 1, shape).astype(dtype.numpy)
        else:
            feeds[value.name] = generator.integers(dtype.min, dtype.max, shape, endpoint=True).astype(
                dtype.numpy
            )
    return feeds


def reference(path: Path) -> Any:
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(
        str(path), experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()

    def run(feeds: dict[str, Array]) -> dict[str, Array]:
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], feeds[detail["name"]])
        interpreter.invoke()
        return {
            detail["name"]: interpreter.get_tensor(detail["index"])
            for detail in interpreter.get_output_details()
        }

    return run


@pytest.mark.parametrize("path", models(".tflite"), ids=lambda path: path.stem)
def test_a_tflite_model_computes_what_the_reference_kernels_compute_or_is_refused_by_operator(
    path: Path,
) -> None:
    if path.name in REFUSED:
        with pytest.raises(UnsupportedModelError, match=REFUSED[path.name]):
            loaded(path)
        return
    graph = loaded(path)
    run = reference(path)
    result: lowtide.CompileResult | None = None
    if quantized_activations(graph):
        result = lowtide.compile(path, target="generic", registry=REGISTRY)
        assert result.report.device.scale_type == 3
        assert result.device.profile.name == "tflite"
    session = Session(to_model(graph, quantized=True))
    for seed in range(2):
        feeds = random_feeds(graph, seed)
        expected = run(feeds)
        found = result.run(feeds, mode="exact") if result is not None else session.run(feeds)
        compared = 0
        for name, array in found.items():
            if name not in expected:
                continue  # the network ends before an operator that stays on the host
            compared += 1
            assert array.shape == expected[name].shape
            if result is not None:
                assert np.array_equal(array, expected[name]), name
            else:
                bound = 0.05 if path.stem in DYNAMIC else 1e-4
                scale = max(float(np.abs(expected[name]).max()), 1e-6)
                assert np.abs(array - expected[name]).max() <= bound * scale, name
        assert compared


@pytest.mark.parametrize("path", models(".tflite"), ids=lambda path: path.stem)
def test_no_transposition_is_left_between_convolutions(path: Path) -> None:
    if path.name in REFUSED:
        pytest.skip("refused")
    graph = loaded(path)
    for node in graph:
        if node.op != "Transpose":
            continue
        source = node.value(0).producer
        readers = node.output.users
        if source is None or not readers:
            continue  # at an end of the network, which keeps the layout of the file
        assert not {source.op, *(reader.op for reader in readers)} <= {
            "Add",
            "Clip",
            "Conv",
            "MaxPool",
            "Relu",
        }


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=needs_integer_kernels if "_qop_u8s8" in path.stem else ())
        for path in models(".onnx")
        if path.stem.startswith("ortq")
    ],
    ids=lambda path: path.stem,
)
def test_a_quantized_onnx_model_gives_the_same_codes_after_a_round_trip(path: Path, tmp_path: Path) -> None:
    result = lowtide.compile(path, target="generic", registry=REGISTRY)
    result.save(tmp_path / "out")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    before = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    after = ort.InferenceSession(tmp_path / "out" / "model.onnx", options, providers=["CPUExecutionProvider"])
    for seed in range(3):
        feeds = random_feeds(result.graph, seed)
        expected, found = (np.asarray(session.run(None, feeds)[0]) for session in (before, after))
        if "_qop_" in path.stem:
            # Quantized operators round their products in another way than the float ones between pairs.
            assert int(expected.argmax()) == int(found.argmax())
        else:
            assert np.array_equal(expected, found)
