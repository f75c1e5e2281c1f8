from __future__ import annotations

from collections.abc import Mapping
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
from lowtide.plugin import CalibratorSpec, Provider, Registry, StatisticSpec
from lowtide_plugins.calibrators.histogram import Histogram
from lowtide_plugins.calibrators.minmax import MinMaxCalibrator
from lowtide_plugins.calibrators.moving_average import MovingAverageCalibrator, MovingAverageExtremes
from lowtide_plugins.calibrators.percentile import PercentileCalibrator

FORMAT = NumberFormat(8, symmetric=False, power_of_two=False)
NAMES = ["minmax", "moving-average", "percentile"]

data_of = hnp.arrays(np.float32, (4, 50), elements=st.floats(-1e6, 1e6, width=32))


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.add_plugin(plugin, Provider("lowtide", "0", "calibrators"))
    return made


def statistics_of(frames: NDArray[np.float32]) -> Mapping[str, Statistic]:
    info = TensorInfo("t", frames.shape[1:])
    made: dict[str, Statistic] = {
        kind.name: kind(info) for kind in (MinMax, MovingAverageExtremes, Histogram)
    }
    for frame in frames:
        for statistic in made.values():
            ends = Extremes(frame.min(keepdims=True), frame.max(keepdims=True))
            statistic.update(ends if statistic.wants == "extremes" else frame)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_every_calibrator_finds_its_statistics_in_the_registry(registry: Registry, name: str) -> None:
    calibrator: Calibrator = registry.load(CalibratorSpec, name)()
    assert calibrator.name == name
    for statistic in calibrator.statistics:
        assert registry.load(StatisticSpec, statistic).name == statistic


@pytest.mark.parametrize("name", NAMES)
@given(data=data_of)
def test_every_range_is_finite_ordered_and_inside_what_was_seen(name: str, data: Any) -> None:
    made = Registry()
    made.add_plugin(plugin, Provider("lowtide", "0", "calibrators"))
    found: Range = made.load(CalibratorSpec, name)().range(statistics_of(data), FORMAT)
    assert min(0.0, float(data.min())) <= found.min <= found.max <= max(0.0, float(data.max()))


def test_minmax_is_the_range_over_all_frames() -> None:
    data = np.random.default_rng(0).normal(size=(5, 30)).astype(np.float32)
    found = MinMaxCalibrator().range(statistics_of(data), FORMAT)
    assert (found.min, found.max) == (data.min(), data.max())


def test_moving_average_is_the_mean_of_the_extremes_of_each_frame() -> None:
    data = np.random.default_rng(0).normal(size=(5, 30)).astype(np.float32)
    found = MovingAverageCalibrator().range(statistics_of(data), FORMAT)
    exact = data.astype(np.float64)
    assert found.min == pytest.approx(exact.min(axis=1).mean(), rel=1e-15)
    assert found.max == pytest.approx(exact.max(axis=1).mean(), rel=1e-15)


def test_percentile_cuts_the_same_share_on_both_sides() -> None:
    data = np.random.default_rng(0).normal(size=(4, 50_000)).astype(np.float32)
    found = PercentileCalibrator(shrink=1.0).range(statistics_of(data), FORMAT)
    assert found.min == pytest.approx(np.quantile(data, 0.01), rel=2**-7)
    assert found.max == pytest.approx(np.quantile(data, 0.99), rel=2**-7)


def test_percentile_ignores_a_rare_outlier() -> None:
    data = np.random.default_rng(0).uniform(0, 1, size=(4, 50_000)).astype(np.float32)
    data[2, 7] = 1000
    found = PercentileCalibrator().range(statistics_of(data), FORMAT)
    assert found.min == 0
    assert 0.99 < found.max <= 1.01


def test_percentile_without_shrink_is_the_whole_range() -> None:
    data = np.random.default_rng(0).normal(size=(4, 100)).astype(np.float32)
    found = PercentileCalibrator(shrink=0).range(statistics_of(data), FORMAT)
    assert (found.min, found.max) == (data.min(), data.max())


@pytest.mark.parametrize(("sign", "zero_end"), [(1, "min"), (-1, "max")])
def test_percentile_keeps_zero_at_the_end_of_a_one_sided_tensor(sign: int, zero_end: str) -> None:
    data = sign * np.random.default_rng(0).uniform(1, 2, size=(2, 1000)).astype(np.float32)
    assert getattr(PercentileCalibrator().range(statistics_of(data), FORMAT), zero_end) == 0


@pytest.mark.parametrize("shrink", [-0.1, 50.0, float("nan")])
def test_an_impossible_shrink_is_refused(shrink: float) -> None:
    with pytest.raises(OptionError, match="shrink should be at least 0 and below 50"):
        PercentileCalibrator(shrink=shrink)
