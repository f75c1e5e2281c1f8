"""A folder with one file a frame: images, ``.npy`` or ``.npz``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
import numpy as np
from PIL import Image

from lowtide.data.archive import DAMAGED
from lowtide.data.preprocess import Preprocess
from lowtide.data.raw import file_digest
from lowtide.data.source import (
    Array,
    InputSpec,
    RawFrame,
    RawSource,
    frame_of_file,
    label_name,
)
from lowtide.diagnostics import Diagnostics
from lowtide.errors import DataError, counted

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".webp", ".tif", ".tiff"})
NAMED_CLASSES = 10
"""How many a message names."""
KINDS = {"images": IMAGE_SUFFIXES, ".npy": frozenset({".npy"}), ".npz": frozenset({".npz"})}


class FolderSource(RawSource):
    """The files of a folder in the order of their names.

    The label is the class of the folder that a file is in, where there are several: their number if all of
    them are numbers, else their place in the order of names. Otherwise it is the number that the file name
    begins with, unless the numbers only count the files. An ``.npz`` may bring its own.
    """

    def __init__(
        self,
        folder: Path,
        files: Sequence[Path],
        inputs: Sequence[InputSpec],
        preprocess: Preprocess | None,
        *,
        grey: bool,
    ) -> None:
        self.folder = folder
        self.files = tuple(files)
        self.inputs = tuple(inputs)
        self.preprocess = preprocess
        self.grey = grey
        self.classes = _classes({file.parent.name for file in files if file.parent != folder})
        self.counted = _only_count(self.files)

    @property
    def count(self) -> int:
        return len(self.files)

    def names(self) -> Sequence[str]:
        return [file.relative_to(self.folder).as_posix() for file in self.files]

    def read(self, positions: Sequence[int] | None) -> Iterator[RawFrame]:
        names = self.names()
        for index in range(len(self.files)) if positions is None else positions:
            found = self._read(names[index], self.files[index])
            label, origin = self._label(self.files[index])
            yield found if found.label is not None else attrs.evolve(found, label=label, label_from=origin)

    def _read(self, name: str, file: Path) -> RawFrame:
        if file.suffix.lower() in IMAGE_SUFFIXES:
            return RawFrame(name, {"": self._pixels(file)})
        try:
            with file.open("rb") as stream:  # numpy leaves a file open that it finds damaged
                loaded: Any = np.load(stream, allow_pickle=False)
                if isinstance(loaded, np.ndarray):
                    return RawFrame(name, {"": cast(Array, loaded)})
                arrays: dict[str, Array] = dict(loaded)
        except DAMAGED as error:
            raise DataError(f"cannot be read: {error}", place=str(file)) from error
        return frame_of_file(name, arrays, label_name(arrays, self.inputs), self.inputs, str(file))

    def _pixels(self, file: Path) -> Array:
        try:
            with Image.open(file) as image:
                return (self.preprocess or Preprocess()).apply(image, grey=self.grey)
        except DataError as error:
            raise DataError(error.message, place=str(file), hint=error.hint) from error
        except Exception as error:  # each image format of Pillow has errors of its own
            raise DataError(f"cannot be read: {error}", place=str(file)) from error

    def _label(self, file: Path) -> tuple[int | None, str]:
        """The label that names tell, and where it stands."""
        if len(self.classes) > 1 and file.parent != self.folder:
            numbered = _are_numbers(self.classes)
            origin = f"the places of folders in the order of their names: {_listed(self.classes)}"
            return self.classes[file.parent.name], "the numbers of folders" if numbered else origin
        number = None if self.counted else _leading_number(file)
        return number, "" if number is None else "the numbers that file names begin with"

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr((self.preprocess, self.grey)).encode())
        for name, file in zip(self.names(), self.files, strict=True):
            digest.update(f"{name}:{file_digest(file)}".encode())
        return digest.hexdigest()

    def describe(self) -> str:
        return f"{self.folder.name}/ ({counted(len(self.files), 'file')})"


def open_folder(
    folder: Path, inputs: Sequence[InputSpec], preprocess: Preprocess | None, notes: Diagnostics
) -> FolderSource:
    """The frames of a folder and its folders; hidden files are no data.

    Raises:
        DataError: when there is no data in it, or of several kinds.
    """
    everything = sorted(path for path in folder.rglob("*") if _is_entry(path) and not _hidden(path, folder))
    found = {
        kind: [path for path in everything if path.is_file() and path.suffix.lower() in suffixes]
        for kind, suffixes in KINDS.items()
    }
    present = [kind for kind, files in found.items() if files]
    if not present:
        raise DataError(
            "there are no frames: the folder has no images, .npy or .npz files",
            place=str(folder),
            hint=_ignored(everything, folder) if everything else "",
        )
    if len(present) > 1:
        raise DataError(f"the folder mixes {' and '.join(present)}", place=str(folder), hint="keep one kind")
    files = found[present[0]]
    taken = set(files)
    others = [path for path in everything if path not in taken]
    if others:
        notes.info("LT754", str(folder), _ignored(others, folder))
    if present[0] != "images":
        return FolderSource(folder, files, inputs, None, grey=False)
    chosen, grey = _image_preprocess(inputs, preprocess, notes, str(folder))
    return FolderSource(folder, files, inputs, chosen, grey=grey)


def _image_preprocess(
    inputs: Sequence[InputSpec], preprocess: Preprocess | None, notes: Diagnostics, place: str
) -> tuple[Preprocess, bool]:
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        shapes = [list(spec.shape) for spec in inputs]
        raise DataError(f"images fit one input of 4 dimensions, the network has {shapes}", place=place)
    _, first, second, last = inputs[0].shape
    channels_first = first in {1, 3} or last not in {1, 3}
    size = (second, last) if channels_first else (first, second)
    grey = (first if channels_first else last) == 1
    base = preprocess
    if base is None:
        notes.warning(
            "LT753",
            place,
            "no preprocessing is given: RGB pixels 0..255, resized to the input",
            "describe it in the options file: preprocess, input_mean, input_scale",
        )
        base = Preprocess()
    if base.backend == "cv2" and base.resize is not None:
        notes.info(
            "LT757", place, "the preprocessing is made for OpenCV; Pillow resizes, so pixels differ slightly"
        )
    resize = size if base.resize is None and base.crop is None else base.resize
    return attrs.evolve(base, resize=resize, layout="NCHW" if channels_first else "NHWC"), grey


def _classes(names: set[str]) -> dict[str, int]:
    if _are_numbers(names):
        return {name: int(name) for name in names}
    return {name: index for index, name in enumerate(sorted(names))}


def _are_numbers(names: Iterable[str]) -> bool:
    return all(re.fullmatch(r"[0-9]+", name) for name in names)


def _leading_number(file: Path) -> int | None:
    leading = re.match(r"[0-9]+", file.name)
    return int(leading.group()) if leading else None


def _only_count(files: Sequence[Path]) -> bool:
    """Whether the numbers that names begin with go up from 0 or 1, each once: then they tell no class."""
    numbers = sorted(number for file in files if (number := _leading_number(file)) is not None)
    first = numbers[0] if numbers else 0
    return len(files) > 1 and first in {0, 1} and numbers == list(range(first, first + len(files)))


def _listed(classes: Mapping[str, int]) -> str:
    shown = [f"{name} {number}" for name, number in classes.items()]
    return ", ".join(shown[:NAMED_CLASSES]) + (", …" if len(shown) > NAMED_CLASSES else "")


def _is_entry(path: Path) -> bool:
    """Whether something is a file, or a link, which is not followed to folders and may lead to nothing."""
    return path.is_file() or path.is_symlink()


def _ignored(others: Sequence[Path], folder: Path) -> str:
    first, kinds = others[0], sorted({path.suffix.lower() or "none" for path in others})
    link = "" if first.is_file() else ", a link to a folder" if first.is_dir() else ", a link to nothing"
    count = counted(len(others), "other file is", "other files are")
    return f"{count} ignored ({', '.join(kinds)}), the first is {first.relative_to(folder).as_posix()}{link}"


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
