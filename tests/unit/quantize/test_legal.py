"""Rules for the activations of quantized networks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowtide.calibrate import Range
from lowtide.ir import QuantParams, verify
from lowtide.quantize.codes import same_numbers
from lowtide.quantize.legal import legalize
from lowtide.target import Target, load_target
from unit.quantize.quantized import (
    AM68A,
    REGISTRY,
    TDA4VM,
    feeds,
    held,
    network,
    outputs,
    request,
    said,
    with_bits,
)
from unit.quantize.solving import Options, quant, solved

BETWEEN_CONVS = """
input %x: float32[1, 1, 2, 2] ~ int8(scale=0.5)
const %w: float32[1, 1, 1, 1] ~ int8(scale=0.5) = [2]
%a: float32[1, 1, 2, 2] ~ {codes} = Conv(%x, %w)
%y: float32[1, 1, 2, 2] ~ int8(scale=1) = Conv(%a, %w)
return %y
"""

BEFORE_MUL = """
input %x: float32[1, 2] ~ {codes}
const %c: float32[2] ~ int8(scale=0.5) = [1, -2]
%y: float32[1, 2] ~ int8(scale=0.5) = Mul(%x, %c)
return %y
"""


# --- zero points ---


def test_zero_points_stay_between_operators_that_have_them() -> None:
    graph, legal = held(BETWEEN_CONVS.format(codes="uint8(scale=0.5, zero=3)"))
    assert quant(graph, "a") == QuantParams("uint8", 0.5, 3)
    assert not legal.findings


def test_a_device_without_zero_points_refuses_one() -> None:
    _, legal = held(BETWEEN_CONVS.format(codes="uint8(scale=0.5, zero=3)"), TDA4VM)
    assert said(legal) == [("LT874", "a", "refused")]
    assert "zero point 3" in legal.refused[0].message
    assert "power-of-two" in legal.refused[0].message
    assert "Conv" in legal.refused[0].place


@pytest.mark.parametrize(
    ("codes", "wanted"),
    [
        ("uint8(scale=0.5, zero=128)", QuantParams("int8", 0.5)),
        ("int8(scale=0.5, zero=-128)", QuantParams("uint8", 0.5)),
        ("uint16(scale=0.5, zero=32768)", QuantParams("int16", 0.5)),
    ],
)
def test_a_zero_point_that_another_sign_does_without_goes_and_no_number_changes(
    codes: str, wanted: QuantParams
) -> None:
    body = BETWEEN_CONVS.format(codes=codes)
    graph, legal = held(body, TDA4VM)
    assert ("LT873", "a", "repaired") in said(legal)
    assert not legal.refused
    assert quant(graph, "a") == wanted
    assert same_numbers(quant(graph, "a"), quant(network(body), "a"))
    feed = feeds(graph)
    assert np.array_equal(outputs(graph, feed), outputs(network(body), feed))


def test_the_network_input_has_no_zero_point_on_the_vendors_devices() -> None:
    _, legal = held(BEFORE_MUL.replace("Mul", "Add").format(codes="uint8(scale=0.5, zero=3)"))
    assert said(legal) == [("LT874", "x", "refused")]
    assert "a network input" in legal.findings[0].message


def test_an_operator_without_zero_points_is_named() -> None:
    body = """
    input %x: float32[1, 2] ~ int8(scale=0.5)
    const %c: float32[2] ~ int8(scale=0.5) = [1, -2]
    %a: float32[1, 2] ~ uint8(scale=0.5, zero=9) = Add(%x, %c)
    %y: float32[1, 2] ~ int8(scale=0.5) = Mul(%a, %c)
    return %y
    """
    _, legal = held(body)
    assert said(legal) == [("LT874", "a", "refused")]
    assert "next to Mul" in legal.findings[0].message


def test_a_product_of_two_activations_has_no_zero_points() -> None:
    body = """
    input %x: float32[2, 2] ~ int8(scale=0.5)
    const %c: float32[2, 2] ~ int8(scale=0.5) = [1, -2, 3, 4]
    %a: float32[2, 2] ~ uint8(scale=0.5, zero=9) = Add(%x, %c)
    %y: float32[2, 2] ~ int8(scale=0.5) = MatMul(%a, %x)
    return %y
    """
    _, legal = held(body)
    assert said(legal) == [("LT874", "a", "refused")]
    assert "a product of two activations" in legal.findings[0].message


def test_tensors_that_share_codes_are_judged_together() -> None:
    body = """
    input %x: float32[1, 2] ~ int8(scale=0.5)
    const %c: float32[2] ~ int8(scale=0.5) = [1, -2]
    const %s: int64[2] = [2, 1]
    %a: float32[1, 2] ~ uint8(scale=0.5, zero={zero}) = Add(%x, %c)
    %b: float32[2, 1] ~ uint8(scale=0.5, zero={zero}) = Reshape(%a, %s)
    %y: float32[2, 2] ~ int8(scale=0.5) = Mul(%b, %c)
    return %y
    """
    graph, legal = held(body.format(zero=128))
    assert quant(graph, "a") == quant(graph, "b") == QuantParams("int8", 0.5)
    assert said(legal) == [("LT873", "a", "repaired"), ("LT873", "b", "repaired")]
    _, refused = held(body.format(zero=9))
    assert said(refused) == [("LT874", "a", "refused"), ("LT874", "b", "refused")]
    assert "shares its codes with b" in refused.findings[0].message
    assert "Mul" in refused.findings[0].message


def test_symmetric_codes_of_either_sign_stay_where_zero_points_may_be() -> None:
    for codes in ("int8(scale=0.5)", "uint8(scale=0.5)"):
        body = BETWEEN_CONVS.format(codes=codes)
        graph, legal = held(body)
        assert quant(graph, "a") == quant(network(body), "a")
        assert not legal.findings


def test_signed_codes_with_a_zero_point_become_the_devices_unsigned_ones() -> None:
    body = BETWEEN_CONVS.format(codes="int8(scale=0.5, zero=-5)")
    graph, legal = held(body)
    assert quant(graph, "a") == QuantParams("uint8", 0.5, 123)
    assert said(legal) == [("LT873", "a", "repaired")]
    feed = feeds(graph)
    assert np.array_equal(outputs(graph, feed), outputs(network(body), feed))


def test_tflite_arithmetic_has_zero_points_everywhere_and_signed_codes_alone() -> None:
    body = BEFORE_MUL.format(codes="uint8(scale=0.5, zero=3)")
    graph, legal = held(body, number=3)
    assert quant(graph, "x") == QuantParams("int8", 0.5, -125)
    assert said(legal) == [("LT873", "x", "repaired")]


# --- one scale, widths ---


def test_an_activation_with_scales_per_channel_is_refused() -> None:
    codes = "int8(scale=[0.5, 0.25], axis=1)"
    _, legal = held(BEFORE_MUL.format(codes=codes))
    assert said(legal) == [("LT871", "x", "refused")]
    _, converted = held(BEFORE_MUL.format(codes=codes), convert=True)
    assert converted.ranges["x"] == Range(-64, 63.5)


def test_equal_scales_per_channel_of_an_activation_become_one() -> None:
    graph, legal = held(BEFORE_MUL.format(codes="int8(scale=[0.5, 0.5], axis=1)"))
    assert quant(graph, "x") == QuantParams("int8", 0.5)
    assert said(legal) == [("LT871", "x", "repaired")]


def test_a_width_that_the_device_lacks_is_refused_and_converted_to_one_that_it_has() -> None:
    body = BETWEEN_CONVS.format(codes="int16(scale=0.5)")
    device = with_bits(AM68A, 8)
    _, legal = held(body, device)
    assert ("LT872", "a", "refused") in said(legal)
    graph, converted = held(body, device, convert=True)
    assert graph.values["a"].type.quant is None
    assert converted.ranges["a"] == Range(-16384, 16383.5)
    assert "a" not in converted.bits


def test_a_width_that_an_operator_lacks_is_refused() -> None:
    body = """
    input %x: float32[1, 1, 2, 2] ~ int16(scale=0.5)
    const %w: float32[1, 1, 2, 2] ~ int16(scale=0.5) = [1, 2, 3, 4]
    %y: float32[1, 1, 4, 4] ~ int16(scale=1) = ConvTranspose(%x, %w) {strides=[2, 2]}
    return %y
    """
    narrow = load_target("am62a", REGISTRY)
    assert {entry[:2] for entry in said(held(body, narrow)[1])} >= {("LT872", "x"), ("LT872", "y")}
    assert "16-bit transposed convolution" in held(body, narrow)[1].findings[0].message
    assert not held(body)[1].refused


def test_two_widths_where_the_device_cannot_change_them_are_refused_and_converted_to_the_wider() -> None:
    body = """
    input %x: float32[1, 2] ~ int8(scale=0.5)
    %y: float32[1, 2] ~ int16(scale=0.001953125) = Sigmoid(%x)
    return %y
    """
    _, legal = held(body)
    assert said(legal) == [("LT886", "x", "refused")]
    assert "8 and 16 bits meet at y" in legal.findings[0].message
    _, converted = held(body, convert=True)
    assert set(converted.ranges) == {"x", "y"}
    assert converted.bits == {"x": 16, "y": 16}


def test_a_convolution_may_change_the_width() -> None:
    _, legal = held(BETWEEN_CONVS.format(codes="int16(scale=0.5)"))
    assert not legal.refused


# --- powers of two ---


def test_a_scale_that_is_no_power_of_two_is_refused_under_that_rule_alone() -> None:
    body = BETWEEN_CONVS.format(codes="int8(scale=0.3)")
    assert said(held(body, TDA4VM, 1)[1])[0] == ("LT875", "a", "refused")
    assert not held(body, AM68A)[1].findings


def test_a_scale_that_float32_keeps_from_being_a_power_of_two_becomes_one() -> None:
    nearly = float(np.nextafter(np.float32(0.5), np.float32(1)))
    graph, legal = held(BETWEEN_CONVS.format(codes=f"int8(scale={nearly!r})"), TDA4VM, 1)
    assert quant(graph, "a").scale == (0.5,)
    assert not legal.findings


# --- conversion ---


def test_a_converted_tensor_keeps_its_range_and_its_width() -> None:
    body = BETWEEN_CONVS.format(codes="uint16(scale=0.5, zero=1000)")
    graph, legal = held(body, TDA4VM, convert=True)
    assert ("LT874", "a", "converted") in said(legal)
    assert not legal.refused
    assert legal.converted
    assert graph.values["a"].type.quant is None
    assert legal.ranges["a"] == Range(-500, 32267.5)
    assert legal.bits["a"] == 16


def test_what_shares_codes_with_a_converted_tensor_is_converted_too() -> None:
    body = """
    input %x: float32[1, 2] ~ int8(scale=0.5)
    const %s: int64[2] = [2, 1]
    %a: float32[1, 2] ~ uint8(scale=0.5, zero=9) = Sigmoid(%x)
    %y: float32[2, 1] ~ int8(scale=0.25) = Reshape(%a, %s)
    return %y
    """
    graph, legal = held(body, convert=True)
    assert set(legal.ranges) == {"a", "y"}
    assert graph.values["y"].type.quant is None
    assert quant(graph, "x") == QuantParams("int8", 0.5)


def test_what_the_host_computes_with_is_nobodys_concern() -> None:
    body = BEFORE_MUL.format(codes="uint8(scale=0.5, zero=3)")
    graph, legal = held(body, TDA4VM, options=Options(deny_list_layer_type=("Mul",)))
    assert not legal.findings
    assert quant(graph, "x") == QuantParams("uint8", 0.5, 3)


def test_codes_of_a_softmax_are_the_hosts_since_the_device_gives_float_numbers() -> None:
    body = """
    input %x: float32[1, 2] ~ int8(scale=0.5)
    %y: float32[1, 2] ~ uint8(scale=0.004, zero=3) = Softmax(%x)
    return %y
    """
    graph, legal = held(body, TDA4VM, 0)
    assert not legal.findings
    assert quant(graph, "y") == QuantParams("uint8", 0.004, 3)


def test_a_concat_of_different_scales_is_told_and_kept() -> None:
    body = """
    input %x: float32[1, 2] ~ int8(scale=0.5)
    %a: float32[1, 2] ~ int8(scale=0.25) = Sigmoid(%x)
    %y: float32[1, 4] ~ int8(scale=0.5) = Concat(%x, %a) {axis=1}
    return %y
    """
    graph, legal = held(body)
    assert said(legal) == [("LT885", "y", "kept")]
    assert "not those of a" in legal.findings[0].message
    feed = feeds(graph)
    assert np.array_equal(outputs(graph, feed), outputs(network(body), feed))


# --- properties ---


FLOAT = """
input %x: float32[1, 4, 4, 4]
const %w: float32[4, 1, 3, 3] = fill(0.3)
const %v: float32[2, 4, 1, 1] = [0.5, -1, 0.25, 0.75, 3, 0, -0.01, 0.2]
const %b: float32[2] = [1, -200]
const %c: float32[1] = [0.3]
%d: float32[1, 4, 2, 2] = Conv(%x, %w) {group=4}
%a: float32[1, 2, 2, 2] = Conv(%d, %v, %b)
%m: float32[1, 2, 1, 1] = MaxPool(%a) {kernel_shape=[2, 2]}
%s: float32[1, 2, 1, 1] = Mul(%m, %c)
%y: float32[1, 2, 1, 1] = Sigmoid(%s)
return %y
"""


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channel_wise", [True, False])
@pytest.mark.parametrize(("target", "number"), [("tda4vm", 0), ("tda4vm", 1), ("am68a", 3), ("am68a", 4)])
def test_what_the_solver_finds_for_a_float_network_breaks_no_rule(
    target: str, number: int, channel_wise: bool, bits: int
) -> None:
    fixed, frames, _ = solved(network(FLOAT), target, number, bits=bits, channel_wise=channel_wise)
    expected = outputs(fixed, frames[0])
    rules = request(fixed, load_target(target, REGISTRY), number, channel_wise=channel_wise)
    assert not legalize(fixed, rules, convert=False).findings
    assert np.array_equal(outputs(fixed, frames[0]), expected)


SCALE = st.sampled_from([0.25, 0.5, 0.3, 1.0])
ACTIVATION = st.one_of(
    st.builds(lambda s, z: f"uint8(scale={s}, zero={z})", SCALE, st.sampled_from([0, 3, 128])),
    st.builds(lambda s, z: f"int8(scale={s}, zero={z})", SCALE, st.sampled_from([-128, 0, 5])),
    st.builds(lambda s: f"int16(scale={s})", SCALE),
)
DEVICES = st.sampled_from([(AM68A, 4), (AM68A, 3), (TDA4VM, 0), (TDA4VM, 1)])
CHAIN = """
input %x: float32[1, 2, 2, 2] ~ {x}
const %w: float32[2, 2, 1, 1] ~ uint8(scale={w}, zero={zero}) = [130, 120, 128, 140]
const %s: int64[2] = [1, 8]
%a: float32[1, 2, 2, 2] ~ {a} = Conv(%x, %w)
%m: float32[1, 2, 1, 1] ~ {a} = MaxPool(%a) {{kernel_shape=[2, 2]}}
%y: float32[1, 2, 2, 2] ~ {y} = Add(%a, %m)
return %y
"""


CHAINS = st.builds(
    CHAIN.format, x=ACTIVATION, a=ACTIVATION, y=ACTIVATION, w=SCALE, zero=st.sampled_from([100, 120, 128])
)


@settings(max_examples=60)
@given(CHAINS, DEVICES)
def test_a_graph_that_is_repaired_computes_the_same_bits(body: str, device: tuple[Target, int]) -> None:
    graph, legal = held(body, *device)
    verify(graph)
    feed = feeds(graph)
    assert np.array_equal(outputs(graph, feed), outputs(network(body), feed))
    again = held(body, *device, convert=True)[1]
    assert bool(legal.refused) == again.converted


@settings(max_examples=40)
@given(CHAINS, DEVICES)
def test_conversion_refuses_nothing(body: str, device: tuple[Target, int]) -> None:
    graph, legal = held(body, *device, convert=True)
    assert not legal.refused
    verify(graph)
    open_values = {value.name for value in graph.values.values() if value.type.quant is None}
    assert set(legal.ranges) <= open_values
