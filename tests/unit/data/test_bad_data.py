from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lowtide.data import InputSpec, Preprocess, open_data
from lowtide.diagnostics import Diagnostics, Severity
from lowtide.errors import DataError

PLAIN = InputSpec("x", "float32", (1, 5))
PICTURE = InputSpec("x", "float32", (1, 3, 4, 6))
FRAMES = np.arange(20, dtype=np.float32).reshape(4, 5)


def read(spec: object, *inputs: InputSpec, **kwargs: Any) -> int:
    return sum(1 for _ in open_data(spec, inputs or [PLAIN], **kwargs).frames())


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing here", "utf-8")
    with pytest.raises(DataError, match="there are no frames") as caught:
        read(tmp_path)
    assert caught.value.place == str(tmp_path)


@pytest.mark.parametrize("spec", [[], iter([]), np.zeros((0, 5)), {"x": np.zeros((0, 5))}, list])
def test_no_frames_are_refused(spec: object) -> None:
    with pytest.raises(DataError, match="there are no frames"):
        read(spec)


def test_an_npz_without_frames_or_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "none.npz", x=np.zeros((0, 5)))
    np.savez(tmp_path / "empty.npz")
    with pytest.raises(DataError, match=r"none\.npz: there are no frames"):
        read(tmp_path / "none.npz")
    with pytest.raises(DataError, match=r"empty\.npz: there are no arrays"):
        read(tmp_path / "empty.npz")


@pytest.mark.parametrize("count", [0, -1])
def test_a_selection_of_nothing_is_refused(count: int) -> None:
    with pytest.raises(DataError, match="at least one frame"):
        open_data(FRAMES, [PLAIN]).select(count)


@pytest.mark.parametrize("text", ["random:", "random:0", "random:-3", "random:1.5", "random:²"])
def test_a_number_of_random_frames_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="expected a number of frames"):
        read(text)


@pytest.mark.parametrize(
    ("dtype", "number", "words"),
    [
        ("uint8", 256, r"uint8, 0 to 255, found 0\.0 to 256"),
        ("uint8", -1, "uint8, 0 to 255, found -1"),
        ("int8", 128, "int8, -128 to 127"),
        ("int64", 1e30, "int64"),
        ("bool", 2, "bool, 0 to 1"),
        ("float16", 70_000, "float16, found numbers too large"),
        ("float32", 1e300, "float32, found numbers too large"),
    ],
)
def test_numbers_that_the_input_cannot_hold_are_refused_instead_of_wrapped(
    dtype: str, number: float, words: str
) -> None:
    data = np.zeros((1, 5), np.float64)
    data[0, 3] = number
    with pytest.raises(DataError, match=rf"frame 0, input x: expected {words}"):
        read(data, InputSpec("x", dtype, (1, 5)))


def test_the_limits_of_an_integer_input_fit() -> None:
    for dtype in ("uint8", "int8", "int16", "int32"):
        limits = np.iinfo(dtype)
        data = np.array([[limits.min, 0, 1, 2, limits.max]], np.int64)
        frame = next(open_data(data, [InputSpec("x", dtype, (1, 5))]).frames())
        np.testing.assert_array_equal(frame.feeds["x"], data)


@pytest.mark.parametrize("kind", ["npz", "npy", "list"])
def test_a_nan_is_refused_with_frame_and_position_in_every_source(tmp_path: Path, kind: str) -> None:
    data = FRAMES.copy()
    data[3, 1] = np.nan
    np.savez_compressed(tmp_path / "d.npz", x=data)
    np.save(tmp_path / "d.npy", data)
    spec: object = list(data) if kind == "list" else tmp_path / f"d.{kind}"
    with pytest.raises(DataError, match=r"frame 3, input x: NaN or infinity in 1 element, .*\(0, 1\)"):
        read(spec)


def test_a_nan_in_a_folder_is_refused_with_the_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FRAMES[0])
    np.save(tmp_path / "b.npy", FRAMES[1] * np.inf)
    with pytest.raises(DataError, match=r"b\.npy, input x"):
        read(tmp_path)


def test_a_constant_frame_is_a_warning_that_names_it_and_no_error() -> None:
    data = FRAMES.copy()
    data[2] = 7
    notes = Diagnostics()
    assert read(data, diagnostics=notes) == 4
    (found,) = notes
    assert (found.severity, found.code, found.place) == (Severity.WARNING, "LT752", "frame 2, input x")


def test_a_mapping_with_a_wrong_name_suggests_the_nearest() -> None:
    with pytest.raises(DataError, match=r"'image_1' belongs to no input \(did you mean image_0\?\)"):
        open_data({"image_1": FRAMES}, [InputSpec("image_0", "float32", (1, 5))])


def test_an_error_names_the_first_missing_input_in_the_order_of_the_network() -> None:
    wanted = [InputSpec(name, "float32", (1, 5)) for name in ("e", "d", "c", "b", "a")]
    with pytest.raises(DataError, match="no array for the input 'd'"):
        read([{"e": FRAMES[0]}], *wanted)


