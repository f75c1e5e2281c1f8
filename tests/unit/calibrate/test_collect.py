from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from lowtide.calibrate import Collected, Statistic, TensorInfo, collect
from lowtide.calibrate.api import Wants
from lowtide.calibrate.collect import CHUNK, array_positions
from lowtide.errors import DataError, PluginError, QuantizationError
from lowtide.ir import Array, Graph
from lowtide.runtime import to_model

LEAVES_A_LAYER = ["x", "r1", "c2", "pooled", "sum", "gated", "mean", "flat", "scores", "prob"]


class Total(Statistic):
    """Counts the elements of whole tensors and frames."""

    name: ClassVar[str] = "total"
    wants: ClassVar[Wants] = "array"

    def __init__(self, info: TensorInfo) -> None:
        super().__init__(info)
        self.count = np.zeros(2, np.int64)

    def update(self, observed: NDArray[np.float32]) -> None:
        self.count += [observed.size, 1]

    def merge(self, other: Self) -> None:
        self.count += other.count

    def save(self) -> dict[str, Array]:
        return {"count": self.count}

    @classmethod
    def load(cls, info: TensorInfo, arrays: Mapping[str, Array]) -> Self:
        made = cls(info)
        made.count[:] = arrays["count"]
        return made


class Frames(Total):
    """Counts frames, of which it gets the extremes."""

    name: ClassVar[str] = "frames"
    wants: ClassVar[Wants] = "extremes"

    def update(self, observed: object) -> None:
        del observed
        self.count += 1


class Failing(Total):
    """Fails on its first frame."""

    def update(self, observed: object) -> None:
        del observed
        raise ZeroDivisionError("by 0")


class FailingToMerge(Total):
    """Fails at the end of a chunk."""

    def merge(self, other: object) -> None:
        del other
        raise ZeroDivisionError("by 0")


class FailingToBegin(Total):
    """Fails when it is made."""

    def __init__(self, info: TensorInfo) -> None:
        super().__init__(info)
        raise ZeroDivisionError("by 0")


@pytest.mark.parametrize("kind", [FailingToBegin, Failing, FailingToMerge])
def test_a_statistic_that_fails_is_named_with_the_tensor(
    network: Graph, source_of: Any, kind: type[Statistic]
) -> None:
    with pytest.raises(PluginError, match="failed with ZeroDivisionError: by 0") as caught:
        collect(network, source_of(2), [kind])
    assert caught.value.place == f"the statistic total of {__name__}, tensor x"


def plain(graph: Graph, source: Any) -> dict[str, list[Array]]:
    """What ONNX Runtime returns by itself when the observed tensors are outputs."""
    exposed = to_model(graph, quantized=False, outputs=LEAVES_A_LAYER[1:])
    session = ort.InferenceSession(exposed.SerializeToString(), providers=["CPUExecutionProvider"])
    seen: dict[str, list[Array]] = {name: [] for name in LEAVES_A_LAYER}
    for frame in source.frames():
        seen["x"].append(frame.feeds["x"])
        for name, array in zip(LEAVES_A_LAYER[1:], session.run(None, frame.feeds), strict=True):
            seen[name].append(np.asarray(array))
    return seen


def same(first: Collected, second: Collected) -> bool:
    def content(collected: Collected) -> list[tuple[str, str, str, bytes]]:
        return [
            (tensor, name, part, data.tobytes())
            for tensor, kept in collected.statistics.items()
            for name, statistic in kept.items()
            for part, data in statistic.save().items()
        ]

    return first.frames == second.frames and content(first) == content(second)


@pytest.mark.parametrize("kinds", [[], [Total]], ids=["inside the network", "from arrays"])
def test_extremes_are_those_of_a_plain_run(network: Graph, source_of: Any, kinds: list[type[Total]]) -> None:
    collected = collect(network, source_of(6), kinds)
    for name, arrays in plain(network, source_of(6)).items():
        stacked = np.stack(arrays)[:, 0].reshape(6, collected.infos[name].channels, -1)
        seen = collected.minmax(name)
        low = stacked.min(axis=(0, 2))
        expected = np.zeros_like(low) if collected.infos[name].nonnegative else low
        np.testing.assert_array_equal(seen.min, expected, err_msg=name)
        np.testing.assert_array_equal(seen.max, stacked.max(axis=(0, 2)), err_msg=name)


