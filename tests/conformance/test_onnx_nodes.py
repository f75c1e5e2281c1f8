"""ONNX's own node tests: every operator that the frontend takes is imported and executed as ONNX says."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lowtide.errors import LowtideError, UnsupportedModelError
from lowtide.frontend import ImportRequest
from lowtide.runtime import Session, to_model
from lowtide_plugins.frontends.onnx_format.importer import import_model

pytestmark = pytest.mark.conformance

RANDOM = ("bernoulli", "random", "dropout_default_mask", "training_dropout", "multinomial")
"""Cases whose results are drawn; ONNX does not fix the numbers."""


def cases() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return [case for case in collect_testcases(None) if case.model is not None]


def check(case: Any) -> str:
    """``passed``, ``refused`` with the reason's kind, or ``no kernel``; anything else raises."""
    inputs = {value.name: value for value in case.model.graph.input}
    for feeds, expected in case.data_sets:
        if any(not isinstance(array, np.ndarray) for array in (*feeds, *expected)):
            return "refused: no tensor"
        shapes = {name: array.shape for name, array in zip(inputs, feeds, strict=False)}
        try:
            graph = import_model(
                case.model, ImportRequest(input_shapes=shapes), name=case.name, folder=Path()
            )
        except UnsupportedModelError as error:
            return f"refused: {error.message.split(' ')[0]}"
        by_name = dict(zip(inputs, feeds, strict=False))
        given = {v.name: by_name[v.name].astype(v.type.dtype.numpy) for v in graph.inputs}
        try:
            found = Session(to_model(graph, quantized=False)).run(given)
        except LowtideError as error:
            if (
                "not implemented" not in str(error).lower()
                and "find an implementation" not in str(error).lower()
            ):
                raise
            return "no kernel"
        for array, wanted in zip(found.values(), expected, strict=True):
            if wanted.dtype == np.float16:
                np.testing.assert_allclose(array, wanted, rtol=1e-2, atol=1e-2)
            else:
                np.testing.assert_allclose(
                    array, wanted, rtol=max(case.rtol, 1e-3), atol=max(case.atol, 1e-5)
                )
    return "passed"


def test_every_node_test_passes_or_is_refused_with_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    failed: dict[str, str] = {}
    for case in cases():
        if any(word in case.name for word in RANDOM):
            counts["random"] += 1
            continue
        try:
            counts[check(case)] += 1
        except (AssertionError, LowtideError) as error:
            failed[case.name] = str(error).strip().splitlines()[0][:160]
    with capsys.disabled():
        print(f"\nONNX node tests: {dict(counts)}, failed {len(failed)}")
    known = tuple(KNOWN_DIFFERENCES)
    unexpected = {name: text for name, text in failed.items() if not name.startswith(known)}
    assert not unexpected, "\n".join(f"{name}: {text}" for name, text in unexpected.items())
    assert counts["passed"] > 700


KNOWN_DIFFERENCES = {
    "test_dft": "ONNX Runtime's transform rounds otherwise",
    "test_stft": "ONNX Runtime's transform rounds otherwise",
    "test_gru_batchwise": "ONNX Runtime has no batch-first recurrent layers",
    "test_lstm_batchwise": "ONNX Runtime has no batch-first recurrent layers",
    "test_simple_rnn_batchwise": "ONNX Runtime has no batch-first recurrent layers",
    "test_maxunpool_export_with_output_shape": "ONNX Runtime places the elements otherwise",
    "test_mvn": "ONNX's own shape inference fails",
    "test_mod_float": "fmod=0 for floats came after opset 21",
    "test_reduce_max_empty_set_bool": "ONNX Runtime refuses the empty set",
    "test_resize_downsample_scales_linear_align_corners": "ONNX Runtime rounds the corner otherwise",
    "test_resize_downsample_scales_cubic_align_corners": "ONNX Runtime rounds the corner otherwise",
}
"""Cases by the beginning of their names that ONNX Runtime does not compute as ONNX's test says, and why."""
