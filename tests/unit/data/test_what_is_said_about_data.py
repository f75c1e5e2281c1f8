"""What is taken, left out or guessed is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lowtide.data import InputSpec, Preprocess, open_data
from lowtide.diagnostics import Diagnostics
from lowtide.errors import DataError

PLAIN = InputSpec("x", "float32", (1, 5))
PICTURE = InputSpec("x", "float32", (1, 3, 4, 6))
FRAMES = np.arange(20, dtype=np.float32).reshape(4, 5)


def said(spec: object, wanted: InputSpec, code: str) -> list[str]:
    notes = Diagnostics()
    list(open_data(spec, [wanted], diagnostics=notes).frames())
    return [f"{note.severity} {note.message}" for note in notes if note.code == code]


def picture(path: Path, **how: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(72, dtype=np.uint8).reshape(4, 6, 3)).save(path, **how)


def test_the_first_ignored_file_and_the_suffixes_are_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "b.gif").write_bytes(b"")
    (tmp_path / "c.txt").write_text("", "utf-8")
    assert said(tmp_path, PICTURE, "LT754") == [
        "info 2 other files are ignored (.gif, .txt), the first is b.gif"
    ]


def test_links_that_lead_to_nothing_or_to_a_folder_are_ignored_aloud(tmp_path: Path) -> None:
    picture(tmp_path / "d" / "a.png")
    (tmp_path / "d" / "b.png").symlink_to(tmp_path / "gone.png")
    (found,) = said(tmp_path / "d", PICTURE, "LT754")
    assert found == "info 1 other file is ignored (.png), the first is b.png, a link to nothing"
    (tmp_path / "d" / "b.png").unlink()
    picture(tmp_path / "elsewhere" / "c.png")
    (tmp_path / "d" / "b").symlink_to(tmp_path / "elsewhere")
    assert said(tmp_path / "d", PICTURE, "LT754")[0].endswith("the first is b, a link to a folder")


def test_a_folder_without_frames_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "b.gif").write_bytes(b"")
    with pytest.raises(DataError, match=r"there are no frames.*\(\.gif\), the first is b\.gif"):
        open_data(tmp_path, [PICTURE])


@pytest.mark.parametrize("folder", [False, True])
def test_the_only_array_under_another_name_is_taken_and_named(tmp_path: Path, *, folder: bool) -> None:
    np.savez(tmp_path / "d.npz", other=FRAMES[0] if folder else FRAMES)
    found = said(tmp_path if folder else tmp_path / "d.npz", PLAIN, "LT767")
    assert found == ["info the array 'other' is taken for 'x'"]


def test_an_array_of_the_name_of_the_input_or_without_one_needs_no_note(tmp_path: Path) -> None:
    np.savez(tmp_path / "named.npz", x=FRAMES, label=np.arange(4))
    np.savez(tmp_path / "unnamed.npz", FRAMES)
    assert not said(tmp_path / "named.npz", PLAIN, "LT767")
    assert not said(tmp_path / "unnamed.npz", PLAIN, "LT767")


def test_random_frames_are_a_warning_wherever_they_are_opened() -> None:
    (found,) = said("random:2", PLAIN, "LT755")
    assert found.startswith("warning the frames are random numbers")


def test_a_picture_is_turned_upright_as_its_exif_orientation_says(tmp_path: Path) -> None:
    lying = Image.fromarray(np.arange(72, dtype=np.uint8).reshape(6, 4, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # the row that is stored first is the right side
    lying.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        found = Preprocess(layout="NHWC").apply(image)
    np.testing.assert_array_equal(found, np.rot90(np.asarray(lying, np.float32), -1))


def test_a_callable_may_give_a_mapping_of_arrays_along_the_first_axis() -> None:
    source = open_data(lambda: {"x": FRAMES, "label": np.array([4, 5, 6, 7])}, [PLAIN])
    frames = list(source.frames())
    np.testing.assert_array_equal(np.concatenate([frame.feeds["x"] for frame in frames]), FRAMES)
    assert [frame.label for frame in frames] == [4, 5, 6, 7]
    assert [frame.label for frame in source.select(2).frames()] == [4, 6]


def leaves() -> None:
    raise SystemExit(1)


@pytest.mark.parametrize("module", ["", "import sys\nsys.exit(1)"])
def test_code_of_the_user_that_ends_the_program_is_bad_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"leaving_{len(module)}"
    Path(f"{name}.py").write_text(f"{module}\ndef frames():\n    raise SystemExit(1)\n", "utf-8")
    with pytest.raises(DataError, match=rf"{name}:frames: .*SystemExit: 1"):
        list(open_data(f"{name}:frames", [PLAIN]).frames())
    if not module:
        with pytest.raises(DataError, match="leaves: raised SystemExit"):
            list(open_data(leaves, [PLAIN]).frames())


@pytest.mark.parametrize("make", [lambda: np.array(3.0), lambda: {"x": np.array(3.0)}])
def test_a_single_number_is_no_list_of_frames(make: Callable[[], object]) -> None:
    with pytest.raises(DataError, match="is a single number, expected an axis of frames"):
        list(open_data(make(), [PLAIN]).frames())
