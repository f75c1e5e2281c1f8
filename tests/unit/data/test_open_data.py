from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from lowtide.data import DataSource, InputSpec, Preprocess, open_data
from lowtide.data.source import evenly_spread
from lowtide.diagnostics import Diagnostics
from lowtide.errors import DataError, OptionError

IMAGE = InputSpec("x", "float32", (1, 3, 4, 6))
PLAIN = InputSpec("x", "float32", (1, 5))


def ramp(*shape: int) -> NDArray[np.float32]:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def arrays(source: DataSource, name: str = "x") -> list[NDArray[Any]]:
    return [np.asarray(frame.feeds[name]) for frame in source.frames()]


def codes(diagnostics: Diagnostics) -> set[str]:
    return {found.code for found in diagnostics}


@pytest.fixture
def npz(tmp_path: Path) -> Callable[..., str]:
    def write(**content: Any) -> str:
        np.savez_compressed(tmp_path / "d.npz", **content)
        return str(tmp_path / "d.npz")

    return write


def test_an_array_has_one_frame_for_each_first_index_and_gets_a_batch_axis() -> None:
    data = ramp(7, 5)
    found = arrays(open_data(data, [PLAIN]))
    assert len(found) == 7
    np.testing.assert_array_equal(np.concatenate(found), data)


def test_frames_that_have_the_batch_axis_are_taken_as_they_are() -> None:
    np.testing.assert_array_equal(arrays(open_data(ramp(2, 1, 5), [PLAIN]))[1], ramp(2, 1, 5)[1])


@pytest.mark.parametrize("compressed", [True, False])
def test_an_npz_gives_the_frames_of_its_array(tmp_path: Path, *, compressed: bool) -> None:
    data = ramp(9, 5)
    (np.savez_compressed if compressed else np.savez)(tmp_path / "d.npz", anything=data)
    np.testing.assert_array_equal(np.concatenate(arrays(open_data(str(tmp_path / "d.npz"), [PLAIN]))), data)


def test_an_npz_is_never_held_as_a_whole(tmp_path: Path) -> None:
    np.savez(tmp_path / "big.npz", x=np.random.default_rng(0).random((400, 20_000), np.float32))
    source = open_data(tmp_path / "big.npz", [InputSpec("x", "float32", (1, 20_000))])
    tracemalloc.start()
    assert sum(1 for _ in source.frames()) == 400
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 400 * 20_000 * 4 / 10


def test_labels_come_from_the_npz(npz: Callable[..., str]) -> None:
    source = open_data(npz(image=ramp(3, 5), labels=np.array([4, 5, 6])), [PLAIN])
    assert [int(np.asarray(frame.label)) for frame in source.frames()] == [4, 5, 6]


def test_an_array_named_like_labels_is_an_input_when_the_network_has_it(npz: Callable[..., str]) -> None:
    specs = [PLAIN, InputSpec("y", "float32", (1, 2))]
    frames = list(open_data(npz(x=ramp(3, 5), y=ramp(3, 2)), specs).frames())
    assert frames[0].label is None
    assert set(frames[0].feeds) == {"x", "y"}


def test_several_inputs_are_fed_by_name() -> None:
    specs = [PLAIN, InputSpec("k", "int64", (1, 2))]
    source = open_data({"k": np.array([[1, 2], [3, 4]]), "x": ramp(2, 5)}, specs)
    last = list(source.frames())[-1]
    assert last.feeds["k"].tolist() == [[3, 4]]
    assert last.feeds["k"].dtype == np.int64


def test_a_npy_file_is_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", ramp(4, 5))
    assert len(arrays(open_data(tmp_path / "d.npy", [PLAIN]))) == 4


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_folder_of_arrays_has_one_frame_a_file_in_the_order_of_names(tmp_path: Path, suffix: str) -> None:
    for name in ("b", "a", "c"):
        data = np.full((1, 5), ord(name), np.float32) + ramp(1, 5)
        np.save(tmp_path / f"{name}.npy", data) if suffix == ".npy" else np.savez(
            tmp_path / f"{name}.npz", x=data
        )
    notes = Diagnostics()
    (tmp_path / "readme.txt").write_text("x", "utf-8")
    source = open_data(tmp_path, [PLAIN], diagnostics=notes)
    assert [frame.name for frame in source.frames()] == [f"{name}{suffix}" for name in "abc"]
    assert arrays(source)[0][0, 0] == ord("a")
    assert "LT754" in codes(notes)


def save_image(path: Path, seed: int, size: tuple[int, int] = (12, 8)) -> Image.Image:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(pixels)
    image.save(path)
    return image


