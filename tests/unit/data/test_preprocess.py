from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lowtide.data import InputSpec, Preprocess, open_data
from lowtide.errors import DataError, OptionError


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize(
    ("size", "expected"), [((30, 20), (15, 10)), ((20, 30), (10, 15)), ((7, 7), (10, 10))]
)
def test_a_single_number_is_the_length_of_the_shorter_side(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    image = picture(*size)
    wanted = np.asarray(image.resize(expected, Image.Resampling.BILINEAR), np.float32)
    np.testing.assert_array_equal(Preprocess(resize=10).apply(image), wanted)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("nearest", Image.Resampling.NEAREST),
        ("bilinear", Image.Resampling.BILINEAR),
        ("bicubic", Image.Resampling.BICUBIC),
        ("area", Image.Resampling.BOX),
    ],
)
def test_interpolations_are_those_of_pillow(name: str, how: Image.Resampling) -> None:
    image = picture(30, 20)
    wanted = np.asarray(image.resize((9, 7), how), np.float32)
    np.testing.assert_array_equal(Preprocess(resize=(7, 9), interpolation=name).apply(image), wanted)


@pytest.mark.parametrize(
    ("backend", "number", "name"),
    [
        ("cv2", 0, "nearest"),
        ("cv2", 1, "bilinear"),
        ("cv2", 2, "bicubic"),
        ("cv2", 3, "area"),
        ("pil", 2, "bilinear"),
        ("pil", 3, "bicubic"),
        (None, 3, "area"),
    ],
)
def test_numbers_of_an_interpolation_mean_what_the_backend_means(
    backend: str | None, number: int, name: str
) -> None:
    assert Preprocess.from_mapping({"backend": backend, "interpolation": number}).interpolation == name


def test_layouts_and_channel_order() -> None:
    image = picture(6, 4)
    rgb = np.asarray(image, np.float32)
    np.testing.assert_array_equal(Preprocess(layout="NHWC").apply(image), rgb)
    np.testing.assert_array_equal(Preprocess(layout="NCHW").apply(image), np.moveaxis(rgb, 2, 0))
    blue_first = Preprocess(layout="NCHW", reverse_channels=True).apply(image)
    np.testing.assert_array_equal(blue_first, np.moveaxis(rgb, 2, 0)[::-1])


def test_mean_is_subtracted_before_the_scale_is_applied() -> None:
    image = picture(6, 4)
    found = Preprocess(mean=(10.0, 20.0, 30.0), scale=(0.5,)).apply(image)
    np.testing.assert_array_equal(
        found, (np.asarray(image, np.float32) - np.array([10, 20, 30], np.float32)) * 0.5
    )
    assert found.dtype == np.float32


def test_a_number_as_mean_stands_for_all_channels() -> None:
    assert Preprocess.from_mapping({"input_mean": 127.5}) == Preprocess(mean=(127.5,))


@pytest.mark.parametrize("width", [47, 55, 94, 97])
def test_padding_never_loses_a_column_to_rounding(width: int) -> None:
    white = Image.new("RGB", (width, width), (255, 255, 255))
    for size in (6, 10, 224):
        assert (Preprocess(resize=size, resize_with_pad="corner").apply(white) == 255).all()


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(1, 40))
def test_padding_fills_what_the_picture_leaves(width: int, height: int, high: int, wide: int) -> None:
    white = Image.new("RGB", (width, height), (255, 255, 255))
    chosen = Preprocess(resize=(high, wide), resize_with_pad="center", pad_color=(1, 2, 3))
    found = chosen.apply(white)
    assert found.shape == (high, wide, 3)
    inside = (found == 255).all(axis=2)
    rows, columns = inside.any(axis=1).sum(), inside.any(axis=0).sum()
    assert rows == high or columns == wide
    assert abs(rows * width - columns * height) <= max(width, height)
    assert (found[~inside] == [1, 2, 3]).all()


def test_other_modes_than_rgb_are_converted() -> None:
    image = picture(6, 4)
    for mode in ("L", "P", "RGBA", "CMYK"):
        wanted = np.asarray(image.convert(mode).convert("RGB"), np.float32)
        np.testing.assert_array_equal(Preprocess().apply(image.convert(mode)), wanted)


def test_pictures_with_16_bits_are_refused_instead_of_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 6), 4000, np.uint16)).save(tmp_path / "depth.png")
    with pytest.raises(DataError, match=r"depth\.png: expected 8 bits"):
        list(open_data(tmp_path, [InputSpec("x", "float32", (1, 1, 4, 6))]).frames())


def test_a_crop_larger_than_the_picture_is_refused_instead_of_padded() -> None:
    with pytest.raises(DataError, match=r"the crop \[8, 8\] is larger than the picture \[4, 6\]"):
        Preprocess(crop=8).apply(picture(6, 4))


def test_a_mean_for_other_channels_is_refused() -> None:
    with pytest.raises(DataError, match="mean has 2 numbers for 3 channels"):
        Preprocess(mean=(1.0, 2.0)).apply(picture(6, 4))


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (True, "corner"),
        ([True, "corner"], "corner"),
        ([True, "center"], "center"),
        ("center", "center"),
        (False, None),
        ([False], None),
        (None, None),
    ],
)
def test_the_forms_of_padding(value: Any, place: str | None) -> None:
    assert Preprocess.from_mapping({"resize_with_pad": value}).resize_with_pad == place


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"resise": 3}, "unknown preprocessing key 'resise' .did you mean resize"),
        ({"resize": 0}, "at least one pixel"),
        ({"resize": True}, "whole number"),
        ({"resize": "256"}, "whole number"),
        ({"crop": [1, 2, 3]}, "height and width"),
        ({"crop": [4, -1]}, "at least one pixel"),
        ({"data_layout": "NCWH"}, "did you mean NCHW"),
        ({"reverse_channels": "false"}, "true or false"),
        ({"backend": "gpu"}, "cv2 or pil"),
        ({"interpolation": 99}, "3 area"),
        ({"interpolation": "bicubik"}, "did you mean bicubic"),
        ({"resize_with_pad": [True, "centre"]}, "did you mean center"),
        ({"resize_with_pad": [True, "corner", 1]}, r"a pair like \[true, corner\]"),
        ({"pad_color": 300}, "0 to 255"),
        ({"pad_color": [1, 2]}, "three numbers"),
        ({"pad_color": "red"}, "whole number"),
        ({"input_mean": "many"}, "expected numbers"),
        ({"mean": [1], "input_mean": [2]}, "given twice"),
    ],
)
def test_a_block_that_is_not_understood_says_where_and_why(block: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        Preprocess.from_mapping(block, place="zoo.yaml")
    assert caught.value.place == "zoo.yaml"


def test_keys_without_a_value_are_as_good_as_absent() -> None:
    block: dict[str, Any] = dict.fromkeys(
        ("resize", "crop", "interpolation", "pad_color", "mean", "backend", "resize_with_pad")
    )
    assert Preprocess.from_mapping(block) == Preprocess()


def test_a_padding_colour_may_be_one_number() -> None:
    assert Preprocess.from_mapping({"pad_color": 114}).pad_color == (114, 114, 114)
