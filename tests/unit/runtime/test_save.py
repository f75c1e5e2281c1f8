from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from lowtide.ir import Graph, parse_graph
from lowtide.runtime import save_model

TEXT = """graph "g" {
  input %x: float32[1, 64]
  const %w: float32[64, 64] = fill(0.5)
  const %b: float32[64] = fill(2)
  %y: float32[1, 64] = MatMul(%x, %w)
  %z: float32[1, 64] = Add(%y, %b)
  return %z
}
"""


@pytest.fixture
def graph() -> Graph:
    return parse_graph(TEXT)


def run(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": np.ones((1, 64), np.float32)})[0])


def test_a_small_model_is_one_file(graph: Graph, tmp_path: Path) -> None:
    assert save_model(graph, tmp_path / "m.onnx", quantized=False) == ("m.onnx",)
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    np.testing.assert_array_equal(run(tmp_path / "m.onnx"), np.full((1, 64), 34.0))


def test_a_large_model_keeps_its_constants_in_a_file_beside_it(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lowtide.runtime.save.EXTERNAL_LIMIT", 1000)
    path = tmp_path / "m.onnx"
    first = None
    for _ in range(2):  # the second time over the files of the first
        assert save_model(graph, path, quantized=False) == ("m.onnx", "m.onnx.data")
        found = [(tmp_path / name).read_bytes() for name in ("m.onnx", "m.onnx.data")]
        assert first in (None, found)
        first = found
    assert path.stat().st_size < 2000
    onnx.checker.check_model(path, full_check=True)
    np.testing.assert_array_equal(run(path), np.full((1, 64), 34.0))