def test_images_without_preprocessing_are_resized_to_the_input_and_that_is_said(tmp_path: Path) -> None:
    image = save_image(tmp_path / "7_a.png", 1)
    notes = Diagnostics()
    frame = next(iter(open_data(tmp_path, [IMAGE], diagnostics=notes).frames()))
    expected = np.asarray(image.resize((6, 4), Image.Resampling.BILINEAR), np.float32).transpose(2, 0, 1)[
        None
    ]
    np.testing.assert_array_equal(frame.feeds["x"], expected)
    assert frame.label == 7
    assert "LT753" in codes(notes)


def test_class_folders_give_labels(tmp_path: Path) -> None:
    for number, name in enumerate(("dog/1.png", "cat/2.png")):
        save_image(tmp_path / name, number)
    labels = {frame.name: frame.label for frame in open_data(tmp_path, [IMAGE]).frames()}
    assert labels == {str(Path("cat/2.png")): 0, str(Path("dog/1.png")): 1}


def test_grey_networks_get_one_channel(tmp_path: Path) -> None:
    image = save_image(tmp_path / "a.png", 1, (6, 4))
    grey = InputSpec("x", "float32", (1, 1, 4, 6))
    np.testing.assert_array_equal(
        arrays(open_data(tmp_path, [grey]))[0][0, 0], np.asarray(image.convert("L"), np.float32)
    )


