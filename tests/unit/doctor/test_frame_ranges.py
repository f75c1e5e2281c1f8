"""How ranges settle, and which frames stretch them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lowtide.data.source import evenly_spread
from lowtide.doctor.ranges import MOST_STEPS, TOLERANCE, Extents, converge, outliers


def extents(high: NDArray[np.float64], low: NDArray[np.float64] | None = None) -> Extents:
    frames, tensors = high.shape
    names = tuple(f"frame {number}" for number in range(frames))
    return Extents(
        names,
        tuple(f"t{number}" for number in range(tensors)),
        np.zeros_like(high) if low is None else low,
        high,
    )


@given(st.integers(2, 40), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_from_the_needed_number_on_all_but_the_allowed_tensors_stay_settled_and_not_below_it(
    frames: int, tensors: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    seen = extents(
        random.gumbel(5, 1, (frames, tensors)).clip(0), -random.gumbel(1, 1, (frames, tensors)).clip(0)
    )
    found = converge(seen)
    assert found is not None
    full = seen.high.max(0) - seen.low.min(0)

    def unsettled(count: int) -> set[str]:
        chosen = list(evenly_spread(frames, count))
        width = seen.high[chosen].max(0) - seen.low[chosen].min(0)
        return {f"t{i}" for i in np.flatnonzero(width < (1 - TOLERANCE) * full * (1 - 1e-12))}

    def moving(count: int) -> set[str]:
        return set().union(*(unsettled(more) for more in range(count, frames + 1)))

    assert {entry.tensor for entry in found.moving} == moving(found.needed)
    assert len(found.moving) <= found.allowed
    assert found.needed == 1 or len(moving(found.needed - 1)) > found.allowed
    for count, still, worst in found.steps:
        assert still == len(moving(count))
        assert (worst is None) == (still == 0)


def test_the_table_the_needed_number_and_the_tensors_that_still_move_say_the_same() -> None:
    high = np.ones((32, 40))
    high[16, :9] = 2.0  # which 2, 8 and 16 evenly spread frames take, and 3, 9 and 15 do not
    found = converge(extents(high))
    assert found is not None
    still = {count: unsettled for count, unsettled, _ in found.steps}
    assert all((unsettled > found.allowed) == (count < found.needed) for count, unsettled in still.items())
    assert still[found.needed] == len(found.moving)


def test_frames_that_are_all_alike_need_one_of_them() -> None:
    found = converge(extents(np.full((20, 3), 2.0)))
    assert found is not None
    assert found.needed == 1
    assert found.enough
    assert found.moving == ()


def test_ranges_that_grow_to_the_end_are_not_settled() -> None:
    high = np.ones((40, 4))
    high[39] = 2.0
    found = converge(extents(high))
    assert found is not None
    assert not found.enough
    assert found.needed == 40


def test_tensors_that_move_later_are_named_with_what_they_lack() -> None:
    high = np.ones((40, 30))
    high[39, 7] = 2.0
    found = converge(extents(high))
    assert found is not None
    assert found.needed == 1
    (moving,) = found.moving
    assert moving.tensor == "t7"
    assert moving.missing == pytest.approx(0.5)


def test_many_frames_are_tried_in_steps() -> None:
    found = converge(extents(np.random.default_rng(1).random((2000, 2))))
    assert found is not None
    assert found.frames == 2000 > MOST_STEPS
    assert found.enough


@pytest.mark.parametrize("high", [np.ones((1, 3)), np.ones((4, 0))])
def test_one_frame_or_no_tensor_tells_nothing(high: NDArray[np.float64]) -> None:
    assert converge(extents(high)) is None


# --- outliers ---


def test_a_frame_that_doubles_a_range_is_named_with_tensor_stretch_and_score() -> None:
    high = 1 + 0.1 * np.random.default_rng(2).random((50, 5))
    high[13, 3] = 12.0
    high[13, 1] = 3.0
    (found,) = outliers(extents(high))
    assert (found.frame, found.tensors, found.tensor) == ("frame 13", 2, "t3")
    assert found.stretch == pytest.approx(12 / high[np.arange(50) != 13, 3].max())
    assert found.score > 100


def test_a_negative_outlier_counts_as_well() -> None:
    low = -np.ones((20, 2))
    low[4, 0] = -9
    (found,) = outliers(extents(np.ones((20, 2)), low))
    assert found.frame == "frame 4"
    assert found.stretch == pytest.approx(10 / 2)


def test_two_outliers_do_not_hide_each_other() -> None:
    high = np.ones((40, 2))
    high[[3, 30], 0] = 8.0
    assert {entry.frame for entry in outliers(extents(high))} == {"frame 3", "frame 30"}


@given(st.integers(8, 100), st.integers(0, 2**32 - 1))
def test_frames_of_one_kind_have_no_outlier(frames: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    assert outliers(extents(random.normal(5, 0.5, (frames, 8)).clip(0.5))) == ()


def test_a_second_kind_of_frames_is_no_outlier() -> None:
    high = np.ones((40, 2))
    high[20:] = 10.0
    assert outliers(extents(high)) == ()


def test_few_frames_tell_nothing_of_outliers() -> None:
    high = np.ones((7, 1))
    high[2] = 50
    assert outliers(extents(high)) == ()
