"""``entropy`` beside the definition written out in loops, and beside ONNX Runtime."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnxruntime.quantization.calibrate import HistogramCollector

import lowtide_plugins.calibrators as plugin
from lowtide.calibrate import Extremes, MinMax, NumberFormat, Range, Statistic, TensorInfo
from lowtide.errors import OptionError
from lowtide.plugin import CalibratorSpec, Provider, Registry
from lowtide.plugin.testing import check_calibrator
from lowtide_plugins.calibrators.entropy import STRIDE, EntropyCalibrator
from lowtide_plugins.calibrators.histogram import Histogram

Data = NDArray[np.float32]

BINS = 1024
ASYMMETRIC = NumberFormat(8, symmetric=False, power_of_two=False)
SYMMETRIC = NumberFormat(8, symmetric=True, power_of_two=False)

data_of = hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e6, 1e6, width=32))


def statistics_of(*frames: Data) -> Mapping[str, Statistic]:
    info = TensorInfo("t", (None,))
    histogram, minmax = Histogram(info), MinMax(info)
    for frame in frames:
        histogram.update(frame)
        minmax.update(Extremes(frame.min(keepdims=True), frame.max(keepdims=True)))
    return {"histogram": histogram, "minmax": minmax}


def divergence(p: list[float], q: list[float]) -> float:
    sums = sum(p), sum(q)
    return sum(a / sums[0] * math.log(a / sums[0] / (b / sums[1])) for a, b in zip(p, q, strict=True) if a)


def truncated(magnitudes: Data) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What is known of numbers whose lower 16 bits are gone: where each may begin and end."""
    codes = magnitudes.view(np.uint32) & 0xFFFF0000
    ends = ((codes + 0x10000).astype(np.uint32).view(np.float32), codes.view(np.float32))
    return ends[1].astype(np.float64), np.minimum(ends[0], magnitudes.max()).astype(np.float64)


def spread_counts(magnitudes: Data, width: float, count: int) -> NDArray[np.float64]:
    """Counts by bin, each element spread evenly over the bins that it may lie in."""
    edges = np.arange(count + 1) * width
    edges[-1] *= 2  # nothing is left over for rounding errors
    counts = np.zeros(count)
    for start, stop in zip(*truncated(magnitudes), strict=True):
        if stop == start:
            counts[np.searchsorted(edges, start, "right") - 1] += 1
        else:
            parts = np.diff(np.clip((edges - start) / (stop - start), 0, 1))
            counts += parts
    return counts


def sides(data: Data, width: float, count: int) -> list[list[float]]:
    """Counts of the negative and of the positive elements by magnitude."""
    halves = (-data[data < 0], data[data > 0])
    return [(spread_counts(half, width, count) if half.size else np.zeros(count)).tolist() for half in halves]


def reference(data: Data, fmt: NumberFormat, count: int = BINS) -> float:
    """The end of the best window, from P and Q written out bin by bin."""
    low, high = min(float(data.min()), 0.0), max(float(data.max()), 0.0)
    width = max(-low, high) / count
    counts = sides(data, width, count)
    reach = [min(math.ceil(-low / width), count), min(math.ceil(high / width), count)]
    best, end = math.inf, count
    for window in range(count, 0, -STRIDE):
        ends = [min(window, side) for side in reach]
        level = window / 2 ** (fmt.bits - 1) if fmt.symmetric and reach[0] else sum(ends) / 2**fmt.bits
        if level < 1:
            break
        p: list[float] = []
        q: list[float] = []
        for side, last in zip(counts, ends, strict=True):
            inside = side[:last]
            own = [*inside[:-1], inside[-1] + sum(side[last:])] if last else []
            spread = [0.0] * last
            for number in range(math.ceil(last / level)):
                first, stop = round(number * level), min(round((number + 1) * level), last)
                filled = [place for place in range(first, stop) if own[place]]
                for place in filled:
                    spread[place] = (sum(inside[first:stop]) or 1e-4) / len(filled)
            p += own
            q += spread
        found = divergence(p, q)
        if found < best - 1e-12:
            best, end = found, window
    return end * width


