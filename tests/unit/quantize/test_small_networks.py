from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowtide.ir import Constant, DType, Graph, TensorType, verify
from lowtide.ir.shapes import infer_types
from lowtide.quantize.operands import mac_operands
from lowtide.runtime import Session, to_model
from support import needs_integer_kernels
from unit.quantize.solving import quant, solved

RULES = [("generic", 4), ("am68a", 4), ("tda4vm", 1), ("tda4vm", 0)]


def stack(seed: int, depth: int = 3) -> Graph:
    """Convolutions with Relu of random widths, whose output channels differ in size by up to 2^6."""
    generator = np.random.default_rng(seed)
    graph = Graph("stack")
    channels = int(generator.integers(1, 5))
    value = graph.add_input("x", TensorType(DType.FLOAT32, (1, channels, 6, 6)))
    for level in range(depth):
        made = int(generator.integers(2, 9))
        sizes = 2.0 ** generator.uniform(-3, 3, (made, 1, 1, 1))
        weights = generator.standard_normal((made, channels, 3, 3)) * sizes / (3 * channels**0.5)
        bias = generator.standard_normal(made) * 0.2
        operands = [
            value,
            graph.add_constant(f"w{level}", Constant.of(weights.astype(np.float32))),
            graph.add_constant(f"b{level}", Constant.of(bias.astype(np.float32))),
        ]
        unknown, layer = TensorType(DType.FLOAT32, None), f"y{level}"
        conv = graph.add_node("Conv", operands, [(f"c{level}", unknown)], {"pads": (1, 1, 1, 1)}, layer=layer)
        value = graph.add_node("Relu", [conv.output], [(layer, unknown)], layer=layer).output
        channels = made
    graph.set_outputs([value])
    infer_types(graph)
    return graph


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_free_scales_per_channel_keep_25_db(seed: int) -> None:
    graph = stack(seed)
    fixed, feeds, _ = solved(graph, "generic", 4)
    one, two = Session(to_model(graph, quantized=False)), Session(to_model(fixed, quantized=True))
    pairs = [(one.run(feed)["y2"].astype(float), two.run(feed)["y2"].astype(float)) for feed in feeds]
    signal, noise = (sum((a**2).sum() for a, _ in pairs), sum(((a - b) ** 2).sum() for a, b in pairs))
    assert signal == 0 or signal / max(noise, 1e-300) > 10**2.5


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.sampled_from(RULES))
def test_solved_graphs_obey_the_format_of_their_rule(seed: int, rule: tuple[str, int]) -> None:
    fixed, _, _ = solved(stack(seed), *rule)
    verify(fixed)
    for node in fixed:
        operands = mac_operands(node)
        if operands is None:
            continue
        weights, bias = operands.weights.type.quant, operands.bias.type.quant if operands.bias else None
        assert weights is not None
        assert bias is not None
        source = quant(fixed, operands.activation.name).scale[0]
        assert weights.is_symmetric
        assert bias.is_symmetric
        assert bias.dtype is DType.INT32
        np.testing.assert_allclose(bias.scale, [source * scale for scale in weights.scale], rtol=1e-6)
        written = quant(fixed, node.layer)
        if rule[1] == 0:
            shift = np.log2(written.scale[0] / bias.scale[0])
            assert shift == pytest.approx(round(shift), abs=1e-5)
            assert round(shift) >= 0
        assert written.dtype is DType.UINT8  # behind a Relu
        assert written.is_symmetric


@needs_integer_kernels
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(3))
def test_the_integer_kernels_of_onnx_runtime_agree_within_one_step(seed: int, rule: tuple[str, int]) -> None:
    fixed, feeds, _ = solved(stack(seed, depth=1), *rule)
    model = to_model(fixed, quantized=True)
    theirs = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ours = Session(model)
    step = quant(fixed, "y0").scale[0]
    for feed in feeds:
        difference = np.abs(np.asarray(theirs.run(None, feed)[0]) - ours.run(feed)["y0"])
        assert difference.max() <= step * 1.001
