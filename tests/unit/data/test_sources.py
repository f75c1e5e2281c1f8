from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from lowtide.data import DataSource, InputSpec, Preprocess, open_data
from lowtide.diagnostics import Diagnostics

PLAIN = InputSpec("x", "float32", (1, 5))
FRAMES = np.arange(20, dtype=np.float32).reshape(4, 5)


def arrays(source: DataSource, name: str = "x") -> list[NDArray[Any]]:
    return [np.asarray(frame.feeds[name]) for frame in source.frames()]


@pytest.mark.parametrize("kind", ["npz", "compressed npz", "npy", "folder", "callable"])
def test_reading_holds_a_small_part_of_the_data(tmp_path: Path, kind: str) -> None:
    count, size = 200, 10_000
    spec: object = tmp_path / f"d.{kind[-3:]}"
    data = np.random.default_rng(0).random((count, size), np.float32)
    match kind:
        case "npz":
            np.savez(tmp_path / "d.npz", x=data, y=np.arange(count))
        case "compressed npz":
            np.savez_compressed(tmp_path / "d.npz", x=data, y=np.arange(count))
        case "npy":
            np.save(tmp_path / "d.npy", data)
        case "folder":
            for number in range(count):
                np.save(tmp_path / f"{number:03}.npy", data[number])
            spec = tmp_path
        case _:
            spec = lambda: (np.full(size, number, np.float32) for number in range(count))  # noqa: E731 - a case
    del data
    source = open_data(spec, [InputSpec("x", "float32", (1, size))])
    tracemalloc.start()
    try:
        assert sum(1 for _ in source.frames()) == count
        source.fingerprint()
        assert sum(1 for _ in source.select(7).frames()) == 7
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < count * size * 4 / 8