def test_resize_crop_channel_order_mean_and_scale_follow_each_other(tmp_path: Path) -> None:
    image = save_image(tmp_path / "a.png", 3, (30, 20))
    block = {"resize": 10, "crop": [4, 6], "data_layout": "NCHW", "reverse_channels": True, "backend": "cv2"}
    chosen = Preprocess.from_mapping({**block, "input_mean": [1, 2, 3], "input_scale": [0.5, 0.25, 0.125]})
    found = arrays(open_data(tmp_path, [IMAGE], preprocess=chosen))[0][0]
    small = image.resize((15, 10), Image.Resampling.BILINEAR).crop((4, 3, 10, 7))
    pixels = np.asarray(small, np.float32)[:, :, ::-1]
    expected = ((pixels - np.array([1, 2, 3])) * np.array([0.5, 0.25, 0.125])).transpose(2, 0, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(("place", "left"), [("corner", 0), ("center", 1)])
def test_padded_resize_keeps_the_aspect_ratio(tmp_path: Path, place: str, left: int) -> None:
    image = save_image(tmp_path / "a.png", 4, (8, 8))
    block = {"resize": [4, 6], "resize_with_pad": [True, place], "pad_color": [114, 114, 114]}
    found = arrays(open_data(tmp_path, [IMAGE], preprocess=Preprocess.from_mapping(block)))[0][0]
    inner = np.asarray(image.resize((4, 4), Image.Resampling.BILINEAR), np.float32).transpose(2, 0, 1)
    np.testing.assert_array_equal(found[:, :, left : left + 4], inner)
    assert (found[:, :, left + 4 :] == 114).all()


def test_an_unknown_preprocessing_key_suggests_the_nearest() -> None:
    with pytest.raises(OptionError, match="resize"):
        Preprocess.from_mapping({"resise": 3})


def test_an_unknown_interpolation_is_refused() -> None:
    with pytest.raises(OptionError, match="bicubic"):
        Preprocess(interpolation="bicubik")


def test_frames_with_channels_last_are_transposed_and_that_is_said() -> None:
    data = ramp(2, 4, 6, 3)
    notes = Diagnostics()
    found = arrays(open_data(data, [IMAGE], diagnostics=notes))
    np.testing.assert_array_equal(found[1][0], data[1].transpose(2, 0, 1))
    assert "LT751" in codes(notes)


def test_frames_with_channels_first_are_transposed_for_an_input_that_has_them_last() -> None:
    data = ramp(1, 3, 4, 6)
    found = arrays(open_data(data, [InputSpec("x", "float32", (1, 4, 6, 3))]))
    np.testing.assert_array_equal(found[0][0], data[0].transpose(1, 2, 0))


def test_a_constant_frame_is_noted() -> None:
    notes = Diagnostics()
    list(open_data(np.ones((1, 5), np.float32), [PLAIN], diagnostics=notes).frames())
    assert "LT752" in codes(notes)


def test_random_frames_are_synthetic_and_the_same_for_the_same_seed() -> None:
    one, two, other = (open_data("random:3", [PLAIN], seed=seed) for seed in (1, 1, 2))
    assert one.synthetic
    np.testing.assert_array_equal(arrays(one), arrays(two))
    assert not np.array_equal(arrays(one), arrays(other))
    np.testing.assert_array_equal(arrays(one.select(2))[1], arrays(one)[1])


def frames_of_this_module() -> Iterator[NDArray[np.float32]]:
    yield from ramp(6, 5)


def test_a_callable_is_called_for_every_pass() -> None:
    source = open_data(frames_of_this_module, [PLAIN])
    assert source.count is None
    np.testing.assert_array_equal(arrays(source), arrays(source))
    assert source.fingerprint() is None
    assert source.select(3).count == 3


def test_a_callable_is_named_as_module_and_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_frames.py").write_text("def make():\n    return [[1, 2, 3, 4, 5]]\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    assert arrays(open_data("my_frames:make", [PLAIN]))[0].tolist() == [[1, 2, 3, 4, 5]]


def test_an_iterator_is_kept_for_the_second_pass() -> None:
    source = open_data(iter([{"x": ramp(1, 5)}]), [PLAIN])
    assert len(arrays(source)) == len(arrays(source)) == 1


def test_labels_come_from_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("a.png,3\nb.png,4\n", "utf-8")
    source = open_data(ramp(2, 5), [PLAIN], labels=str(tmp_path / "l.csv"))
    assert [frame.label for frame in source.frames()] == [3, 4]
    assert [frame.label for frame in source.select(1).frames()] == [3]


def test_a_wrong_number_of_labels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("1\n2\n", "utf-8")
    with pytest.raises(DataError, match="2 labels for 3 frames"):
        open_data(ramp(3, 5), [PLAIN], labels=str(tmp_path / "l.txt"))


@given(st.integers(1, 300), st.integers(1, 300))
def test_a_selection_is_ascending_distinct_and_evenly_spread(total: int, count: int) -> None:
    picked = evenly_spread(total, count)
    assert len(picked) == min(total, count)
    assert sorted(set(picked)) == list(picked)
    gaps = np.diff([*picked, total])
    assert gaps.max() - gaps.min() <= 1


def test_a_fingerprint_depends_on_content_and_selection(npz: Callable[..., str]) -> None:
    first = open_data(npz(x=ramp(4, 5)), [PLAIN])
    one, part = first.fingerprint(), first.select(2).fingerprint()
    other = open_data(npz(x=ramp(4, 5) + 1), [PLAIN]).fingerprint()
    assert len({one, part, other}) == 3
    assert one == open_data(npz(x=ramp(4, 5)), [PLAIN]).fingerprint()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_refused_with_frame_input_and_position(bad: float) -> None:
    data = ramp(3, 5)
    data[2, 4] = bad
    with pytest.raises(DataError, match=r"frame 2, input x.*\(0, 4\)"):
        arrays(open_data(data, [PLAIN]))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (ramp(2, 6), r"\[1, 5\].*found \[6\]"),
        (ramp(0, 5), "no frames"),
        (np.array([["a"] * 5]), "expected float32"),
        ({"z": ramp(2, 5), "x": ramp(2, 5)}, "'z' belongs to no input"),
        ({"x": ramp(2, 5), "labels": ramp(3)}, "different numbers"),
        ("nowhere/at/all", "no such file"),
        ("random:many", "many"),
        ("no_such_module:make", "cannot be imported"),
        (5, "cannot be read as data"),
    ],
)
def test_data_that_cannot_fit_says_why(data: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        arrays(open_data(data, [PLAIN]))


def test_a_missing_input_is_named() -> None:
    with pytest.raises(DataError, match="no array for the input 'k'"):
        list(open_data({"x": ramp(2, 5)}, [PLAIN, InputSpec("k", "float32", (1, 5))]).frames())


def test_fractions_do_not_fit_an_integer_input() -> None:
    with pytest.raises(DataError, match="fractions"):
        arrays(open_data(ramp(1, 5) + 0.5, [InputSpec("x", "int64", (1, 5))]))


def test_a_callable_that_raises_is_named() -> None:
    def broken() -> Iterator[NDArray[np.float32]]:
        yield ramp(5)
        raise RuntimeError("camera unplugged")

    with pytest.raises(DataError, match="camera unplugged"):
        arrays(open_data(broken, [PLAIN]))


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", 1)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"b\.png"):
        arrays(open_data(tmp_path, [IMAGE]))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"])
def test_a_damaged_npz_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"d\.npz"):
        open_data(tmp_path / "d.npz", [PLAIN])


def test_a_folder_of_two_kinds_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ramp(5))
    save_image(tmp_path / "a.png", 1)
    with pytest.raises(DataError, match="mixes"):
        open_data(tmp_path, [PLAIN])
