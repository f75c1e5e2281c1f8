from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from lowtide.data import InputSpec, Preprocess, open_data
from lowtide.diagnostics import Diagnostics

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("LOWTIDE_REAL_DATA" not in os.environ, reason="LOWTIDE_REAL_DATA names no folder"),
]


@pytest.fixture
def root() -> Path:
    return Path(os.environ["LOWTIDE_REAL_DATA"])


def test_a_folder_of_photos_opens_with_its_labels(root: Path) -> None:
    folder = root / "imagenet" / "calib"
    notes = Diagnostics()
    photos = open_data(folder, [InputSpec("x", "float32", (1, 3, 224, 224))], diagnostics=notes)
    files = sorted(path.name for path in folder.iterdir())
    assert photos.count == len(files) == 200
    assert "LT753" in {found.code for found in notes}
    chosen = list(photos.select(4).frames())
    assert [frame.name for frame in chosen] == files[::50]
    assert [frame.label for frame in chosen] == [int(name[:4]) for name in files[::50]]


def test_a_photo_is_preprocessed_as_pillow_does_it(root: Path) -> None:
    folder = root / "imagenet" / "calib"
    chosen = Preprocess(resize=256, crop=224, mean=(127.5,), scale=(1 / 127.5,))
    source = open_data(folder, [InputSpec("x", "float32", (1, 3, 224, 224))], preprocess=chosen)
    frame = next(source.frames())
    image = Image.open(folder / frame.name).convert("RGB")
    factor = 256 / min(image.size)
    image = image.resize(
        (round(image.width * factor), round(image.height * factor)), Image.Resampling.BILINEAR
    )
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float64)
    np.testing.assert_allclose(frame.feeds["x"][0], pixels.transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "shape", "transposed"),
    [
        ("cifar10/calib.npz", (1, 3, 32, 32), True),
        ("cifar10/test.npz", (1, 32, 32, 3), False),
        ("mnist/calib.npz", (1, 1, 28, 28), False),
        ("mnist/test.npz", (1, 28, 28, 1), False),
    ],
)
def test_published_arrays_open_with_their_labels(
    root: Path, name: str, shape: tuple[int, ...], *, transposed: bool
) -> None:
    notes = Diagnostics()
    source = open_data(root / name, [InputSpec("input", "float32", shape)], diagnostics=notes)
    with np.load(root / name) as content:
        pixels, labels = content["x"], content["y"]
    assert source.count == len(pixels)
    for number, frame in enumerate(source.select(10).frames()):
        index = number * len(pixels) // 10
        wanted = pixels[index].transpose(2, 0, 1) if transposed else pixels[index]
        np.testing.assert_array_equal(frame.feeds["input"], wanted.reshape(shape))
        assert frame.label == labels[index]
    assert ("LT751" in {found.code for found in notes}) == transposed


def test_every_block_of_the_published_configurations_is_understood(root: Path) -> None:
    files = sorted((root / "vendor-configs").glob("*.yaml"))
    assert files
    for file in files:
        content: dict[str, Any] = yaml.safe_load(file.read_text("utf-8"))
        session = content["session"]
        block = {key: session[key] for key in ("input_mean", "input_scale") if key in session}
        chosen = Preprocess.from_mapping({**content["preprocess"], **block}, place=file.name)
        pixels = chosen.apply(Image.new("RGB", (1300, 1200), (1, 2, 3)))
        if chosen.crop is not None:
            size = (chosen.crop, chosen.crop) if isinstance(chosen.crop, int) else chosen.crop
            assert pixels.shape == ((3, *size) if chosen.layout == "NCHW" else (*size, 3)), file.name