@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 60))
def test_a_selection_is_the_documented_subset_and_can_be_narrowed(
    total: int, first: int, second: int
) -> None:
    source = open_data(np.arange(total, dtype=np.float32)[:, None], [InputSpec("x", "float32", (1, 1))])
    once = source.select(first)
    kept = min(first, total)
    assert [int(array[0, 0]) for array in arrays(once)] == [i * total // kept for i in range(kept)]
    again = [int(array[0, 0]) for array in arrays(once.select(second))]
    assert len(again) == min(first, second, total)
    assert set(again) <= {int(array[0, 0]) for array in arrays(once)}
    assert once.count == kept


@pytest.mark.parametrize("kind", ["array", "npz", "npy", "folder", "callable", "list", "random"])
def test_every_source_gives_the_same_frames_again_and_its_part_when_selected(
    tmp_path: Path, kind: str
) -> None:
    np.savez(tmp_path / "d.npz", x=FRAMES)
    np.save(tmp_path / "d.npy", FRAMES)
    (tmp_path / "d").mkdir()
    for number, frame in enumerate(FRAMES):
        np.save(tmp_path / "d" / f"{number}.npy", frame)
    specs: dict[str, object] = {
        "array": FRAMES,
        "npz": tmp_path / "d.npz",
        "npy": str(tmp_path / "d.npy"),
        "folder": tmp_path / "d",
        "callable": lambda: iter(FRAMES),
        "list": list(FRAMES),
        "random": "random:4",
    }
    source = open_data(specs[kind], [PLAIN])
    whole = arrays(source)
    np.testing.assert_array_equal(arrays(source), whole)
    np.testing.assert_array_equal(arrays(source.select(2)), [whole[0], whole[2]])
    if kind != "random":
        np.testing.assert_array_equal(np.concatenate(whole), FRAMES)
    assert source.synthetic == (kind == "random")
    assert source.describe()


def test_two_inputs_in_one_npz_are_streamed_side_by_side(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "d.npz", b=FRAMES + 1, a=FRAMES)
    wanted = [InputSpec("a", "float32", (1, 5)), InputSpec("b", "float32", (1, 5))]
    last = list(open_data(tmp_path / "d.npz", wanted).select(2).frames())[-1]
    np.testing.assert_array_equal(last.feeds["a"][0], FRAMES[2])
    np.testing.assert_array_equal(last.feeds["b"][0], FRAMES[2] + 1)


class Loader:
    """Can be iterated again and again, as the loaders of training frameworks can."""

    def __init__(self) -> None:
        self.passes = 0

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        self.passes += 1
        return iter(FRAMES)


def test_an_iterable_that_can_be_read_again_is_not_kept() -> None:
    loader = Loader()
    source = open_data(loader, [PLAIN])
    assert (source.count, loader.passes) == (None, 0)
    np.testing.assert_array_equal(arrays(source), arrays(source))
    assert loader.passes == 2


def test_a_callable_is_not_read_beyond_the_last_chosen_frame() -> None:
    given: list[int] = []

    def make() -> Iterator[NDArray[np.float32]]:
        for number, frame in enumerate(FRAMES):
            given.append(number)
            yield frame

    part = open_data(make, [PLAIN]).select(2)
    given.clear()
    assert len(arrays(part)) == 2
    assert given == [0, 1, 2]


def test_integers_become_the_floats_that_the_input_wants() -> None:
    found = arrays(open_data(FRAMES.astype(np.uint8), [PLAIN]))
    assert {array.dtype for array in found} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(np.concatenate(found), FRAMES)


def test_whole_floats_become_integers() -> None:
    found = arrays(open_data(FRAMES, [InputSpec("x", "uint8", (1, 5))]))
    assert found[0].dtype == np.uint8
    np.testing.assert_array_equal(np.concatenate(found), FRAMES)


@pytest.mark.parametrize("shape", [(1, 1, 4, 5), (1, 4, 5, 1), (4, 5, 1), (1, 4, 5)])
def test_axes_of_length_one_may_be_left_out_or_elsewhere(shape: tuple[int, ...]) -> None:
    found = arrays(open_data(FRAMES[None], [InputSpec("x", "float32", shape)]))
    np.testing.assert_array_equal(found[0], FRAMES.reshape(shape))


def test_the_only_array_of_a_file_feeds_the_only_input_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    np.savez(tmp_path / "d" / "0.npz", pixels=FRAMES[0])
    np.testing.assert_array_equal(arrays(open_data(tmp_path / "d", [PLAIN]))[0][0], FRAMES[0])


def test_hidden_files_are_no_data(tmp_path: Path) -> None:
    (tmp_path / ".cache").mkdir()
    for name in ("a.npy", ".b.npy", ".cache/c.npy"):
        np.save(tmp_path / name, FRAMES[0])
    notes = Diagnostics()
    assert open_data(tmp_path, [PLAIN], diagnostics=notes).count == 1
    assert len(notes) == 0


def fingerprints_of_folder(folder: Path, **kwargs: Any) -> str | None:
    return open_data(folder, [InputSpec("x", "float32", (1, 3, 4, 6))], **kwargs).fingerprint()


def test_the_fingerprint_of_a_folder_depends_on_content_names_and_preprocessing(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (4, 6, 3), np.uint8))
    image.save(tmp_path / "a.png")
    plain = fingerprints_of_folder(tmp_path)
    assert plain == fingerprints_of_folder(tmp_path)
    scaled = fingerprints_of_folder(tmp_path, preprocess=Preprocess(scale=(0.5,)))
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    renamed = fingerprints_of_folder(tmp_path)
    image.rotate(180).save(tmp_path / "b.png")
    assert len({plain, scaled, renamed, fingerprints_of_folder(tmp_path)}) == 4


def test_a_list_has_a_fingerprint_of_its_content_and_a_callable_has_none() -> None:
    first = open_data(list(FRAMES), [PLAIN]).fingerprint()
    assert first == open_data(list(FRAMES.copy()), [PLAIN]).fingerprint()
    assert first != open_data(list(FRAMES + 1), [PLAIN]).fingerprint()
    assert first is not None
    assert open_data(lambda: FRAMES, [PLAIN]).fingerprint() is None


def test_preprocessing_that_arrays_do_not_get_is_noted() -> None:
    for chosen, expected in ((Preprocess(mean=(1.0,)), ["LT756"]), (Preprocess(), []), (None, [])):
        notes = Diagnostics()
        open_data(FRAMES, [PLAIN], preprocess=chosen, diagnostics=notes)
        assert [found.code for found in notes] == expected


def test_images_get_their_preprocessing_without_a_note(tmp_path: Path) -> None:
    Image.new("RGB", (6, 4), (10, 20, 30)).save(tmp_path / "a.png")
    notes = Diagnostics()
    wanted = [InputSpec("x", "float32", (1, 4, 6, 3))]
    source = open_data(tmp_path, wanted, preprocess=Preprocess(scale=(0.5,)), diagnostics=notes)
    assert arrays(source)[0][0, 0, 0].tolist() == [5, 10, 15]
    assert [found.code for found in notes] == []
