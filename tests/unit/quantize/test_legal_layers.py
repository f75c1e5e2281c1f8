"""Rules for weights and operands of quantized networks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.ir import QuantParams, verify
from unit.quantize.quantized import (
    AM68A,
    TDA4VM,
    biased,
    codes,
    feeds,
    held,
    network,
    outputs,
    real,
    said,
    with_bits,
)
from unit.quantize.solving import quant

CONV = """
input %x: float32[1, 2, 2, 2] ~ int8(scale={x})
const %w: float32[2, 2, 1, 1] ~ {weights}
%y: float32[1, 2, 2, 2] ~ int8(scale={out}) = Conv(%x, %w)
return %y
"""
DEPTHWISE = """
input %x: float32[1, 2, 4, 4] ~ int8(scale=0.5)
const %w: float32[2, 1, 3, 3] ~ int8(scale=[{scales}], axis=0) = fill(3)
%y: float32[1, 2, 2, 2] ~ int8(scale=1) = Conv(%x, %w) {{group=2}}
return %y
"""


def conv(weights: str, out: float = 1.0, x: float = 0.5) -> str:
    return CONV.format(weights=weights, out=out, x=x)


# --- weights ---


def test_uint8_weights_around_128_are_written_as_int8_and_the_network_computes_the_same_bits() -> None:
    body = conv("uint8(scale=0.5, zero=128) = [130, 0, 128, 255]")
    graph, legal = held(body)
    assert said(legal) == [("LT873", "w", "repaired")]
    assert quant(graph, "w") == QuantParams("int8", 0.5)
    assert codes(graph, "w").ravel().tolist() == [2, -128, 0, 127]
    feed = feeds(graph)
    assert np.array_equal(outputs(graph, feed), outputs(network(body), feed))


def test_weights_with_a_zero_point_are_refused() -> None:
    _, legal = held(conv("uint8(scale=0.5, zero=100) = [0, 1, 2, 255]"))
    assert said(legal) == [("LT876", "w", "refused")]
    assert "uint8 weights have the zero point 100" in legal.findings[0].message


def test_a_zero_point_that_no_weight_needs_goes() -> None:
    graph, legal = held(conv("uint8(scale=0.5, zero=100) = [90, 100, 101, 227]"))
    assert not legal.refused
    assert codes(graph, "w").ravel().tolist() == [-10, 0, 1, 127]


def test_weights_that_other_nodes_read_too_are_copied() -> None:
    body = """
    input %x: float32[1, 1, 2, 2] ~ int8(scale=0.5)
    const %w: float32[1, 1, 1, 1] ~ uint8(scale=0.5, zero=128) = [130]
    %a: float32[1, 1, 2, 2] ~ int8(scale=1) = Conv(%x, %w)
    %y: float32[1, 1, 2, 2] ~ int8(scale=1) = Mul(%a, %w)
    return %y
    """
    graph, legal = held(body)
    verify(graph)
    assert not legal.refused
    feed = feeds(graph)
    assert np.array_equal(outputs(graph, feed), outputs(network(body), feed))


@pytest.mark.parametrize(
    ("weights", "wanted"),
    [
        ("int8(scale=[0.5, 1], axis=1) = [1, 2, 3, 4]", "one scale, or one along axis 0"),
        ("int8(scale=[0.5, 1], axis=0) = [1, 2, 3, 4]", ""),
    ],
)
def test_scales_per_channel_lie_along_the_output_channels(weights: str, wanted: str) -> None:
    _, legal = held(conv(weights))
    assert [found.code for found in legal.refused] == ["LT877"] * bool(wanted)
    assert all(found.message.endswith(wanted) for found in legal.refused)


def test_equal_scales_along_a_wrong_axis_become_one() -> None:
    body = conv("int8(scale=[0.5, 0.5], axis=1) = [1, 2, 3, 4]")
    graph, legal = held(body)
    assert said(legal) == [("LT877", "w", "repaired")]
    assert quant(graph, "w") == QuantParams("int8", 0.5)
    assert np.array_equal(real(graph, "w"), real(network(body), "w"))


def test_a_transposed_convolution_has_one_weight_scale() -> None:
    body = """
    input %x: float32[1, 2, 2, 2] ~ int8(scale=0.5)
    const %w: float32[2, 2, 2, 2] ~ int8(scale=[0.5, 1], axis=1) = fill(3)
    %y: float32[1, 2, 4, 4] ~ int8(scale=1) = ConvTranspose(%x, %w) {strides=[2, 2]}
    return %y
    """
    _, legal = held(body)
    assert said(legal) == [("LT877", "w", "refused")]
    assert legal.findings[0].message.endswith("the device wants one scale")


def test_a_device_without_scales_per_channel_refuses_them_except_at_depthwise_weights_on_request() -> None:
    assert said(held(conv("int8(scale=[0.5, 1], axis=0) = [1, 2, 3, 4]"), TDA4VM)[1]) == [
        ("LT877", "w", "refused")
    ]
    depthwise = DEPTHWISE.format(scales="0.5, 1")
    assert said(held(depthwise, TDA4VM)[1]) == [("LT877", "w", "refused")]
    assert not held(depthwise, TDA4VM, channel_wise=True)[1].findings


def test_weights_of_a_width_that_the_device_lacks_are_refused() -> None:
    _, legal = held(conv("int16(scale=0.5) = [1, 2, 3, 4]"), with_bits(AM68A, 8))
    assert said(legal) == [("LT872", "w", "refused")]


def test_weights_beside_a_16_bit_output_are_written_in_16_bits() -> None:
    body = conv("int8(scale=0.5) = [1, 2, 3, -4]").replace("int8(scale=1.0)", "int16(scale=0.01)")
    graph, legal = held(body)
    assert said(legal) == [("LT882", "w", "repaired")]
    assert quant(graph, "w") == QuantParams("int16", 0.5)
    assert codes(graph, "w").ravel().tolist() == [1, 2, 3, -4]
    feed = feeds(graph)
    assert np.array_equal(outputs(graph, feed), outputs(network(body), feed))


def test_float_weights_beside_codes_are_told_and_lose_the_codes_of_their_bias() -> None:
    body = biased(" ~ int32(scale=0.25) = [4, 8]").replace("~ int8(scale=0.5) = [1, 2", "= [1, 2")
    graph, legal = held(body)
    assert said(legal) == [("LT883", "w", "repaired")]
    assert real(graph, "b").tolist() == [1, 2]
    assert graph.values["b"].type.quant is None


def test_converted_weights_are_the_numbers_that_they_were() -> None:
    body = conv("uint8(scale=0.5, zero=100) = [0, 1, 2, 255]")
    graph, legal = held(body, convert=True)
    assert said(legal) == [("LT876", "w", "converted")]
    assert graph.values["w"].type.quant is None
    assert np.array_equal(real(graph, "w"), real(network(body), "w"))


# --- powers of two and shifts ---


def test_weight_scales_are_powers_of_two_under_that_rule() -> None:
    assert said(held(conv("int8(scale=0.3) = [1, 2, 3, 4]"), TDA4VM, 1)[1])[0] == ("LT875", "w", "refused")
    nearly = float(np.nextafter(np.float32(0.5), np.float32(1)))
    graph, legal = held(conv(f"int8(scale={nearly!r}) = [1, 2, 3, 4]"), TDA4VM, 1)
    assert quant(graph, "w").scale == (0.5,)
    assert not legal.findings


@pytest.mark.parametrize(
    ("out", "legal"), [(0.15, True), (0.3, True), (2.4, True), (0.075, False), (0.2, False)]
)
def test_without_multipliers_an_output_scale_is_the_accumulators_shifted_right(
    out: float, legal: bool
) -> None:
    _, found = held(conv("int8(scale=0.3) = [1, 2, 3, 4]", out), TDA4VM, 0)
    assert said(found) == ([] if legal else [("LT880", "y", "refused")])


@given(
    st.floats(2.0**-8, 2.0**8, width=32),
    st.floats(2.0**-8, 2.0**8, width=32),
    st.integers(0, 12),
    st.floats(0.75, 1.3),
)
def test_shifts_are_recognised_in_spite_of_float32(x: float, w: float, shift: int, off: float) -> None:
    def found(scale: float) -> list[str]:
        body = conv(f"int8(scale={w!r}) = [1, 2, 3, 4]", scale, x)
        return [entry[0] for entry in said(held(body, TDA4VM, 0)[1])]

    scale = float(np.float32(x) * np.float32(w)) * 2.0**shift
    assert not found(scale)
    if abs(off - 1) > 1e-3:
        assert found(scale * off) == ["LT880"]


def test_without_multipliers_scales_per_channel_differ_by_shifts() -> None:
    assert not held(DEPTHWISE.format(scales="0.5, 0.25"), TDA4VM, 0, channel_wise=True)[1].findings
    _, legal = held(DEPTHWISE.format(scales="0.5, 0.3"), TDA4VM, 0, channel_wise=True)
    assert said(legal) == [("LT877", "w", "refused")]
    assert "0.3 and 0.5" in legal.findings[0].message


def test_scales_that_follow_from_converted_ones_are_converted_along_the_network() -> None:
    body = """
    input %x: float32[1, 1, 2, 2] ~ int8(scale=0.5)
    const %v: float32[1, 1, 1, 1] ~ uint8(scale=0.5, zero=3) = [250]
    const %w: float32[1, 1, 1, 1] ~ int8(scale=0.5) = [2]
    %a: float32[1, 1, 2, 2] ~ int8(scale=1) = Conv(%x, %v)
    %b: float32[1, 1, 2, 2] ~ int8(scale=1) = Conv(%a, %w)
    %y: float32[1, 1, 2, 2] ~ int8(scale=1) = Conv(%b, %w)
    return %y
    """
    graph, legal = held(body, TDA4VM, 0, convert=True)
    assert said(legal) == [
        ("LT876", "v", "converted"),
        ("LT880", "a", "converted"),
        ("LT880", "b", "converted"),
        ("LT880", "y", "converted"),
    ]
    assert quant(graph, "w") == QuantParams("int8", 0.5)  # the codes of the file


def test_scales_that_are_powers_of_two_may_lie_below_the_accumulators() -> None:
    assert not held(conv("int8(scale=0.5) = [1, 2, 3, 4]", 0.125), TDA4VM, 1)[1].findings
    _, legal = held(conv("int8(scale=0.5) = [1, 2, 3, 4]", 0.125), TDA4VM, 0)
    assert said(legal) == [("LT880", "y", "refused")]


# --- operands of other operators ---


@pytest.mark.parametrize(
    ("operand", "code", "wanted"),
    [
        ("uint8(scale=0.5, zero=3) = [1, 9]", "LT873", QuantParams("int8", 0.5)),
        ("uint8(scale=0.5, zero=3) = [3, 255]", "LT873", QuantParams("uint8", 0.5)),
        ("int8(scale=[0.5, 0.5], axis=0) = [1, 9]", "LT877", QuantParams("int8", 0.5)),
    ],
)
def test_operands_are_written_without_zero_points_where_all_numbers_stay(
    operand: str, code: str, wanted: QuantParams
) -> None:
    body = f"""
    input %x: float32[1, 2] ~ int8(scale=0.5)
    const %c: float32[2] ~ {operand}
    %y: float32[1, 2] ~ int8(scale=0.5) = Mul(%x, %c)
    return %y
    """
    graph, legal = held(body)
    assert said(legal) == [(code, "c", "repaired")]
    assert quant(graph, "c") == wanted
    assert np.array_equal(real(graph, "c"), real(network(body), "c"))


@pytest.mark.parametrize(
    ("operand", "code"),
    [
        ("uint8(scale=0.5, zero=3) = [0, 255]", "LT874"),
        ("int8(scale=[0.5, 1], axis=0) = [1, 9]", "LT877"),
        ("int32(scale=0.5) = [1, 9]", "LT872"),
    ],
)
def test_operands_that_the_device_has_not_are_refused_or_become_float_to_get_new_codes(
    operand: str, code: str
) -> None:
    body = f"""
    input %x: float32[1, 2] ~ int8(scale=0.5)
    const %c: float32[2] ~ {operand}
    %y: float32[1, 2] ~ int8(scale=0.5) = Mul(%x, %c)
    return %y
    """
    assert said(held(body)[1]) == [(code, "c", "refused")]
    graph, legal = held(body, convert=True)
    assert said(legal) == [(code, "c", "converted")]
    assert graph.values["c"].type.quant is None


def test_operands_may_have_zero_points_where_activations_may() -> None:
    body = """
    input %x: float32[1, 2] ~ int8(scale=0.5)
    const %c: float32[2] ~ uint8(scale=0.5, zero=3) = [0, 255]
    %y: float32[1, 2] ~ int8(scale=0.5) = Add(%x, %c)
    return %y
    """
    assert not held(body)[1].findings
    graph, legal = held(body, number=3)
    assert said(legal) == [("LT873", "c", "repaired")]
    assert quant(graph, "c") == QuantParams("int8", 0.5, -125)
    assert np.array_equal(real(graph, "c"), real(network(body), "c"))
