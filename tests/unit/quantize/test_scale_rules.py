from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from lowtide.ir import DType, QuantParams
from lowtide.quantize import numbers
from lowtide.runtime import dequantize

BOUND = st.floats(-1e6, 1e6, width=32)
DTYPES = st.sampled_from([DType.INT8, DType.UINT8, DType.INT16, DType.UINT16])
BITS = st.sampled_from([8, 16])


def inside(low: float, high: float, count: int = 33) -> NDArray[Any]:
    low, high = numbers.with_zero(low, high)
    return np.linspace(low, high, count)


def error(real: NDArray[Any], quant: QuantParams) -> NDArray[Any]:
    found: NDArray[Any] = np.abs(dequantize(numbers.quantize(real, quant), quant).astype(np.float64) - real)
    return found


@given(BOUND, BOUND, DTYPES)
def test_zero_has_an_exact_code_and_every_number_of_the_range_is_half_a_step_away(
    one: float, other: float, dtype: DType
) -> None:
    low, high = min(one, other), max(one, other)
    assume(high - low > 1e-30)
    quant = numbers.asymmetric(low, high, dtype)
    zero = dequantize(
        np.array(quant.zero_point, dtype.numpy), QuantParams(dtype, quant.scale, quant.zero_point)
    )
    assert zero == 0
    # The zero point is rounded, so one end of the range may lie up to half a step beyond the last code.
    assert error(inside(low, high), quant).max() <= quant.scale[0] * 1.01


@given(BOUND, BOUND, BITS)
def test_symmetric_codes_hold_the_range_without_saturating(one: float, other: float, bits: int) -> None:
    low, high = min(one, other), max(one, other)
    assume(max(abs(low), abs(high)) > 1e-30)
    quant = numbers.symmetric(low, high, bits)
    assert quant.is_symmetric
    assert quant.dtype.signed == (low < 0)
    rounding = max(abs(low), abs(high)) * 2**-22  # of float32 scales and products
    assert error(inside(low, high), quant).max() <= quant.scale[0] * 0.5 + rounding


@given(BOUND, BOUND, BITS)
def test_a_power_of_two_scale_is_one_and_its_clip_is_the_next_at_or_above(
    one: float, other: float, bits: int
) -> None:
    low, high = min(one, other), max(one, other)
    magnitude = max(abs(low), abs(high))
    assume(magnitude > 1e-30)
    quant = numbers.power_of_two(low, high, bits)
    mantissa, _ = math.frexp(quant.scale[0])
    clip = quant.scale[0] * 2 ** (bits - 1 if quant.dtype.signed else bits)
    assert mantissa == 0.5
    assert clip / 2 < magnitude <= clip


@pytest.mark.parametrize("rule", [numbers.symmetric, numbers.power_of_two])
def test_a_range_of_width_zero_gives_a_scale_of_one(rule: Any) -> None:
    assert rule(0.0, 0.0, 8).scale == (1.0,)
    assert numbers.asymmetric(0.0, 0.0, DType.UINT8).scale == (1.0,)


@given(st.floats(1e-6, 1e4), st.floats(1e-9, 1e-2), BITS, st.booleans())
def test_the_shift_is_the_smallest_that_holds_the_range(
    high: float, accumulator: float, bits: int, signed: bool
) -> None:
    dtype = numbers.signed_dtype(bits) if signed else numbers.unsigned_dtype(bits)
    scale, shift = numbers.accumulator_scale(-high if signed else 0.0, high, dtype, accumulator)
    assert scale == math.ldexp(accumulator, shift)
    assert scale * dtype.max >= high * (1 - 1e-5)
    if shift:
        assert scale / 2 * dtype.max < high


