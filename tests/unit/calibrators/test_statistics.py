from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lowtide.calibrate import Extremes, MinMax, Statistic, TensorInfo
from lowtide_plugins.calibrators.histogram import Histogram
from lowtide_plugins.calibrators.moving_average import MEAN_FRAMES, MovingAverageExtremes

CHANNELS = 3
INFO = TensorInfo("t", (1, CHANNELS, 4), 1)
KINDS: list[type[Statistic]] = [MinMax, MovingAverageExtremes, Histogram]

numbers = st.floats(-(2.0**100), 2.0**100, width=32)
frames_of = st.lists(hnp.arrays(np.float32, (1, CHANNELS, 4), elements=numbers), min_size=1, max_size=12)


def seen_by(kind: type[Statistic], frames: list[NDArray[np.float32]]) -> Statistic:
    statistic = kind(INFO)
    for frame in frames:
        if kind.wants == "array":
            statistic.update(frame)
        else:
            positive_zero = np.float32(0)  # the collector returns no -0.0
            ends = frame.min(axis=(0, 2)) + positive_zero, frame.max(axis=(0, 2)) + positive_zero
            statistic.update(Extremes(*ends))
    return statistic


def bits(statistic: Statistic) -> dict[str, tuple[tuple[int, ...], bytes]]:
    return {name: (array.shape, array.tobytes()) for name, array in statistic.save().items()}


@pytest.mark.parametrize("kind", KINDS)
@given(frames=frames_of, cuts=st.lists(st.integers(0, 12), max_size=3))
def test_splitting_frames_and_merging_gives_the_same_bits(
    kind: type[Statistic], frames: list[NDArray[np.float32]], cuts: list[int]
) -> None:
    edges = [0, *sorted(min(cut, len(frames)) for cut in cuts), len(frames)]
    merged = kind(INFO)
    for start, stop in itertools.pairwise(edges):
        part = seen_by(kind, frames[start:stop])
        before = bits(part)
        merged.merge(part)
        assert bits(part) == before
    assert bits(merged) == bits(seen_by(kind, frames))


@pytest.mark.parametrize("kind", KINDS)
@given(frames=frames_of)
def test_what_is_saved_is_loaded_to_the_last_bit(
    kind: type[Statistic], frames: list[NDArray[np.float32]]
) -> None:
    statistic = seen_by(kind, frames)
    loaded = kind.load(INFO, statistic.save())
    assert bits(loaded) == bits(statistic)
    loaded.merge(seen_by(kind, frames))
    assert bits(statistic) == bits(seen_by(kind, frames))


@pytest.mark.parametrize("kind", [MinMax, Histogram])
@given(frames=frames_of, seed=st.randoms())
def test_the_order_of_the_frames_does_not_matter(
    kind: type[Statistic], frames: list[NDArray[np.float32]], seed: Any
) -> None:
    shuffled = list(frames)
    seed.shuffle(shuffled)
    assert bits(seen_by(kind, shuffled)) == bits(seen_by(kind, frames))


def pairs(count: int) -> list[tuple[float, float]]:
    made = np.random.default_rng(count).normal(size=(count, 2)).astype(np.float32)
    return [(float(low), float(high)) for low, high in made]


def averages(ends: list[tuple[float, float]]) -> MovingAverageExtremes:
    statistic = MovingAverageExtremes(TensorInfo("t", (1, 1)))
    for low, high in ends:
        statistic.update(Extremes(np.array([low], np.float32), np.array([high], np.float32)))
    return statistic


@given(seed=st.randoms(use_true_random=False))
def test_the_running_average_ignores_the_order_up_to_1000_frames(seed: Any) -> None:
    ends = pairs(40)
    expected = averages(ends)
    seed.shuffle(ends)
    found = averages(ends)
    assert (found.low, found.high) == (expected.low, expected.high)


