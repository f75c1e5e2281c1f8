"""Rules for the biases of quantized networks."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.errors import QuantizationError
from lowtide.ir import QuantParams, verify
from lowtide.quantize.legal import legalize
from unit.quantize.quantized import TDA4VM, biased, codes, held, network, real, request, said
from unit.quantize.solving import quant


def test_a_bias_in_the_scale_of_the_accumulator_keeps_its_codes() -> None:
    graph, legal = held(biased(" ~ int32(scale=0.25) = [7, -9]"))
    assert not legal.findings
    assert codes(graph, "b").tolist() == [7, -9]


@pytest.mark.parametrize(
    ("bias", "what"),
    [(" = [1.6, -2.1]", "float"), (" ~ int32(scale=0.1) = [16, -21]", "in another scale")],
)
def test_other_biases_become_int32_at_most_half_a_step_away(bias: str, what: str) -> None:
    body = biased(bias)
    graph, legal = held(body)
    assert said(legal) == [("LT879", "b", "repaired")]
    assert what in legal.findings[0].message
    assert quant(graph, "b") == QuantParams("int32", 0.25)
    assert np.abs(real(graph, "b") - real(network(body), "b")).max() <= 0.125
    assert codes(graph, "b").tolist() == [6, -8]


@given(
    st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=2),
    st.floats(2.0**-7, 1, width=32),
    st.lists(st.floats(2.0**-7, 1, width=32), min_size=1, max_size=2),
)
def test_any_bias_is_half_a_step_away_at_most(bias: list[float], x: float, w: list[float]) -> None:
    weights = f"int8(scale={w}{', axis=0' if len(w) > 1 else ''})"
    graph, legal = held(biased(f" = {bias}", x=f"int8(scale={x!r})", w=weights))
    assert not legal.refused
    steps = np.float32(x) * np.array(w, np.float32)
    off = np.abs(real(graph, "b").astype(np.float64) - bias)
    assert (off <= steps * 0.5 + np.abs(bias) * 1e-6).all()


def test_one_bias_for_all_channels_is_written_for_each_when_weights_have_a_scale_each() -> None:
    weights = "int8(scale=[0.5, 0.25], axis=0)"
    graph, legal = held(biased(" ~ int32(scale=0.25) = [4]", w=weights, count=1))
    assert said(legal) == [("LT879", "b", "repaired")]
    assert codes(graph, "b").tolist() == [4, 8]
    assert quant(graph, "b") == QuantParams("int32", (0.25, 0.125), 0, 0)
    verify(graph)


def test_a_zero_point_of_a_bias_is_taken_into_account() -> None:
    graph, _ = held(biased(" ~ int32(scale=0.25, zero=5) = [7, -9]"))
    assert codes(graph, "b").tolist() == [2, -14]
    assert quant(graph, "b") == QuantParams("int32", 0.25)


def test_a_bias_beyond_32_bits_is_refused_and_takes_its_weights_along_when_converted() -> None:
    body = biased(" = [1e9, 0]")
    _, legal = held(body)
    assert said(legal) == [("LT878", "b", "refused")]
    graph, converted = held(body, convert=True)
    assert said(converted) == [("LT878", "b", "converted")]
    assert graph.values["w"].type.quant is None
    assert real(graph, "b").tolist() == [1e9, 0]


def test_beside_16_bit_numbers_a_bias_beyond_32_bits_stays_float() -> None:
    graph = network(biased(" = [1e9, 0]", x="int16(scale=0.5)"))
    rules = request(graph)
    assert not legalize(graph, rules, convert=False).findings
    assert real(graph, "b").tolist() == [1e9, 0]
    assert [found.code for found in rules.diagnostics] == ["LT852"]


def test_a_bias_of_nan_is_an_error_that_names_it() -> None:
    with pytest.raises(QuantizationError, match=r"b: the bias holds NaN"):
        held(biased(" = [nan, 0]"))


def test_a_bias_without_an_input_scale_waits_for_one() -> None:
    graph, legal = held(
        biased(" ~ int32(scale=0.25) = [4, 8]").replace(" ~ int8(scale=0.5)\nconst", "\nconst")
    )
    assert not legal.findings
    assert graph.values["b"].type.quant is None
    assert real(graph, "b").tolist() == [1, 2]


def test_tda4vm_rounds_large_biases_to_a_code_times_a_factor_and_says_so() -> None:
    graph, legal = held(biased(" ~ int32(scale=0.25) = [1000, -3]"), TDA4VM)
    assert said(legal) == [("LT884", "b", "repaired")]
    assert codes(graph, "b").tolist() == [1000, 0]
    small, none = held(biased(" ~ int32(scale=0.25) = [127, -3]"), TDA4VM)
    assert not none.findings
    assert codes(small, "b").tolist() == [127, -3]


def test_a_bias_beyond_code_and_factor_is_refused_or_saturates_on_request() -> None:
    body = biased(" ~ int32(scale=0.25) = [40000, 0]")
    _, legal = held(body, TDA4VM)
    assert said(legal) == [("LT878", "b", "refused")]
    assert "40000" in legal.findings[0].message
    assert "32385" in legal.findings[0].message
    graph = network(body)
    rules = attrs.evolve(request(graph, TDA4VM), clip_bias=True)
    assert not legalize(graph, rules, convert=False).refused
    assert codes(graph, "b").tolist() == [32385, 0]
    assert [found.code for found in rules.diagnostics] == ["LT853"]


def test_an_accumulator_that_could_overflow_is_told() -> None:
    graph = network(biased(" ~ int32(scale=0.25) = [2147483600, 0]"))
    rules = request(graph)
    assert not legalize(graph, rules, convert=False).refused
    assert [found.code for found in rules.diagnostics] == ["LT854"]
