from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lowtide.ir import Constant, DType, Graph, QuantParams, TensorType, Value, parse_graph, verify
from lowtide.quantize.codes import (
    constant_to_float,
    make_symmetric,
    quantized_activations,
    remove_codes,
    same_numbers,
    with_sign,
)
from lowtide.runtime import Session, dequantize, to_model

CODES = st.sampled_from([DType.INT8, DType.UINT8, DType.INT16, DType.UINT16])
SCALES = st.floats(2.0**-20, 2.0**20, width=32)

NET = """graph "n" {
input %x: float32[1, 2] ~ uint8(scale=0.5, zero=7)
const %w: float32[2, 2] ~ int8(scale=[0.25, 2], axis=1) = [3, -4, 5, 6]
%y: float32[1, 2] ~ int16(scale=0.125) = MatMul(%x, %w)
return %y
}"""


@st.composite
def parameters(draw: st.DrawFn) -> QuantParams:
    dtype = draw(CODES)
    channels = draw(st.integers(1, 3))
    scales = draw(st.lists(SCALES, min_size=channels, max_size=channels))
    zeros = draw(st.lists(st.integers(dtype.min, dtype.max), min_size=channels, max_size=channels))
    return QuantParams(dtype, scales, zeros, 0 if channels > 1 else None)


def every_code(quant: QuantParams) -> NDArray[Any]:
    codes = np.linspace(quant.dtype.min, quant.dtype.max, 256).round().astype(quant.dtype.numpy)
    return np.tile(codes, (len(quant.scale), 1))


def constant(quant: QuantParams, codes: NDArray[Any]) -> tuple[Graph, Value]:
    graph = Graph("c")
    return graph, graph.add_constant("w", Constant.of(codes), TensorType(DType.FLOAT32, codes.shape, quant))


def real(value: Value) -> NDArray[Any]:
    assert value.constant is not None
    data = value.constant.array()
    return data if value.type.quant is None else dequantize(data, value.type.quant)


@given(parameters(), st.booleans())
def test_another_sign_keeps_every_real_number(quant: QuantParams, signed: bool) -> None:
    other = with_sign(quant, signed=signed)
    assert other.dtype.signed is signed
    assert same_numbers(quant, other)
    codes = every_code(quant)
    moved = (codes.astype(np.int64) - quant.dtype.min + other.dtype.min).astype(other.dtype.numpy)
    assert np.array_equal(dequantize(codes, quant), dequantize(moved, other))
    assert with_sign(other, signed=quant.dtype.signed) == quant


@given(parameters(), parameters())
def test_parameters_mean_the_same_numbers_when_every_code_does(one: QuantParams, other: QuantParams) -> None:
    def numbers(quant: QuantParams) -> NDArray[Any]:
        return dequantize(every_code(quant), quant)

    same = numbers(one).shape == numbers(other).shape and np.array_equal(numbers(one), numbers(other))
    assert same_numbers(one, other) == (same and one.bits == other.bits)


@pytest.mark.parametrize(
    "other",
    [
        QuantParams("int8", 0.5, 4),
        QuantParams("int8", 0.25, 3),
        QuantParams("int16", 0.5, 3),
        QuantParams("uint8", 0.5, 3),
    ],
)
def test_one_difference_is_enough_to_mean_other_numbers(other: QuantParams) -> None:
    assert not same_numbers(QuantParams("int8", 0.5, 3), other)


@given(parameters(), st.data())
def test_a_constant_loses_its_zero_point_when_all_its_numbers_have_codes_without(
    quant: QuantParams, data: st.DataObject
) -> None:
    code = st.integers(quant.dtype.min, quant.dtype.max)
    count = len(quant.scale)
    rows = data.draw(st.lists(st.lists(code, min_size=4, max_size=4), min_size=count, max_size=count))
    codes = np.array(rows, quant.dtype.numpy)
    graph, value = constant(quant, codes)
    before = real(value)
    steps = codes.astype(np.int64) - np.array(quant.zero_point)[:, np.newaxis]
    wanted = (DType(f"int{quant.bits}"), DType(f"uint{quant.bits}"))
    fits = any(dtype.min <= steps.min() and steps.max() <= dtype.max for dtype in wanted)
    assert make_symmetric(graph, value, wanted) is fits
    assert np.array_equal(real(value), before)
    assert value.type.quant is not None
    assert value.type.quant.is_symmetric or not fits
    verify(graph)


def test_uint8_weights_around_128_become_int8() -> None:
    graph, value = constant(QuantParams("uint8", 0.5, 128), np.array([0, 128, 255], np.uint8))
    assert make_symmetric(graph, value, (DType.INT8,))
    assert value.type.quant == QuantParams("int8", 0.5)
    assert value.constant is not None
    assert value.constant.array().tolist() == [-128, 0, 127]


def test_codes_that_do_not_fit_stay_as_they_are() -> None:
    graph, value = constant(QuantParams("uint8", 0.5, 100), np.array([0, 228], np.uint8))
    assert not make_symmetric(graph, value, (DType.INT8,))
    assert value.type.quant == QuantParams("uint8", 0.5, 100)


def test_activations_with_codes_are_found_inputs_first_and_constants_are_not_among_them() -> None:
    assert [value.name for value in quantized_activations(parse_graph(NET))] == ["x", "y"]


def test_a_graph_without_codes_computes_with_the_numbers_of_its_constants() -> None:
    graph = parse_graph(NET)
    expected = to_model(graph, quantized=False)
    remove_codes(graph)
    assert not quantized_activations(graph)
    assert all(value.type.quant is None for value in graph.constants)
    feed = {"x": np.array([[1.5, -2.25]], np.float32)}
    found = Session(to_model(graph, quantized=True)).run(feed)["y"]
    assert found.tolist() == Session(expected).run(feed)["y"].tolist() == [[-1.6875, -39.0]]


def test_a_constant_without_codes_stays() -> None:
    graph = Graph("c")
    value = graph.add_constant("w", Constant.of(np.array([1.5], np.float32)))
    constant_to_float(graph, value)
    assert real(value).tolist() == [1.5]