def peaked(seed: int, *, signed: bool, lopsided: float = 1.0) -> Data:
    """Most elements near 0, some far out; negative ones `lopsided` as large."""
    random = np.random.default_rng(seed)
    values = np.abs(random.laplace(size=2000)) * random.choice([1, 2, 3], size=2000)
    values = np.append(values, values.max() * (1 + random.random(3)))
    signs = np.where(random.random(values.size) < 0.4, -lopsided, 1.0) if signed else 1.0
    return (values * signs).astype(np.float32)


@pytest.mark.parametrize("fmt", [ASYMMETRIC, SYMMETRIC], ids=["asymmetric", "symmetric"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "shape",
    [{"signed": False}, {"signed": True}, {"signed": True, "lopsided": 0.1}],
    ids=["positive", "signed", "lopsided"],
)
def test_the_window_is_that_of_the_definition(seed: int, shape: Any, fmt: NumberFormat) -> None:
    data = peaked(seed, **shape)
    found = EntropyCalibrator(bins=BINS).range(statistics_of(data), fmt)
    assert max(-found.min, found.max) == pytest.approx(reference(data, fmt), rel=1e-6)


@pytest.mark.parametrize("kind", ["laplace", "standard_t"])
def test_the_threshold_is_near_that_of_onnxruntime(kind: str) -> None:
    random = np.random.default_rng(0)
    arguments = {"df": 4} if kind == "standard_t" else {}
    data = getattr(random, kind)(size=200_000, **arguments).astype(np.float32)
    end, bins = np.abs(data).max(), 2 * BINS + 1  # with one in the middle, as ONNX Runtime wants it
    collector = HistogramCollector("entropy", True, bins, 256, 99.99, None)
    counts, edges = np.histogram(data, bins, (-end, end))
    _, high = collector.get_entropy_threshold((counts, edges, data.min(), data.max()), 256)
    found = EntropyCalibrator(bins=BINS).range(statistics_of(data), SYMMETRIC)
    # Its levels are whole numbers of bins, rounded down: its divergence jumps from window to window.
    assert found.max == pytest.approx(high, rel=0.15)
    assert found.max < 0.95 * end


def test_sixteen_bits_take_the_whole_range() -> None:
    data = peaked(0, signed=True)
    wide = NumberFormat(16, symmetric=True, power_of_two=False)
    assert EntropyCalibrator().range(statistics_of(data), wide) == Range(data.min(), data.max())


@given(st.lists(data_of, min_size=1, max_size=4), st.sampled_from([ASYMMETRIC, SYMMETRIC]))
def test_the_range_lies_within_what_was_seen_and_does_not_depend_on_frames(
    frames: list[Data], fmt: NumberFormat
) -> None:
    whole = np.concatenate(frames)
    found = EntropyCalibrator().range(statistics_of(*frames), fmt)
    assert found == EntropyCalibrator().range(statistics_of(whole), fmt)
    assert min(whole.min(), 0) <= found.min <= 0 <= found.max <= max(whole.max(), 0)


def test_a_tensor_that_no_frame_has_shown_whole_has_its_whole_range() -> None:
    unseen = Histogram(TensorInfo("t", ()))
    statistics = {**statistics_of(np.array([-1, 2], np.float32)), "histogram": unseen}
    assert EntropyCalibrator().range(statistics, ASYMMETRIC) == Range(-1, 2)


@pytest.mark.parametrize("bins", [511, 0, -1, 1000.5])
def test_an_impossible_number_of_bins_is_refused(bins: Any) -> None:
    with pytest.raises(OptionError, match="entropy: bins should be a whole number of at least 512, found"):
        EntropyCalibrator(bins=bins)


def test_the_contract_of_calibrators_is_kept() -> None:
    registry = Registry()
    registry.add_plugin(plugin, Provider("lowtide", "0", "calibrators"))
    check_calibrator(registry.load(CalibratorSpec, "entropy")(), registry)