def test_an_array_without_the_axis_of_frames_is_hinted_at() -> None:
    with pytest.raises(DataError, match=r"found \[4, 6\] \(in an array of frames the first axis counts them"):
        read(np.zeros((3, 4, 6), np.float32), PICTURE)


@pytest.mark.parametrize("spec", [{"x": np.ones(())}, {"x": FRAMES, "y": np.ones(())}])
def test_an_array_without_axes_is_no_list_of_frames(spec: object) -> None:
    with pytest.raises(DataError, match="is a single number, expected an axis of frames"):
        read(spec)


@pytest.mark.parametrize("spec", [["a", "b"], [object()], [{"x": "text"}], [[[1, 2], [3]]]])
def test_frames_that_are_no_numbers_are_refused(spec: object) -> None:
    with pytest.raises(DataError):
        read(spec)


def test_a_callable_that_gives_fewer_frames_later_is_noticed() -> None:
    passes = iter([FRAMES, FRAMES[:2]])
    part = open_data(lambda: next(passes), [PLAIN]).select(4)
    with pytest.raises(DataError, match="expected 4 frames, found 2"):
        list(part.frames())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("def make(:\n", "SyntaxError"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("import no_such_module_at_all\n", "no_such_module_at_all"),
        ("other = 1\n", "make"),
        ("make = 1\n", "is int, expected a callable"),
        ("def make():\n    raise RuntimeError('no camera')\n", "no camera"),
        ("def make():\n    return 5\n", "gave int, expected frames"),
    ],
)
def test_a_named_callable_that_does_not_work_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, words: str, request: pytest.FixtureRequest
) -> None:
    name = f"bad_frames_{request.node.callspec.indices['content']}"
    (tmp_path / f"{name}.py").write_text(content, "utf-8")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    with pytest.raises(DataError, match=rf"{name}:make.*{words}"):
        read(f"{name}:make")
    assert sys.path == before
    sys.modules.pop(name, None)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[300:340] = b"\xff" * 40
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, garble])
@pytest.mark.parametrize("in_folder", [True, False])
def test_a_damaged_npz_is_named_however_it_is_damaged(
    tmp_path: Path, damage: Callable[[Path], None], *, in_folder: bool
) -> None:
    data = np.random.default_rng(0).random((60, 5))
    np.savez_compressed(tmp_path / "d.npz", x=data)
    damage(tmp_path / "d.npz")
    wanted = InputSpec("x", "float32", (60, 5) if in_folder else (1, 5))
    with pytest.raises(DataError, match=r"d\.npz"):
        read(tmp_path if in_folder else tmp_path / "d.npz", wanted)


def test_an_npz_whose_array_ends_early_is_named_with_the_frame(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", FRAMES)
    content = (tmp_path / "x.npy").read_bytes()
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", content[:-8])
    with pytest.raises(DataError, match=r"d\.npz, frame 3: ends too early"):
        read(tmp_path / "d.npz")


def test_an_npz_that_vanishes_before_it_is_read_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=FRAMES)
    source = open_data(tmp_path / "d.npz", [PLAIN])
    (tmp_path / "d.npz").unlink()
    with pytest.raises(DataError, match=r"d\.npz"):
        list(source.frames())


@pytest.mark.parametrize(
    ("array", "words"),
    [(np.array(["a", "b"]), "expected numbers"), (np.asfortranarray(FRAMES), "column order")],
)
def test_an_array_of_an_npz_that_cannot_be_streamed_is_named(tmp_path: Path, array: Any, words: str) -> None:
    np.savez(tmp_path / "d.npz", odd=array)
    with pytest.raises(DataError, match=rf"d\.npz, array odd: .*{words}"):
        read(tmp_path / "d.npz")


@pytest.mark.parametrize("in_folder", [True, False])
@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_a_damaged_npy_is_named(tmp_path: Path, content: bytes, *, in_folder: bool) -> None:
    (tmp_path / "d.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"d\.npy"):
        read(tmp_path if in_folder else tmp_path / "d.npy")


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"d\.npy"):
        read(tmp_path / "d.npy")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif"])
def test_a_truncated_image_is_named(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}")
    cut(tmp_path / f"a{suffix}")
    with pytest.raises(DataError, match=rf"a\{suffix}"):
        read(tmp_path, PICTURE)


def test_an_image_that_preprocessing_leaves_at_another_size_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png, input x: expected the shape"):
        read(tmp_path, PICTURE, preprocess=Preprocess(resize=7))


@pytest.mark.parametrize("inputs", [[PLAIN], [PICTURE, PLAIN]])
def test_images_need_one_input_of_four_dimensions(tmp_path: Path, inputs: list[InputSpec]) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="images fit one input of 4 dimensions"):
        open_data(tmp_path, inputs)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("1,2\n", "utf-8")
    with pytest.raises(DataError, match=r"data in \.csv is not known"):
        read(tmp_path / "d.csv")