def test_the_scales_of_the_vendors_published_example_follow_from_its_ranges() -> None:
    weights = np.array([-0.00830631796, 0.00886716694])
    quant = numbers.weight_params(weights, 8, axis=None, power=False, narrow=False)
    assert 1 / quant.scale[0] == pytest.approx(14435.275390625, rel=1e-6)
    scale, shift = numbers.accumulator_scale(0.0, 4.09663105, DType.UINT8, quant.scale[0])
    assert 1 / scale == pytest.approx(56.387794494628906, rel=1e-6)
    assert shift == 8


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=4, max_size=4), BITS, st.booleans(), st.booleans())
def test_weights_lose_at_most_half_a_step_in_every_channel(
    entries: list[float], bits: int, power: bool, narrow: bool
) -> None:
    weights = np.array(entries, np.float64).reshape(2, 2)
    quant = numbers.weight_params(weights, bits, axis=0, power=power, narrow=narrow)
    codes = numbers.quantize(weights, quant, half="away")
    step = np.array(quant.scale).reshape(2, 1)
    # Full-range codes let the largest positive weight saturate by one code.
    slack = 0.51 if narrow and not power else 1.01
    assert (np.abs(codes * step - weights) <= step * slack + 1e-30).all()


@pytest.mark.parametrize("dtype", [DType.INT8, DType.UINT8, DType.INT16, DType.UINT16])
@pytest.mark.parametrize("axis", [None, 1])
def test_codes_are_those_of_onnx_runtime(dtype: DType, axis: int | None) -> None:
    generator = np.random.default_rng(3)
    scale = [0.5] if axis is None else [0.5, 0.25, 2.0]
    zero = 0 if dtype.signed else 100
    quant = QuantParams(dtype, scale, zero, axis)
    # Halves of the scale make ties frequent.
    real = (generator.integers(-90_000, 90_000, (50, 3)) / 8).astype(np.float32)
    shape = () if axis is None else (3,)
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])
    if axis is not None:
        node.attribute.append(helper.make_attribute("axis", axis))
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", 1, [50, 3])],
        [helper.make_tensor_value_info("y", dtype.onnx, [50, 3])],
        [
            helper.make_tensor("s", 1, shape, scale),
            helper.make_tensor("z", dtype.onnx, shape, list(quant.zero_point)),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(numbers.quantize(real, quant), session.run(None, {"x": real})[0])


@given(st.floats(-1e9, 1e9))
def test_ties_go_away_from_zero(x: float) -> None:
    rounded = float(numbers.round_half_away(np.array(x)))
    assert abs(rounded - x) <= 0.5
    assert rounded == -float(numbers.round_half_away(np.array(-x)))
    whole = float(np.trunc(x))
    assert float(numbers.round_half_away(np.array(whole + math.copysign(0.5, x)))) == whole + math.copysign(
        1, x
    )


@given(st.lists(st.integers(-(127 * 255), 127 * 255), min_size=1, max_size=8))
def test_a_split_bias_is_off_by_half_a_multiplier_at_most(codes: list[int]) -> None:
    stored = numbers.split_bias(codes)
    multiplier = max(1, -(-max(map(abs, codes)) // 127))
    assert np.abs(stored - np.array(codes)).max() <= multiplier / 2
    factors = [factor for factor in range(1, 256) if not (stored % factor).any()]
    assert any(np.abs(stored).max() <= 127 * factor for factor in factors)


@given(st.lists(st.integers(-(127 * 255), 127 * 255), min_size=1, max_size=8))
def test_a_bias_that_is_split_already_stays(codes: list[int]) -> None:
    stored = numbers.split_bias(codes)
    assert numbers.split_bias(stored).tolist() == stored.tolist()


def test_a_bias_beyond_the_split_format_saturates() -> None:
    assert numbers.split_bias([10**6, -(10**6)]).tolist() == [127 * 255, -127 * 255]


@given(st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_no_accumulator_exceeds_its_reach(zero: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    weights = generator.integers(-128, 128, (3, 5)).astype(np.int8)
    quant = QuantParams(DType.UINT8, 1.0, zero)
    reach = numbers.accumulator_reach(weights, 0, quant)
    inputs = generator.integers(0, 256, (40, 5)) - zero
    assert (np.abs(inputs @ weights.T.astype(np.int64)) <= reach).all()