def test_only_what_leaves_a_layer_is_observed(network: Graph, source_of: Any) -> None:
    assert list(collect(network, source_of(1), []).infos) == LEAVES_A_LAYER


def test_chosen_tensors_are_observed_in_the_order_of_the_graph(network: Graph, source_of: Any) -> None:
    collected = collect(network, source_of(1), [], tensors=["sum", "x", "r1"])
    assert list(collected.statistics) == ["x", "r1", "sum"]


def test_a_network_input_alone_needs_no_run(network: Graph, source_of: Any, runs: list[int]) -> None:
    collected = collect(network, source_of(3), [Total], tensors=["x"], array_frames=1)
    assert collected.minmax("x").max.shape == (3,)
    assert not runs


def test_a_value_inside_a_layer_cannot_be_observed(network: Graph, source_of: Any) -> None:
    with pytest.raises(QuantizationError, match=r"c1: .*leaves a layer"):
        collect(network, source_of(1), [], tensors=["c1"])


def test_every_frame_runs_once_whatever_is_collected(network: Graph, source_of: Any, runs: list[int]) -> None:
    collected = collect(network, source_of(20), [Total, Frames], array_frames=4)
    assert len(runs) == 20
    assert (collected.frames, collected.array_frames) == (20, 4)
    counted = collected.statistics["r1"]
    assert counted["total"].save()["count"].tolist() == [4 * 16 * 16 * 16, 4]
    assert counted["frames"].save()["count"].tolist() == [20, 20]


def test_results_do_not_depend_on_which_frames_were_seen_whole(network: Graph, source_of: Any) -> None:
    some = collect(network, source_of(9), [Total], array_frames=3)
    none = collect(network, source_of(9), [Total], array_frames=0)
    for name in LEAVES_A_LAYER:
        np.testing.assert_array_equal(some.minmax(name).max, none.minmax(name).max)
        np.testing.assert_array_equal(some.minmax(name).min, none.minmax(name).min)


def test_the_order_of_the_frames_does_not_matter_for_extremes(network: Graph, source_of: Any) -> None:
    assert same(collect(network, source_of(5), []), collect(network, source_of((3, 1, 4, 0, 2)), []))


def test_an_unknown_number_of_frames_gives_the_same_extremes(network: Graph, source_of: Any) -> None:
    frames = CHUNK + 3
    assert same(collect(network, source_of(frames), []), collect(network, source_of(frames, known=False), []))


def test_an_unknown_number_of_frames_may_fill_its_last_chunk(network: Graph, source_of: Any) -> None:
    assert collect(network, source_of(CHUNK, known=False), []).frames == CHUNK


def test_whole_frames_are_spread_evenly() -> None:
    assert sorted(array_positions(100, 4)) == [0, 25, 50, 75]
    assert sorted(array_positions(3, 4)) == [0, 1, 2]
    assert len(array_positions(1000, 64)) == 64
    assert sorted(array_positions(None, 2)) == [0, 1]


def test_progress_tells_every_frame(network: Graph, source_of: Any) -> None:
    told: list[tuple[int, int | None]] = []
    collect(network, source_of(3), [], progress=lambda done, total: told.append((done, total)))
    assert list(dict.fromkeys(told)) == [(1, 3), (2, 3), (3, 3)]


def test_no_frame_is_an_error(network: Graph, source_of: Any) -> None:
    with pytest.raises(DataError, match="no frame"):
        collect(network, source_of(0), [])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kinds", [[], [Total]], ids=["inside the network", "from arrays"])
@pytest.mark.parametrize("tensors", [None, ["r1"], ["pooled"], ["sum", "prob"]], ids=str)
def test_a_frame_that_makes_nan_or_infinity_is_named(
    network: Graph, source_of: Any, bad: float, kinds: list[type[Total]], tensors: list[str] | None
) -> None:
    def spoil(number: int, array: NDArray[np.float32]) -> None:
        if number == 4:
            array[0, 1, 7, 9] = bad

    expected = "x" if tensors is None else tensors[0]
    with pytest.raises(DataError, match=rf"^LT701 frame4, tensor {expected}: .*found -?(nan|inf)"):
        collect(network, source_of(6, change=spoil), kinds, tensors=tensors)
