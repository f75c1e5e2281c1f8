from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from lowtide.calibrate import Collected, StatisticsCache, collect
from lowtide.calibrate.collect import CHUNK
from lowtide.diagnostics import Diagnostics
from lowtide.errors import PluginError
from lowtide.ir import Constant, Graph
from lowtide_plugins.calibrators.histogram import Histogram
from lowtide_plugins.calibrators.moving_average import MovingAverageExtremes

KINDS = [Histogram, MovingAverageExtremes]
FRAMES = 2 * CHUNK + 10


@attrs.frozen
class Bench:
    """Collects the same again and again."""

    network: Graph
    source_of: Any
    cache: StatisticsCache
    diagnostics: Diagnostics = attrs.field(factory=Diagnostics)

    def collect(self, *, cached: bool = True, frames: int = FRAMES, **given: Any) -> Collected:
        return collect(
            self.network,
            self.source_of(frames, print="data", **given),
            KINDS,
            array_frames=8,
            cache=self.cache if cached else None,
            diagnostics=self.diagnostics,
        )

    @property
    def files(self) -> list[Path]:
        return sorted(self.cache.folder.rglob("*.npz"))


@pytest.fixture
def bench(network: Graph, source_of: Any, tmp_path: Path) -> Bench:
    return Bench(network, source_of, StatisticsCache(tmp_path / "cache"))


def bits(collected: Collected) -> list[tuple[str, str, str, bytes]]:
    return [
        (tensor, name, part, data.tobytes())
        for tensor, kept in collected.statistics.items()
        for name, statistic in kept.items()
        for part, data in statistic.save().items()
    ]


def test_fresh_and_cached_runs_give_the_same_bits_and_the_cached_one_runs_nothing(
    bench: Bench, runs: list[int]
) -> None:
    fresh = bench.collect(cached=False)
    stored = bench.collect()
    before = len(runs)
    again = bench.collect()
    assert len(runs) == before == 2 * FRAMES
    assert bits(fresh) == bits(stored) == bits(again)
    assert (again.frames, again.array_frames) == (FRAMES, 8)
    assert [path.name for path in bench.files] == ["000000.npz", "000001.npz", "000002.npz"]
    assert not list(bench.diagnostics)


def test_what_was_noted_of_frames_is_told_again_when_their_statistics_come_from_the_cache(
    bench: Bench,
) -> None:
    first, second = Diagnostics(), Diagnostics()
    bench.collect(noted=(3, CHUNK + 1), diagnostics=first)
    again = bench.collect(noted=(3, CHUNK + 1), diagnostics=second)
    assert again.cached_frames == FRAMES
    assert [note.place for note in first] == ["frame3", f"frame{CHUNK + 1}"]
    assert list(second) == list(first)


def test_an_interrupted_run_resumes_behind_its_last_finished_chunk(bench: Bench, runs: list[int]) -> None:
    with pytest.raises(KeyboardInterrupt):
        bench.collect(interrupt_at=CHUNK + 20)
    assert len(bench.files) == 1
    runs.clear()
    resumed = bench.collect()
    assert len(runs) == FRAMES - CHUNK
    assert bits(resumed) == bits(bench.collect(cached=False))


def test_a_missing_chunk_alone_is_made_anew(bench: Bench, runs: list[int]) -> None:
    fresh = bench.collect()
    bench.files[1].unlink()
    runs.clear()
    assert bits(bench.collect()) == bits(fresh)
    assert len(runs) == CHUNK


@pytest.mark.parametrize("damage", ["truncated", "other bytes", "empty", "other content"])
def test_a_damaged_chunk_is_reported_and_made_anew(bench: Bench, runs: list[int], damage: str) -> None:
    fresh = bench.collect()
    path = bench.files[0]
    content = path.read_bytes()
    if damage == "other content":
        np.savez(path, frames=np.array([CHUNK, 4]))
    else:
        broken = {
            "truncated": content[: len(content) // 2],
            "other bytes": content[:5000] + bytes(200) + content[5200:],
            "empty": b"",
        }
        path.write_bytes(broken[damage])
    runs.clear()
    assert bits(bench.collect()) == bits(fresh)
    assert len(runs) == CHUNK
    (found,) = bench.diagnostics
    assert found.code == "LT761"
    assert found.place == str(path)
    assert bits(bench.collect()) == bits(fresh)
    assert len(runs) == CHUNK


def test_a_folder_that_cannot_be_written_costs_the_cache_only(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be", "utf-8")
    assert bench.collect(frames=2).frames == 2
    assert {found.code for found in bench.diagnostics} == {"LT761", "LT762"}


def test_data_without_a_fingerprint_is_not_cached(network: Graph, source_of: Any, tmp_path: Path) -> None:
    collect(network, source_of(2), [], cache=StatisticsCache(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("method", "error", "message"),
    [
        ("save", ZeroDivisionError("by 0"), "failed with ZeroDivisionError: by 0"),
        ("save", None, "failed with TypeError: save should return arrays of numbers by name, found None"),
        ("load", ZeroDivisionError("by 0"), "failed with ZeroDivisionError: by 0"),
    ],
)
def test_a_statistic_that_fails_to_save_or_load_is_named_with_the_tensor(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, method: str, error: Exception | None, message: str
) -> None:
    def fail(*_: object) -> object:
        if error is not None:
            raise error
        return {"state": None}

    if method == "load":
        bench.collect()
    monkeypatch.setattr(Histogram, method, fail)
    with pytest.raises(PluginError) as caught:
        bench.collect()
    assert caught.value.message == message
    assert caught.value.place == f"the statistic histogram of {Histogram.__module__}, tensor x"


def test_nothing_temporary_is_left_behind(bench: Bench) -> None:
    bench.collect(frames=2)
    assert [path.suffix for path in bench.cache.folder.rglob("*") if path.is_file()] == [".npz"]


def test_whatever_changes_the_statistics_changes_the_key(
    network: Graph, source_of: Any, tmp_path: Path, runs: list[int]
) -> None:
    cache = StatisticsCache(tmp_path)

    def cost(graph: Graph, kinds: list[Any], data: str = "data", **given: Any) -> int:
        runs.clear()
        collect(graph, source_of(3, print=data), kinds, cache=cache, **given)
        return len(runs)

    assert cost(network, []) == 3
    assert cost(network, []) == 0
    assert cost(network, [MovingAverageExtremes]) == 3
    assert cost(network, [Histogram]) == 3
    assert cost(network, [Histogram], array_frames=2) == 3
    assert cost(network, [], data="other data") == 3
    assert cost(network, [], tensors=["r1"]) == 3
    changed = network.clone()
    weights = network.values["w2"].constant
    assert weights is not None
    changed.set_constant(changed.values["w2"], Constant.of(weights.array() * np.float32(2)))
    assert cost(changed, []) == 3
    assert cost(network, []) == 0
