from __future__ import annotations

import math
from typing import Any

import hypothesis.extra.numpy as nps
import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from lowtide.ir import DType, QuantParams
from lowtide.quantize import numbers
from lowtide.runtime import dequantize

CODES = (DType.INT8, DType.UINT8, DType.INT16, DType.UINT16)
SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
LARGEST = float(np.finfo(np.float32).max)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=True)
moderate = st.floats(2**-20, 2**20, width=32)


def quantize_linear(dtype: DType, axis: int | None) -> ort.InferenceSession:
    """QuantizeLinear of a ``[3, N]`` tensor, with scale and zero point as operands."""
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], axis=axis or 0)
    parameters = [] if axis is None else [3]
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info("x", 1, [3, None]),
            helper.make_tensor_value_info("s", 1, parameters),
            helper.make_tensor_value_info("z", dtype.onnx, parameters),
        ],
        [helper.make_tensor_value_info("y", dtype.onnx, [3, None])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


SESSIONS = {(dtype, axis): quantize_linear(dtype, axis) for dtype in CODES for axis in (None, 0)}


@given(st.data(), st.sampled_from(CODES), st.sampled_from([None, 0]))
def test_codes_of_any_number_at_any_scale_are_those_of_onnx_runtime(
    data: st.DataObject, dtype: DType, axis: int | None
) -> None:
    count = 1 if axis is None else 3
    scale = data.draw(st.lists(moderate, min_size=count, max_size=count))
    zero = data.draw(st.lists(st.integers(dtype.min, dtype.max), min_size=count, max_size=count))
    bound = 2.0**30
    real = data.draw(nps.arrays(np.float32, (3, 7), elements=st.floats(-bound, bound, width=32)))
    shape = () if axis is None else (3,)
    feeds = {
        "x": real,
        "s": np.array(scale, np.float32).reshape(shape),
        "z": np.array(zero, dtype.numpy).reshape(shape),
    }
    expected = SESSIONS[dtype, axis].run(None, feeds)[0]
    np.testing.assert_array_equal(numbers.quantize(real, QuantParams(dtype, scale, zero, axis)), expected)


def test_quotients_that_float32_rounds_to_a_tie_get_the_code_of_onnx_runtime() -> None:
    # The products are rounded, so that only a division in float32 brings all of them back to ties.
    scale = np.array(0.1, np.float32)
    steps = np.arange(-126.5, 127, dtype=np.float32).reshape(1, -1).repeat(3, axis=0)
    real = steps * scale
    expected = SESSIONS[DType.INT8, None].run(None, {"x": real, "s": scale, "z": np.array(0, np.int8)})[0]
    found = numbers.quantize(real, QuantParams(DType.INT8, float(scale)))
    np.testing.assert_array_equal(found, expected)
    assert (np.rint(real.astype(np.float64) / float(scale)) != expected).any()


@given(st.sampled_from(CODES), st.sampled_from(["even", "away"]))
def test_infinite_and_overflowing_numbers_saturate(dtype: DType, half: str) -> None:
    quant = QuantParams(dtype, 2.0**-100, 0)
    real = np.array([-np.inf, -LARGEST, 0.0, LARGEST, np.inf], np.float32)
    found = numbers.quantize(real, quant, half=half)
    assert found.tolist() == [dtype.min, dtype.min, 0, dtype.max, dtype.max]


@given(finite, finite, st.sampled_from(CODES))
def test_every_finite_range_has_parameters_with_an_exact_zero(one: float, other: float, dtype: DType) -> None:
    low, high = min(one, other), max(one, other)
    quant = numbers.asymmetric(low, high, dtype)
    assert quant.scale[0] >= SMALLEST_NORMAL
    assert dequantize(numbers.quantize(np.zeros(1), quant), quant) == 0
    for symmetric in (numbers.symmetric(low, high, dtype.bits), numbers.power_of_two(low, high, dtype.bits)):
        assert symmetric.is_symmetric
        assert symmetric.scale[0] >= SMALLEST_NORMAL


@given(moderate, moderate, st.sampled_from(CODES))
def test_a_number_inside_the_range_of_codes_is_half_a_step_away(
    below: float, above: float, dtype: DType
) -> None:
    quant = numbers.asymmetric(-below, above, dtype)
    covered_low, covered_high = quant.range
    inside = np.clip(np.linspace(-below, above, 41), covered_low, covered_high)
    back = dequantize(numbers.quantize(inside, quant), quant).astype(np.float64)
    rounding = max(below, above) * 2**-22  # of float32 quotients and products
    assert np.abs(back - inside).max() <= quant.scale[0] / 2 + rounding
    # The zero point is rounded, so that the codes may end half a step before the range does.
    assert covered_low - quant.scale[0] / 2 - rounding <= -below
    assert above <= covered_high + quant.scale[0] / 2 + rounding


@given(moderate, st.sampled_from([8, 16]), st.booleans())
def test_a_power_of_two_clip_is_never_below_the_largest_magnitude(
    magnitude: float, bits: int, signed: bool
) -> None:
    quant = numbers.power_of_two(-magnitude if signed else 0.0, magnitude / 3, bits)
    largest = magnitude if signed else magnitude / 3
    exponent = math.log2(quant.scale[0])
    assert exponent == round(exponent)
    assert quant.scale[0] * 2 ** (bits - signed) >= largest


@given(finite, st.sampled_from(CODES))
def test_a_range_of_any_size_has_a_scale_that_its_accumulator_reaches_by_shifts(
    high: float, dtype: DType
) -> None:
    for accumulator in (2.0**-250, 1e-3, 1e3):
        scale, shift = numbers.accumulator_scale(min(high, 0.0), max(high, 0.0), dtype, accumulator)
        assert scale == math.ldexp(accumulator, shift)
        assert QuantParams(dtype, scale).scale[0] >= SMALLEST_NORMAL * (1 - 1e-6)


@given(st.floats(1e-6, 1e4), st.floats(1e-9, 1e-3), st.sampled_from(CODES))
def test_the_range_of_an_accumulator_scale_gives_that_scale_again(
    high: float, accumulator: float, dtype: DType
) -> None:
    scale, shift = numbers.accumulator_scale(0.0, high, dtype, accumulator)
    stored = QuantParams(dtype, scale).scale[0]
    assert numbers.accumulator_scale(0.0, stored * dtype.max, dtype, accumulator)[1] == shift


@pytest.mark.parametrize(("narrow", "lowest"), [(True, -127), (False, -128)])
def test_full_codes_use_the_lowest_code_and_narrow_ones_do_not(narrow: bool, lowest: int) -> None:
    weights = np.array([[-3.0, 1.5], [0.25, 0.5]])
    quant = numbers.weight_params(weights, 8, axis=0, power=False, narrow=narrow)
    codes = numbers.quantize(weights, quant, half="away")
    assert codes[0, 0] == lowest
    # 0.5 is the largest positive weight of its channel: 127 in both, saturated in full codes.
    assert codes[1, 1] == 127
    assert quant.scale[1] == pytest.approx(0.5 / (127 if narrow else 128))


def test_a_channel_of_zeros_has_a_scale_of_one() -> None:
    quant = numbers.weight_params(np.array([[0.0, 0.0], [1.0, 2.0]]), 8, axis=0, power=False, narrow=True)
    assert quant.scale[0] == 1.0


@given(st.integers(-(2**40), 2**40))
def test_half_an_integer_goes_to_its_larger_neighbour_in_magnitude(whole: int) -> None:
    expected = whole + 1 if whole >= 0 else whole
    assert float(numbers.round_half_away(np.array(whole + 0.5))) == expected


def test_the_number_just_below_a_half_stays_zero() -> None:
    below = np.nextafter(0.5, 0.0)
    assert numbers.round_half_away(np.array([below, -below])).tolist() == [0.0, 0.0]


@given(st.lists(st.integers(-(2**31) + 1, 2**31 - 1), max_size=6))
def test_stored_split_biases_are_an_8_bit_code_times_one_8_bit_multiplier(codes: list[int]) -> None:
    stored: NDArray[Any] = numbers.split_bias(codes).astype(np.int64)
    fits = [m for m in range(1, 256) if not (stored % m).any() and (np.abs(stored // m) <= 127).all()]
    assert fits
    held = np.clip(codes, -127 * 255, 127 * 255)
    assert (np.abs(stored - held) <= max(fits) / 2).all()
