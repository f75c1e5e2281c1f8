from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lowtide.data import InputSpec, open_data
from lowtide.data.labels import read_labels
from lowtide.data.raw import ArraySource
from lowtide.errors import DataError

PICTURE = InputSpec("x", "float32", (1, 3, 4, 6))
PLAIN = InputSpec("x", "float32", (1, 5))
FRAMES = np.arange(15, dtype=np.float32).reshape(3, 5)


def pictures(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (4, 6, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def labels_of(spec: object, wanted: InputSpec, labels: Path | None = None) -> dict[str, Any]:
    source = open_data(spec, [wanted], labels=None if labels is None else str(labels))
    return {frame.name: frame.label for frame in source.frames()}


def test_a_leading_number_of_the_file_name_is_the_label(tmp_path: Path) -> None:
    pictures(tmp_path, "0007_n0123.png", "12.png", "cat.png")
    assert labels_of(tmp_path, PICTURE) == {"0007_n0123.png": 7, "12.png": 12, "cat.png": None}


def test_folders_with_words_are_classes_in_their_order(tmp_path: Path) -> None:
    pictures(tmp_path, "dog/1.png", "cat/2.png", "emu/3.png")
    assert labels_of(tmp_path, PICTURE) == {"cat/2.png": 0, "dog/1.png": 1, "emu/3.png": 2}


def test_folders_with_numbers_are_the_classes_of_these_numbers(tmp_path: Path) -> None:
    pictures(tmp_path, "0/a.png", "2/a.png", "10/a.png")
    assert labels_of(tmp_path, PICTURE) == {"0/a.png": 0, "10/a.png": 10, "2/a.png": 2}


def test_a_single_folder_inside_is_no_class(tmp_path: Path) -> None:
    pictures(tmp_path, "images/0007_a.png")
    assert labels_of(tmp_path, PICTURE) == {"images/0007_a.png": 7}


def test_lines_with_names_are_assigned_by_name_and_may_be_more(tmp_path: Path) -> None:
    pictures(tmp_path / "d", "a.png", "b.png")
    (tmp_path / "l.csv").write_text("name,label\nb.png,7\nother.png,1\na.png,3\n", "utf-8")
    assert labels_of(tmp_path / "d", PICTURE, tmp_path / "l.csv") == {"a.png": 3, "b.png": 7}


def test_names_may_be_separated_by_space_and_have_folders(tmp_path: Path) -> None:
    pictures(tmp_path / "d", "one/a.png", "two/a.png", "two/b c.png")
    (tmp_path / "l.txt").write_text("two/a.png 5\none/a.png 4\nb c.png 6\n", "utf-8")
    found = labels_of(tmp_path / "d", PICTURE, tmp_path / "l.txt")
    assert found == {"one/a.png": 4, "two/a.png": 5, "two/b c.png": 6}


def test_a_bare_name_that_two_folders_have_is_no_label_for_either(tmp_path: Path) -> None:
    pictures(tmp_path / "d", "one/a.png", "two/a.png")
    (tmp_path / "l.csv").write_text("a.png,5\n", "utf-8")
    with pytest.raises(DataError, match=r"no label for 'one/a\.png'"):
        labels_of(tmp_path / "d", PICTURE, tmp_path / "l.csv")


def test_a_file_without_a_line_is_named_with_its_nearest(tmp_path: Path) -> None:
    pictures(tmp_path / "d", "a1.png", "b.png")
    (tmp_path / "l.csv").write_text("b.png,7\na2.png,3\n", "utf-8")
    with pytest.raises(DataError, match=r"no label for 'a1\.png' \(did you mean a2\.png"):
        labels_of(tmp_path / "d", PICTURE, tmp_path / "l.csv")


def test_two_labels_for_one_name_are_refused(tmp_path: Path) -> None:
    pictures(tmp_path / "d", "a.png")
    (tmp_path / "l.csv").write_text("a.png,7\na.png,3\n", "utf-8")
    with pytest.raises(DataError, match=r"two labels for 'a\.png'"):
        labels_of(tmp_path / "d", PICTURE, tmp_path / "l.csv")


def test_a_label_may_be_an_array(tmp_path: Path) -> None:
    masks = np.arange(12).reshape(3, 2, 2)
    np.save(tmp_path / "l.npy", masks)
    found = labels_of(FRAMES, PLAIN, tmp_path / "l.npy")
    np.testing.assert_array_equal(found["frame 2"], masks[2])


def test_the_labels_of_a_selection_are_those_of_its_frames(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", np.array([5, 6, 7]))
    source = open_data(FRAMES, [PLAIN], labels=str(tmp_path / "l.npy")).select(2)
    assert [(frame.name, frame.label) for frame in source.frames()] == [("frame 0", 5), ("frame 1", 6)]


def test_a_given_file_goes_before_what_the_data_says(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=FRAMES, y=np.array([1, 2, 3]))
    (tmp_path / "l.txt").write_text("7\n8\n9\n", "utf-8")
    assert list(labels_of(tmp_path / "d.npz", PLAIN).values()) == [1, 2, 3]
    assert list(labels_of(tmp_path / "d.npz", PLAIN, tmp_path / "l.txt").values()) == [7, 8, 9]


def test_every_file_of_a_folder_of_npz_may_bring_its_label(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=FRAMES[0], label=np.array(4))
    assert labels_of(tmp_path, PLAIN) == {"a.npz": 4}


def test_a_frame_of_an_iterable_may_bring_its_label() -> None:
    assert labels_of([{"x": FRAMES[0], "y": 4}], PLAIN) == {"frame 0": 4}


@pytest.mark.parametrize(
    ("lines", "words"), [("1\n", "none for this frame"), ("1\n2\n3\n4\n", "4 labels for 3")]
)
def test_labels_that_do_not_match_a_callable_are_refused(tmp_path: Path, lines: str, words: str) -> None:
    (tmp_path / "l.txt").write_text(lines, "utf-8")
    with pytest.raises(DataError, match=words):
        labels_of(lambda: iter(FRAMES), PLAIN, tmp_path / "l.txt")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.txt", b"one\ntwo\nthree\n"),
        ("l.txt", b"\xff\xfe1\n"),
        ("l.csv", b"a,\x001\n"),
        ("l.npy", b"no array"),
        ("l.npy", b""),
        ("missing.txt", None),
    ],
)
def test_a_file_that_is_no_list_of_labels_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}.*labels cannot be read"):
        labels_of(FRAMES, PLAIN, tmp_path / name)


