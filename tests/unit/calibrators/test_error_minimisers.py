"""``mse`` and ``shift-aware`` beside the error that quantizing the elements themselves makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import lowtide_plugins.calibrators as plugin
from lowtide.calibrate import Calibrator, Extremes, MinMax, NumberFormat, Range, Statistic, TensorInfo
from lowtide.errors import OptionError
from lowtide.ir import QuantParams
from lowtide.plugin import CalibratorSpec, Provider, Registry
from lowtide.plugin.testing import check_calibrator
from lowtide.quantize import numbers
from lowtide_plugins.calibrators.density import Density
from lowtide_plugins.calibrators.histogram import Histogram
from lowtide_plugins.calibrators.mse import MseCalibrator
from lowtide_plugins.calibrators.shift_aware import ShiftAwareCalibrator

Data = NDArray[np.float32]

SIZE = 5_000


def silu(x: NDArray[Any]) -> NDArray[Any]:
    made: NDArray[Any] = x / (1 + np.exp(-x))
    return made


SHAPES: dict[str, Callable[[np.random.Generator], NDArray[Any]]] = {
    "laplace": lambda g: g.laplace(size=SIZE),
    "relu": lambda g: np.maximum(g.normal(size=SIZE), 0),
    "relu6": lambda g: np.clip(5 * g.normal(size=SIZE), 0, 6),
    "silu": lambda g: silu(4 * g.normal(size=SIZE)),
    "heavy tails": lambda g: g.standard_t(3, size=SIZE),
    "negative": lambda g: -np.abs(g.laplace(size=SIZE)),
    "lopsided": lambda g: np.where(g.random(SIZE) < 0.99, np.abs(g.laplace(size=SIZE)), -5 * g.random(SIZE)),
    "one outlier": lambda g: np.append(g.random(SIZE), 30),
    "tiny": lambda g: 1e-30 * g.normal(size=SIZE),
    "huge": lambda g: 1e30 * g.standard_t(3, size=SIZE),
}
ASYMMETRIC = NumberFormat(8, symmetric=False, power_of_two=False)
SYMMETRIC = NumberFormat(8, symmetric=True, power_of_two=False)
POWER = NumberFormat(8, symmetric=True, power_of_two=True)
SHIFT = NumberFormat(8, symmetric=True, power_of_two=False, shift_only=True)

data_of = hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e6, 1e6, width=32))


def made(shape: str) -> Data:
    return SHAPES[shape](np.random.default_rng(7)).astype(np.float32)


def statistics_of(*frames: Data) -> Mapping[str, Statistic]:
    info = TensorInfo("t", (None,))
    histogram, minmax = Histogram(info), MinMax(info)
    for frame in frames:
        histogram.update(frame)
        minmax.update(Extremes(frame.min(keepdims=True), frame.max(keepdims=True)))
    return {"histogram": histogram, "minmax": minmax}


def whole(data: Data) -> Range:
    return Range(min(float(data.min()), 0.0), max(float(data.max()), 0.0))


def params(span: Range, fmt: NumberFormat) -> QuantParams:
    """What the solver makes of a range."""
    if not fmt.symmetric:
        return numbers.asymmetric(span.min, span.max, numbers.unsigned_dtype(fmt.bits))
    if fmt.power_of_two:
        return numbers.power_of_two(span.min, span.max, fmt.bits)
    if fmt.accumulator is not None:
        dtype = numbers.symmetric_dtype(span.min, fmt.bits)
        return QuantParams(dtype, numbers.accumulator_scale(span.min, span.max, dtype, fmt.accumulator)[0])
    return numbers.symmetric(span.min, span.max, fmt.bits)


def error(data: Data, quant: QuantParams) -> float:
    """The mean squared error of the elements themselves."""
    codes = numbers.quantize(data, quant).astype(np.float64)
    return float(np.mean((data - (codes - quant.zero_point[0]) * quant.scale[0]) ** 2))


def best_of_many(data: Data, fmt: NumberFormat) -> float:
    """The least error among some 1000 ranges, of all widths and positions."""
    span = whole(data)
    ends = 2.0 ** np.linspace(0, -5, 32)
    spans = [Range(span.min * low, span.max * high) for low in ends for high in ends]
    spans += [Range(0.0, span.max * high) for high in ends]
    return min(error(data, params(tried, fmt)) for tried in {*spans})


@pytest.mark.parametrize("fmt", [ASYMMETRIC, SYMMETRIC], ids=["asymmetric", "symmetric"])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_range_of_a_fine_grid_is_much_better_than_that_of_mse(shape: str, fmt: NumberFormat) -> None:
    data = made(shape)
    found = MseCalibrator().range(statistics_of(data), fmt)
    assert error(data, params(found, fmt)) <= 1.03 * best_of_many(data, fmt)


@pytest.mark.parametrize("fmt", [ASYMMETRIC, SYMMETRIC], ids=["asymmetric", "symmetric"])
@pytest.mark.parametrize("shape", SHAPES)
def test_sixteen_bits_lose_nothing_to_the_whole_range(shape: str, fmt: NumberFormat) -> None:
    data, wide = made(shape), NumberFormat(16, symmetric=fmt.symmetric, power_of_two=False)
    found = MseCalibrator().range(statistics_of(data), wide)
    # The last element of the histogram's bins is known to 8 bits: a clip between the last two may move.
    assert error(data, params(found, wide)) <= 1.05 * error(data, params(whole(data), wide))


@pytest.mark.parametrize("shape", SHAPES)
def test_under_powers_of_two_shift_aware_finds_the_best_of_all_scales(shape: str) -> None:
    data = made(shape)
    found = ShiftAwareCalibrator().range(statistics_of(data), POWER)
    assert error(data, params(found, POWER)) <= 1.01 * best_of_many(data, POWER)


@pytest.mark.parametrize("accumulator", [1.0, 1.3, 1.9])
@pytest.mark.parametrize("shape", SHAPES)
def test_with_a_known_accumulator_shift_aware_finds_the_best_of_all_scales(
    shape: str, accumulator: float
) -> None:
    data = made(shape)
    unit = float(np.abs(data).max()) * 2.0**-20
    fmt = NumberFormat(8, symmetric=True, power_of_two=False, shift_only=True, accumulator=accumulator * unit)
    found = ShiftAwareCalibrator().range(statistics_of(data), fmt)
    assert error(data, params(found, fmt)) <= 1.01 * best_of_many(data, fmt)


@pytest.mark.parametrize("shape", SHAPES)
def test_with_an_unknown_accumulator_shift_aware_is_best_on_average(shape: str) -> None:
    data, statistics = made(shape), statistics_of(made(shape))

    def average(span: Range) -> float:
        unit = float(np.abs(data).max()) * 2.0**-20
        phases = [unit * 2 ** (phase / 16) for phase in range(16)]
        formats = [NumberFormat(8, True, False, True, phase) for phase in phases]
        return float(np.mean([error(data, params(span, fmt)) for fmt in formats]))

    aware = average(ShiftAwareCalibrator().range(statistics, SHIFT))
    assert aware <= 1.03 * average(MseCalibrator().range(statistics, SHIFT))
    assert aware <= 1.03 * average(whole(data))


@pytest.mark.parametrize("shape", SHAPES)
def test_with_a_free_scale_shift_aware_is_mse(shape: str) -> None:
    statistics = statistics_of(made(shape))
    for fmt in (ASYMMETRIC, SYMMETRIC):
        assert ShiftAwareCalibrator().range(statistics, fmt) == MseCalibrator().range(statistics, fmt)


def test_a_clip_that_the_next_power_of_two_undoes_is_not_chosen() -> None:
    data = np.append(np.random.default_rng(0).normal(size=SIZE), [4.2, -4.2]).astype(np.float32)
    statistics = statistics_of(data)
    assert MseCalibrator().range(statistics, POWER).max < 4.2
    clipped = ShiftAwareCalibrator().range(statistics, POWER)
    assert params(clipped, POWER).scale == (2.0**-5,)  # not those of 4.2 and the like, 2^-4


def test_rare_negative_numbers_give_way_to_finer_codes() -> None:
    data = np.append(np.random.default_rng(0).uniform(0, 8, SIZE), -0.01).astype(np.float32)
    assert MseCalibrator().range(statistics_of(data), SYMMETRIC).min == 0
    data[: SIZE // 2] *= -1
    assert MseCalibrator().range(statistics_of(data), SYMMETRIC).min < -7


@pytest.mark.parametrize("calibrator", [MseCalibrator(), ShiftAwareCalibrator()], ids=lambda made: made.name)
@pytest.mark.parametrize("fmt", [ASYMMETRIC, SYMMETRIC, POWER, SHIFT], ids=["asym", "sym", "power", "shift"])
@given(data=data_of)
def test_every_range_is_ordered_contains_zero_and_lies_inside_what_was_seen(
    calibrator: Calibrator, fmt: NumberFormat, data: Data
) -> None:
    found, seen = calibrator.range(statistics_of(data), fmt), whole(data)
    assert seen.min <= found.min <= 0 <= found.max <= seen.max


@pytest.mark.parametrize("calibrator", [MseCalibrator(), ShiftAwareCalibrator()], ids=lambda made: made.name)
@given(data=hnp.arrays(np.float32, (4, 20), elements=st.floats(-1e6, 1e6, width=32)), order=st.randoms())
def test_the_order_of_frames_does_not_matter(calibrator: Calibrator, data: Data, order: Any) -> None:
    frames = list(data)
    expected = calibrator.range(statistics_of(*frames), ASYMMETRIC)
    order.shuffle(frames)
    assert calibrator.range(statistics_of(*frames), ASYMMETRIC) == expected


@given(data=data_of, exponent=st.integers(-40, 40))
def test_a_power_of_two_as_unit_scales_the_range_and_nothing_else(data: Data, exponent: int) -> None:
    data = np.where(np.abs(data) < 1e-6, np.float32(0), data)  # all stay normal numbers
    found = MseCalibrator().range(statistics_of(data), SYMMETRIC)
    scaled = MseCalibrator().range(statistics_of(np.ldexp(data, exponent)), SYMMETRIC)
    unit = 2.0**exponent
    assert (scaled.min, scaled.max) == pytest.approx((found.min * unit, found.max * unit), rel=1e-9)


@given(
    data=data_of,
    step=st.floats(1e-3, 1e3),
    low=st.integers(-128, 0),
    high=st.integers(0, 127),
)
def test_the_error_of_point_masses_is_that_of_the_elements(
    data: Data, step: float, low: int, high: int
) -> None:
    values, counts = np.unique(data, return_counts=True)
    shares = np.zeros(2 * values.size - 1)
    shares[::2] = counts / data.size  # a bin of width 0 for each value, empty ones between them
    points = Density(np.repeat(values.astype(np.float64), 2), shares)
    steps = np.array([step])
    found = points.quantization_errors(steps, np.array([[low * step]]), np.array([[high * step]]))[0, 0]
    exact = data.astype(np.float64)
    expected = np.mean((exact - step * np.clip(np.rint(exact / step), low, high)) ** 2)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9 * float(np.square(exact).max()))


@pytest.mark.parametrize("kind", [MseCalibrator, ShiftAwareCalibrator])
@pytest.mark.parametrize(
    "data", [np.zeros(5), np.ones(5), -np.ones(5), np.full(3, 3e38)], ids=["0", "1", "-", "max"]
)
def test_a_constant_keeps_its_value(kind: type[Calibrator], data: Data) -> None:
    data = data.astype(np.float32)
    for fmt in (ASYMMETRIC, SYMMETRIC, SHIFT):
        found = kind().range(statistics_of(data), fmt)
        quant = params(found, fmt)
        assert error(data, quant) <= (1e-6 + 2.0**-16) * float(np.square(data.astype(np.float64)).max())


@pytest.mark.parametrize("kind", [MseCalibrator, ShiftAwareCalibrator])
def test_a_tensor_that_no_frame_has_shown_whole_has_its_whole_range(kind: type[Calibrator]) -> None:
    unseen = Histogram(TensorInfo("t", ()))
    statistics = {**statistics_of(np.array([-1, 2], np.float32)), "histogram": unseen}
    for fmt in (ASYMMETRIC, SYMMETRIC, POWER, SHIFT):
        assert kind().range(statistics, fmt) == Range(-1, 2)


@pytest.mark.parametrize("kind", [MseCalibrator, ShiftAwareCalibrator])
def test_the_whole_range_can_be_asked_for(kind: Any) -> None:
    data = made("heavy tails")
    for fmt in (ASYMMETRIC, POWER):
        assert params(kind(narrowest=1).range(statistics_of(data), fmt), fmt) == params(whole(data), fmt)


@pytest.mark.parametrize("kind", [MseCalibrator, ShiftAwareCalibrator])
@pytest.mark.parametrize("narrowest", [0, -0.5, 1.1, float("nan")])
def test_an_impossible_share_is_refused(kind: Any, narrowest: float) -> None:
    with pytest.raises(OptionError, match=f"{kind.name}: narrowest should be above 0 and at most 1, found"):
        kind(narrowest=narrowest)


@pytest.mark.parametrize("name", ["mse", "shift-aware"])
def test_the_contract_of_calibrators_is_kept(name: str) -> None:
    registry = Registry()
    registry.add_plugin(plugin, Provider("lowtide", "0", "calibrators"))
    check_calibrator(registry.load(CalibratorSpec, name)(), registry)
