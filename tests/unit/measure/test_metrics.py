from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lowtide.data import Frame
from lowtide.errors import DataError
from lowtide.measure import ErrorSum, Metric
from lowtide.plugin import MetricSpec, discover

REGISTRY = discover()
SCORES = st.lists(st.integers(-3, 3), min_size=10, max_size=10)


def metric(name: str) -> Metric:
    made: Metric = REGISTRY.load(MetricSpec, name)()
    return made


def scores(entries: list[int], dtype: type[np.generic] = np.float32) -> Mapping[str, NDArray[Any]]:
    return {"scores": np.asarray(entries, dtype).reshape(1, -1), "later": np.zeros((1, 3), np.float32)}


def frame(label: object) -> Frame:
    return Frame("frame 0", {}, label)  # type: ignore[arg-type]  # wrong labels are part of the tests


@given(st.lists(st.tuples(SCORES, st.integers(0, 9)), min_size=1, max_size=6))
def test_accuracy_is_the_share_of_labels_among_the_best_with_ties_to_the_lower_index(
    seen: list[tuple[list[int], int]],
) -> None:
    one, five = metric("top1"), metric("top5")
    hits = {1: 0, 5: 0}
    for entries, label in seen:
        for judge in (one, five):
            judge.update(scores(entries), frame(label), {})
        before = sum(entry > entries[label] for entry in entries)
        before += sum(entry == entries[label] for entry in entries[:label])
        hits = {places: count + (before < places) for places, count in hits.items()}
    assert (one.value(), five.value()) == (hits[1] / len(seen), hits[5] / len(seen))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.float64])
def test_scores_of_any_number_type_are_ordered_by_size(dtype: type[np.generic]) -> None:
    judge = metric("top1")
    low = 0 if dtype is np.uint8 else -128
    judge.update(scores([low, 0, 127], dtype), frame(2), {})
    assert judge.value() == 1


@pytest.mark.parametrize("label", [3, np.array(3), np.array([3]), np.array([[3]], np.int16)])
def test_a_label_may_be_a_number_or_an_array_of_one(label: object) -> None:
    judge = metric("top1")
    judge.update(scores([0, 0, 0, 1]), frame(label), {})
    assert judge.value() == 1


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.array([1, 2]), "one label a frame, found 2"),
        (np.array([]), "one label a frame, found 0"),
        (4, "label 4 is none of the 4 classes"),
        (-1, "label -1"),
    ],
)
def test_a_label_that_says_nothing_about_the_classes_is_refused(label: object, message: str) -> None:
    for name in ("top1", "top5"):
        with pytest.raises(DataError, match=f"frame 0: .*{message}"):
            metric(name).update(scores([0, 0, 0, 1]), frame(label), {})


@given(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=6))
def test_agreement_needs_no_labels_and_counts_equal_winners(seen: list[tuple[list[int], list[int]]]) -> None:
    judge = metric("agreement")
    for one, other in seen:
        judge.update(scores(one), frame(None), scores(other))
    equal = [one.index(max(one)) == other.index(max(other)) for one, other in seen]
    assert judge.value() == np.mean(equal)


def test_the_signal_to_noise_ratio_sums_over_frames_and_float_outputs() -> None:
    generator = np.random.default_rng(1)
    judge, signal, noise = metric("sqnr"), 0.0, 0.0
    for _ in range(3):
        expected: dict[str, NDArray[Any]] = {
            "a": generator.normal(size=5).astype(np.float32),
            "b": generator.normal(size=(2, 2)),
        }
        found: dict[str, NDArray[Any]] = {
            name: array + generator.normal(size=array.shape) / 50 for name, array in expected.items()
        }
        signal += sum(float((array.astype(float) ** 2).sum()) for array in expected.values())
        noise += sum(float(((found[name] - array) ** 2).sum()) for name, array in expected.items())
        index = {"index": np.array([3])}
        judge.update(found | {"index": np.array([4])}, frame(None), expected | index)
    assert judge.value() == pytest.approx(10 * math.log10(signal / noise))


@pytest.mark.parametrize("name", ["top1", "top5", "agreement"])
def test_shares_of_no_frames_are_undefined(name: str) -> None:
    assert math.isnan(metric(name).value())


def test_metrics_keep_their_counts_to_themselves() -> None:
    one, other = metric("sqnr"), metric("sqnr")
    one.update({"a": np.zeros(2)}, frame(None), {"a": np.ones(2)})
    assert (one.value(), other.value()) == (-0.0, math.inf)


@given(st.floats(0, 1e300), st.floats(0, 1e300))
def test_the_ratio_of_any_two_sums_is_a_number_or_infinite(signal: float, noise: float) -> None:
    sums = ErrorSum()
    sums.add_sums(signal, noise, 0.0)
    if noise == 0:
        assert sums.sqnr_db == math.inf
    elif signal / noise == 0:
        assert sums.sqnr_db == -math.inf
    else:
        assert 10 ** (sums.sqnr_db / 10) == pytest.approx(signal / noise, rel=1e-9)


def test_noise_that_overflowed_gives_minus_infinity() -> None:
    sums = ErrorSum()
    sums.add_sums(1.0, math.inf, math.inf)
    assert sums.sqnr_db == -math.inf
