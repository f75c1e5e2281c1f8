"""Clamps that quantizers leave to the codes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.ir import QuantParams, layers, verify
from lowtide.quantize.clamps import clamps_in_codes
from lowtide.quantize.codes import remove_codes
from lowtide.runtime import Session, to_model
from unit.quantize.quantized import TDA4VM, feeds, held, network, outputs

BODY = """
input %x: float32[1, 1, 2, 2] ~ int8(scale=0.5)
const %w: float32[1, 1, 1, 1] ~ int8(scale=0.5) = [2]
const %s: int64[2] = [1, 4]
%a: float32[1, 1, 2, 2] ~ {codes} = {op}
%r: float32[1, 4] ~ {codes} = Reshape(%a, %s)
%y: float32[1, 4] ~ int8(scale=0.5) = HardSwish(%r)
return %y, %a
"""


def body(codes: str, op: str = "Conv(%x, %w)") -> str:
    return BODY.format(codes=codes, op=op)


@pytest.mark.parametrize(
    "codes", ["uint8(scale=0.0235294)", "int8(scale=0.0235294, zero=-128)", "uint16(scale=0.001)"]
)
def test_codes_that_begin_at_zero_clamp_what_may_be_negative_and_once_is_enough(codes: str) -> None:
    graph = network(body(codes))
    assert clamps_in_codes(graph) == {"a": graph.values["a"].type.quant}
    assert graph == network(body(codes))


@pytest.mark.parametrize("codes", ["int8(scale=0.5)", "uint8(scale=0.5, zero=1)"])
def test_codes_on_both_sides_of_zero_are_no_clamp(codes: str) -> None:
    assert not clamps_in_codes(network(body(codes)))


@pytest.mark.parametrize("op", ["Relu(%x)", "Sigmoid(%x)", "Abs(%x)"])
def test_what_is_never_negative_needs_no_clamp(op: str) -> None:
    assert not clamps_in_codes(network(body("uint8(scale=0.5)", op)))


def test_inputs_of_a_network_are_not_clamped() -> None:
    assert not clamps_in_codes(
        network("""
    input %x: float32[2] ~ uint8(scale=0.5)
    %y: float32[2] = HardSwish(%x)
    return %y
    """)
    )


@given(st.floats(2.0**-6, 2, width=32), st.integers(0, 99))
def test_without_codes_a_network_saturates_where_its_codes_did(scale: float, seed: int) -> None:
    text = body(f"uint8(scale={scale!r})")
    graph = network(text)
    remove_codes(graph)
    verify(graph)
    assert [value.name for value in graph.outputs] == ["y", "a"]
    feed = feeds(graph, seed)
    found = Session(to_model(graph, quantized=False)).run(feed)["a"]
    assert found.min() >= 0
    assert found.max() <= np.float32(255 * scale)
    # Half a step of the input, times the weight, and half a step of the output.
    assert np.abs(found - outputs(network(text), feed)[1]).max() <= 0.25 + scale / 2 + 1e-5


def test_a_converted_layer_gets_its_clamp_inside() -> None:
    text = body("uint8(scale=0.0235294)").replace(", %a", "").replace("scale=0.5)", "scale=0.25)")
    graph, legal = held(text, TDA4VM, 1, convert=True)
    verify(graph)
    assert {"a", "r"} <= set(legal.ranges)
    layer = next(layer for layer in layers(graph) if layer.name == "a")
    assert [node.op for node in layer.nodes] == ["Conv", "Clip"]
    assert [value.name for value in layer.outputs] == ["a"]
    kept, _ = held(text, TDA4VM, 1)
    assert [node.op for node in kept] == [node.op for node in network(text)]


def test_codes_that_stay_need_no_clamp() -> None:
    graph, _ = held(body("uint8(scale=0.5)"), TDA4VM, 1, convert=True)
    assert "Clip" not in {node.op for node in graph}
    assert graph.values["a"].type.quant == QuantParams("uint8", 0.5)
