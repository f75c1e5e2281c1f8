"""Frames in the forms in which users hold them, for networks of one and of several inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lowtide.data import DataSource, InputSpec, open_data
from lowtide.diagnostics import Diagnostics
from lowtide.errors import DataError

IMAGE = InputSpec("image", "float32", (1, 3, 4, 6))
LAST = InputSpec("image", "float32", (1, 4, 6, 3))
IDS = InputSpec("ids", "int64", (1, 5))
PIXELS = np.random.default_rng(0).normal(size=(4, 3, 4, 6)).astype(np.float32)
NUMBERS = np.random.default_rng(0).integers(0, 20, (4, 5))


def read(source: DataSource, name: str) -> NDArray[Any]:
    return np.concatenate([np.asarray(frame.feeds[name]) for frame in source.frames()])


def mappings() -> Iterator[dict[str, NDArray[Any]]]:
    for pixels, numbers in zip(PIXELS, NUMBERS, strict=True):
        yield {"image": pixels, "ids": numbers}


def as_npz(folder: Path) -> object:
    np.savez(folder / "d.npz", image=PIXELS, ids=NUMBERS)
    return folder / "d.npz"


def as_folder(folder: Path) -> object:
    for index, entry in enumerate(mappings()):
        np.savez(folder / f"{index}.npz", allow_pickle=False, **entry)
    return folder


def as_named_callable(folder: Path) -> object:
    (folder / "users_frames.py").write_text(
        "import numpy as np\n"
        "def frames():\n"
        "    with np.load('named.npz') as content:\n"
        "        found = dict(content)\n"
        "    for k in range(4):\n"
        "        yield {name: array[k] for name, array in found.items()}\n",
        "utf-8",
    )
    np.savez(folder / "named.npz", image=PIXELS, ids=NUMBERS)
    return "users_frames:frames"


@pytest.mark.parametrize(
    "make",
    [
        as_npz,
        as_folder,
        as_named_callable,
        lambda _: mappings,
        lambda _: mappings(),
        lambda _: list(mappings()),
        lambda _: {"image": PIXELS, "ids": NUMBERS},
    ],
    ids=["npz", "folder", "named callable", "callable", "generator", "list", "arrays"],
)
def test_several_inputs_come_by_name_and_integers_stay_integers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = open_data(make(tmp_path), [IMAGE, IDS])
    for _ in range(2):  # calibration and measuring both read
        np.testing.assert_array_equal(read(source, "image"), PIXELS)
        assert read(source, "ids").dtype == np.int64
        np.testing.assert_array_equal(read(source, "ids"), NUMBERS)


@pytest.mark.parametrize(
    ("data", "wanted", "words"),
    [
        (PIXELS.transpose(0, 2, 3, 1), IMAGE, "frames are NHWC, the input wants NCHW: transposed"),
        (PIXELS, LAST, "frames are NCHW, the input wants NHWC: transposed"),
    ],
)
@pytest.mark.parametrize("batched", [False, True])
def test_the_other_layout_is_found_by_its_shape_transposed_and_reported_once(
    data: NDArray[Any], wanted: InputSpec, words: str, *, batched: bool
) -> None:
    notes = Diagnostics()
    source = open_data(data[:, None] if batched else data, [wanted], diagnostics=notes)
    found = read(source, "image")
    expected = PIXELS if wanted is IMAGE else PIXELS.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(found, expected)
    assert [(note.code, note.place, note.message) for note in notes] == [("LT751", "image", words)]


def test_one_input_of_several_may_be_in_the_other_layout() -> None:
    notes = Diagnostics()
    data = {"image": PIXELS.transpose(0, 2, 3, 1), "ids": NUMBERS}
    np.testing.assert_array_equal(read(open_data(data, [IMAGE, IDS], diagnostics=notes), "image"), PIXELS)
    assert [note.place for note in notes] == ["image"]


@pytest.mark.parametrize("item", [(PIXELS[0], 3), [PIXELS[0], NUMBERS[0]]])
def test_a_frame_of_several_arrays_without_names_is_refused_with_the_remedy(item: object) -> None:
    with pytest.raises(DataError, match=r"expected one array, found a (tuple|list) of several.*by name"):
        list(open_data(lambda: iter([item]), [IMAGE]).frames())


def test_a_callable_that_gives_nothing_is_named() -> None:
    def forgot() -> None:
        """Returns nothing."""

    with pytest.raises(DataError, match="forgot: gave NoneType, expected frames to iterate over"):
        list(open_data(forgot, [IMAGE]).frames())
