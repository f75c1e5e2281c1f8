"""Preprocessing beside the same steps written with Pillow's own functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lowtide.data import InputSpec, Preprocess, open_data, preprocess_in_words
from lowtide.diagnostics import Diagnostics

BILINEAR = Image.Resampling.BILINEAR


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8))


def frame(folder: Path, shape: tuple[int, ...], chosen: Preprocess, notes: Diagnostics) -> NDArray[Any]:
    source = open_data(folder, [InputSpec("x", "float32", shape)], preprocess=chosen, diagnostics=notes)
    return np.asarray(next(source.frames()).feeds["x"][0])


def test_two_numbers_are_height_and_width() -> None:
    image = picture(30, 20)
    wanted = np.asarray(image.resize((9, 7), BILINEAR), np.float32)
    np.testing.assert_array_equal(Preprocess(resize=(7, 9)).apply(image), wanted)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 9), st.integers(0, 9))
def test_a_crop_keeps_the_centre(high: int, wide: int, above: int, left: int) -> None:
    image = picture(wide + 2 * left, high + 2 * above)
    wanted = ImageOps.crop(image.crop((left, 0, left + wide, image.height)), 0)
    wanted = wanted.crop((0, above, wide, above + high))
    found = Preprocess(crop=(high, wide)).apply(image)
    np.testing.assert_array_equal(found, np.asarray(wanted, np.float32))


@pytest.mark.parametrize(("place", "centering"), [("corner", (0.0, 0.0)), ("center", (0.5, 0.5))])
@pytest.mark.parametrize("size", [(40, 20), (20, 40), (10, 10), (30, 60)])
def test_padding_is_that_of_pillow(place: Any, centering: tuple[float, float], size: tuple[int, int]) -> None:
    image = picture(*size)
    wanted = ImageOps.pad(image, (60, 60), BILINEAR, color=(114, 7, 9), centering=centering)
    chosen = Preprocess(resize=60, resize_with_pad=place, pad_color=(114, 7, 9))
    np.testing.assert_array_equal(chosen.apply(image), np.asarray(wanted, np.float32))


def test_the_channels_are_reversed_before_mean_and_scale() -> None:
    image = picture(6, 4)
    red, green, blue = (np.asarray(channel, np.float32) for channel in image.split())
    chosen = Preprocess(reverse_channels=True, mean=(1.0, 2.0, 3.0), scale=(0.5, 0.25, 2.0), layout="NCHW")
    wanted = np.stack([(blue - 1) * 0.5, (green - 2) * 0.25, (red - 3) * 2])
    np.testing.assert_array_equal(chosen.apply(image), wanted)


@pytest.mark.parametrize(
    ("backend", "interpolation", "how"),
    [
        ("pil", None, BILINEAR),
        ("cv2", None, BILINEAR),
        ("cv2", 1, BILINEAR),
        ("cv2", 2, Image.Resampling.BICUBIC),
        ("cv2", 3, Image.Resampling.BOX),
        ("pil", 3, Image.Resampling.BICUBIC),
        ("pil", 1, Image.Resampling.LANCZOS),
        ("cv2", "cv2.INTER_AREA", Image.Resampling.BOX),
        ("cv2", "INTER_LINEAR", BILINEAR),
        ("pil", "Image.BICUBIC", Image.Resampling.BICUBIC),
        ("pil", "BILINEAR", BILINEAR),
    ],
)
def test_interpolations_by_the_names_and_numbers_of_both_libraries(
    backend: str, interpolation: object, how: Image.Resampling
) -> None:
    block = {"resize": [6, 5], "backend": backend, "interpolation": interpolation}
    image = picture(30, 20)
    wanted = np.asarray(image.resize((5, 6), how), np.float32)
    np.testing.assert_array_equal(Preprocess.from_mapping(block).apply(image), wanted)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_whole_block_gives_the_frame_that_pillow_gives(tmp_path: Path, layout: str) -> None:
    image = picture(60, 40)
    image.save(tmp_path / "a.png")
    block: dict[str, Any] = {
        "resize": 24,
        "crop": 16,
        "data_layout": layout,
        "reverse_channels": True,
        "backend": "pil",
        "interpolation": None,
        "resize_with_pad": False,
        "pad_color": 0,
        "input_mean": [103.53, 116.28, 123.675],
        "input_scale": [0.017429, 0.017507, 0.017125],
    }
    pixels = np.asarray(image.resize((36, 24), BILINEAR).crop((10, 4, 26, 20)), np.float64)[:, :, ::-1]
    wanted = (pixels - block["input_mean"]) * block["input_scale"]
    wanted = wanted.transpose(2, 0, 1) if layout == "NCHW" else wanted
    notes = Diagnostics()
    found = frame(tmp_path, (1, *wanted.shape), Preprocess.from_mapping(block), notes)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    assert len(notes) == 0


def test_a_layout_that_the_network_does_not_have_is_replaced_by_its_own(tmp_path: Path) -> None:
    picture(6, 4).save(tmp_path / "a.png")
    pixels = np.asarray(picture(6, 4), np.float32)
    chosen = Preprocess(layout="NHWC")
    found = frame(tmp_path, (1, 3, 4, 6), chosen, Diagnostics())
    np.testing.assert_array_equal(found, pixels.transpose(2, 0, 1))


def test_preprocessing_made_for_opencv_is_noted_where_it_makes_a_difference(tmp_path: Path) -> None:
    picture(6, 4).save(tmp_path / "a.png")
    for block, expected in (
        ({"backend": "cv2", "resize": [4, 6]}, ["LT757"]),
        ({"backend": "pil", "resize": [4, 6]}, []),
        ({"backend": "cv2", "crop": [4, 6]}, []),
    ):
        notes = Diagnostics()
        frame(tmp_path, (1, 3, 4, 6), Preprocess.from_mapping(block), notes)
        assert [found.code for found in notes] == expected


def test_the_library_changes_no_pixel_and_no_fingerprint() -> None:
    assert Preprocess(backend="cv2") == Preprocess(backend="pil") == Preprocess()
    assert repr(Preprocess(backend="cv2")) == repr(Preprocess())


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({}, {"resize": "to the size of the input, bilinear", "layout": "as the input has it"}),
        ({"resize": 256}, {"resize": "shorter side to 256, bilinear"}),
        ({"resize": [4, 6], "interpolation": 2}, {"resize": "to 4 high, 6 wide, bicubic"}),
        ({"crop": 3}, {"resize": "none", "crop": "to the centre, 3 high, 3 wide"}),
        ({"reverse_channels": True}, {"channels": "blue first (BGR)"}),
        ({"mean": [1.5, 2], "scale": 0.017125}, {"mean": "1.5 2 subtracted", "scale": "times 0.017125"}),
        (
            {"resize": 8, "resize_with_pad": [True, "corner"], "pad_color": 114},
            {
                "resize": "into 8 high, 8 wide with the aspect ratio kept, bilinear, "
                "padded at the right and bottom with 114 114 114"
            },
        ),
    ],
)
def test_preprocessing_in_words(block: dict[str, Any], words: dict[str, str]) -> None:
    found = preprocess_in_words(Preprocess.from_mapping(block))
    assert {key: found[key] for key in words} == words