@pytest.mark.parametrize("count", [1, 2, 999, 1000, 1001, 1500])
def test_the_running_average_is_its_recurrence(count: int) -> None:
    running = Fraction(0)
    for number, (_, high) in enumerate(pairs(count), 1):
        factor = max(Fraction(1, number), Fraction(1, 1000))
        running += (Fraction(high) - running) * factor
    found = averages(pairs(count))
    assert found.frames == count
    assert found.high == pytest.approx(float(running), rel=1e-12)


@pytest.mark.parametrize("cut", [1, 64, 300, 1000, 1100, 1499])
def test_running_averages_of_parts_merge_beyond_1000_frames(cut: int) -> None:
    ends = pairs(1500)
    merged = averages(ends[:cut])
    merged.merge(averages(ends[cut:]))
    whole = averages(ends)
    assert merged.frames == whole.frames == 1500
    assert merged.low == pytest.approx(whole.low, rel=1e-12)
    assert merged.high == pytest.approx(whole.high, rel=1e-12)


def test_two_long_parts_merge() -> None:
    ends = pairs(2 * MEAN_FRAMES + 700)
    merged = averages(ends[:1200])
    merged.merge(averages(ends[1200:]))
    assert merged.high == pytest.approx(averages(ends).high, rel=1e-12)


def test_a_statistic_is_not_merged_with_itself() -> None:
    statistic = averages(pairs(2))
    with pytest.raises(ValueError, match="itself"):
        statistic.merge(statistic)


@given(
    data=hnp.arrays(np.float32, st.integers(1, 400), elements=st.floats(-1e6, 1e6, width=32)),
    share=st.floats(0, 1),
)
def test_a_quantile_lies_in_the_bin_of_the_exact_one(data: NDArray[np.float32], share: float) -> None:
    histogram = Histogram(TensorInfo("t", (data.size,)))
    histogram.update(data)
    assert histogram.total == data.size
    exact = float(np.sort(data)[max(int(np.ceil(share * data.size)) - 1, 0)])
    # A bin is 2^-7 of its power of two wide; below 2^-133 all magnitudes share one.
    assert abs(histogram.quantile(share) - exact) <= abs(exact) * 2**-7 + 2**-133


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.5, 0.99, 0.9999])
def test_quantiles_of_many_numbers_are_those_of_numpy(share: float) -> None:
    data = np.random.default_rng(0).laplace(size=200_000).astype(np.float32)
    histogram = Histogram(TensorInfo("t", (data.size,)))
    for part in np.split(data, 4):
        histogram.update(part)
    exact = float(np.quantile(data, share))
    assert histogram.quantile(share) == pytest.approx(exact, rel=2**-7, abs=1e-3)


def test_bins_ascend_and_hold_every_element() -> None:
    data = np.array([-3.0, -0.5, -0.0, 0.0, 1e-3, 2.0, 3.4e38], np.float32)
    histogram = Histogram(TensorInfo("t", (7,)))
    histogram.update(data)
    edges, counts = histogram.bins()
    assert edges.size == counts.size + 1
    assert (np.diff(edges) >= 0).all()
    assert np.isfinite(edges).all()
    assert counts.sum() == 7


@pytest.mark.parametrize(
    "data", [np.ones(10), -np.ones(10), np.zeros(10), np.full(3, 3.4e38)], ids=["+", "-", "0", "huge"]
)
def test_a_constant_tensor_has_quantiles_of_its_value(data: NDArray[np.float64]) -> None:
    histogram = Histogram(TensorInfo("t", data.shape))
    histogram.update(data.astype(np.float32))
    assert histogram.quantile(0.3) == pytest.approx(data[0], rel=2**-7)


def test_an_empty_histogram_has_no_quantile() -> None:
    with pytest.raises(ValueError, match="without elements"):
        Histogram(TensorInfo("t", (1,))).quantile(0.5)


def test_only_touched_bins_are_saved() -> None:
    histogram = Histogram(TensorInfo("t", (1000,)))
    histogram.update(np.random.default_rng(0).uniform(1, 4, 1000).astype(np.float32))
    assert sum(array.size for array in histogram.save().values()) <= 2 * 128 + 2
