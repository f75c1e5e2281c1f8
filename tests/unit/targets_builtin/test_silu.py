"""x * sigmoid(x) on the built-in devices."""

from __future__ import annotations

import numpy as np
import pytest

import lowtide
from lowtide.ir import layers, parse_graph

GATED = """graph "gated" {
  input %x: float32[1, 2, 8, 8]
  const %w: float32[2, 2, 1, 1] = [1.5, -0.5, 0.25, 1.0]
  %a: float32[1, 2, 8, 8] = Conv(%x, %w)
  %s: float32[1, 2, 8, 8] = Sigmoid(%a)
  %m: float32[1, 2, 8, 8] = Mul(%a, %s)
  %y: float32[1, 2, 8, 8] = Conv(%m, %w)
  return %y
}
"""


@pytest.mark.parametrize(("target", "kind"), [("am68a", 4), ("tda4vm", 0), ("tda4vm", 1), ("generic", 4)])
def test_a_gate_written_as_two_nodes_is_one_layer_that_rounds_once(target: str, kind: int) -> None:
    frames = np.random.default_rng(6).normal(size=(12, 2, 8, 8)).astype(np.float32) * 3
    options = {"advanced_options:quantization_scale_type": kind}
    result = lowtide.compile(parse_graph(GATED), target=target, data=frames, options=options)
    (layer,) = [found for found in layers(result.graph) if len(found.nodes) == 2]
    assert [node.op for node in layer.nodes] == ["Sigmoid", "Mul"]
    assert result.graph.values["s"].type.quant is None
    source, made = (result.graph.values[name].type.quant for name in ("a", "m"))
    assert source is not None
    assert made is not None
    exact, emulated = (result.run({"x": frames[:1]}, mode=mode)["y"] for mode in ("exact", "qdq"))
    step = result.graph.values["y"].type.quant
    assert step is not None
    assert np.abs(exact - emulated).max() <= step.scale[0] * 1.001
    assert (exact == emulated).mean() > 0.9