def test_an_array_of_words_holds_no_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", np.array(["a", "b", "c"]))
    with pytest.raises(DataError, match=r"l\.npy: expected a number as label"):
        labels_of(FRAMES, PLAIN, tmp_path / "l.npy")


@given(st.lists(st.integers(-5, 1000), min_size=1, max_size=20))
def test_labels_written_as_text_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, labels: list[int]
) -> None:
    path = tmp_path_factory.mktemp("labels") / "l.txt"
    path.write_text("".join(f"{label}\n" for label in labels), "utf-8")
    raw = ArraySource({"": np.zeros((len(labels), 1))}, None, "zeros")
    assert list(read_labels(path, raw)) == labels


@pytest.mark.parametrize("first", [0, 1])
def test_numbers_that_only_count_the_files_are_no_labels(tmp_path: Path, first: int) -> None:
    pictures(tmp_path, *(f"{first + number}.png" for number in range(12)))
    assert set(labels_of(tmp_path, PICTURE).values()) == {None}


@pytest.mark.parametrize("names", [("0.png", "1_a.png", "1_b.png"), ("0.png", "2.png"), ("7.png", "8.png")])
def test_numbers_that_do_not_count_from_the_start_without_a_gap_are_labels(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    pictures(tmp_path, *names)
    assert list(labels_of(tmp_path, PICTURE).values()) == [int(name[0]) for name in names]


@pytest.mark.parametrize("lines", ["9.5\n1\n2\n", "1\n9.5\n2\n", "label\n1\n2\n9.5\n"])
def test_fractions_are_no_labels_and_no_heading(tmp_path: Path, lines: str) -> None:
    (tmp_path / "l.txt").write_text(lines, "utf-8")
    with pytest.raises(DataError, match=r"expected whole numbers, found '9\.5'"):
        labels_of(FRAMES, PLAIN, tmp_path / "l.txt")


def test_a_frame_says_what_was_taken_for_its_label(tmp_path: Path) -> None:
    pictures(tmp_path / "words", "dog/1.png", "cat/2.png")
    pictures(tmp_path / "numbers", "3/1.png", "7/2.png")
    pictures(tmp_path / "names", "3_a.png", "cat.png")
    np.savez(tmp_path / "d.npz", x=FRAMES, y=np.arange(3))
    np.save(tmp_path / "l.npy", np.arange(3))

    def origins(spec: object, wanted: InputSpec = PICTURE, labels: str | None = None) -> list[str]:
        return [frame.label_from for frame in open_data(spec, [wanted], labels=labels).frames()]

    words = "the places of folders in the order of their names: cat 0, dog 1"
    assert origins(tmp_path / "words") == [words, words]
    assert origins(tmp_path / "numbers") == ["the numbers of folders"] * 2
    assert origins(tmp_path / "names") == ["the numbers that file names begin with", ""]
    assert origins(tmp_path / "d.npz", PLAIN) == ["the array 'y' of the data"] * 3
    assert origins(tmp_path / "d.npz", PLAIN, str(tmp_path / "l.npy")) == [""] * 3
