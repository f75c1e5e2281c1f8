"""Sources of samples: arrays, files, folders, callables, random numbers."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from PIL import Image, UnidentifiedImageError

from lowtide.data.preprocess import Preprocess
from lowtide.data.source import InputSpec, Label, RawFrame, RawSource
from lowtide.errors import DataError
from lowtide.ir import Array
from lowtide.narrow import is_mapping

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".webp", ".tif", ".tiff"})
LABEL_NAMES = ("labels", "label", "y")
"""Arrays of these names in a file of arrays are labels, unless the network has an input of that name."""


class ArraySource(RawSource):
    """Arrays in memory or mapped from a file, with a leading frame axis."""

    def __init__(self, arrays: Mapping[str, Array], labels: Array | None, place: str) -> None:
        self.arrays = arrays
        self.labels = labels
        self.place = place
        everything = [*arrays.values(), *([] if labels is None else [labels])]
        lengths = {len(array) for array in everything}
        if len(lengths) != 1:
            raise DataError(f"the arrays have different numbers of frames: {sorted(lengths)}", place=place)
        self._count = lengths.pop()

    @property
    def count(self) -> int:
        return self._count

    def read(self, positions: Sequence[int] | None) -> Iterator[RawFrame]:
        for index in range(self._count) if positions is None else positions:
            feeds = {name: np.asarray(array[index]) for name, array in self.arrays.items()}
            yield RawFrame(f"frame {index}", feeds, None if self.labels is None else self.labels[index])

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name}:{array.dtype}:{array.shape}".encode())
            for entry in array:
                digest.update(np.ascontiguousarray(entry).tobytes())
        return digest.hexdigest()

    def describe(self) -> str:
        return self.place


class NpzSource(RawSource):
    """One ``.npz`` with a leading frame axis in every array; frames are read out of it one by one."""

    def __init__(self, path: Path, inputs: Sequence[InputSpec]) -> None:
        self.path = path
        self.headers: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        wanted = {spec.name for spec in inputs}
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    with archive.open(member) as stream:
                        self.headers[member.removesuffix(".npy")] = _header(stream, path)
        except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
            raise DataError(f"is no readable .npz file: {error}", place=str(path)) from error
        names = [name for name in LABEL_NAMES if name in self.headers and name not in wanted]
        self.label = names[0] if names and len(self.headers) > 1 else None
        lengths = {shape[0] if shape else 0 for shape, _ in self.headers.values()}
        if len(lengths) != 1:
            raise DataError(
                f"the arrays have different numbers of frames: {sorted(lengths)}", place=str(path)
            )
        self._count = lengths.pop()

    @property
    def count(self) -> int:
        return self._count

    def read(self, positions: Sequence[int] | None) -> Iterator[RawFrame]:
        streams: dict[str, _MemberReader] = {}
        with zipfile.ZipFile(self.path) as archive:
            try:
                for name, (shape, dtype) in self.headers.items():
                    streams[name] = _MemberReader(archive.open(f"{name}.npy"), shape, dtype, self.path)
                for index in range(self._count) if positions is None else positions:
                    found = {name: stream.frame(index) for name, stream in streams.items()}
                    label = found.pop(self.label) if self.label else None
                    yield RawFrame(f"frame {index}", found, label)
            finally:
                for stream in streams.values():
                    stream.close()

    def fingerprint(self) -> str:
        return _file_digest(self.path)

    def describe(self) -> str:
        return self.path.name


class _MemberReader:
    """Reads ascending frames of one array out of an archive without holding the others."""

    def __init__(self, stream: Any, shape: tuple[int, ...], dtype: np.dtype[Any], path: Path) -> None:
        self.stream = stream
        self.shape = shape[1:]
        self.dtype = dtype
        self.path = path
        self.size = int(np.prod(self.shape, dtype=np.int64)) * dtype.itemsize
        self.next = 0
        _header(stream, path)

    def frame(self, index: int) -> Array:
        while self.next < index:
            self._take()
        data = self._take()
        return np.frombuffer(data, self.dtype).reshape(self.shape)

    def _take(self) -> bytes:
        try:
            data: bytes = self.stream.read(self.size)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise DataError(f"is damaged: {error}", place=f"{self.path}, frame {self.next}") from error
        if len(data) != self.size:
            raise DataError("ends too early", place=f"{self.path}, frame {self.next}")
        self.next += 1
        return data

    def close(self) -> None:
        self.stream.close()


class FolderSource(RawSource):
    """A folder with one file a frame: images, ``.npy`` or ``.npz``."""

    def __init__(
        self, folder: Path, files: Sequence[Path], preprocess: Preprocess | None, *, grey: bool
    ) -> None:
        self.folder = folder
        self.files = tuple(files)
        self.preprocess = preprocess
        self.grey = grey
        classes = sorted({file.parent.name for file in files if file.parent != folder})
        self.classes = {name: index for index, name in enumerate(classes)}

    @property
    def count(self) -> int:
        return len(self.files)

    def read(self, positions: Sequence[int] | None) -> Iterator[RawFrame]:
        for index in range(len(self.files)) if positions is None else positions:
            file = self.files[index]
            yield RawFrame(str(file.relative_to(self.folder)), self._arrays(file), self._label(file))

    def _arrays(self, file: Path) -> Mapping[str, Array]:
        try:
            if file.suffix.lower() == ".npy":
                return {"": np.load(file, allow_pickle=False)}
            if file.suffix.lower() == ".npz":
                with np.load(file, allow_pickle=False) as arrays:
                    return dict(arrays)
            with Image.open(file) as image:
                return {"": (self.preprocess or Preprocess()).apply(image, grey=self.grey)}
        except (OSError, ValueError, EOFError, UnidentifiedImageError, zipfile.BadZipFile) as error:
            raise DataError(f"cannot be read: {error}", place=str(file)) from error

    def _label(self, file: Path) -> Label:
        if file.parent != self.folder:
            return self.classes[file.parent.name]
        leading = re.match(r"\d+", file.name)
        return int(leading.group()) if leading else None

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr((self.preprocess, self.grey)).encode())
        for file in self.files:
            digest.update(f"{file.relative_to(self.folder)}:{_file_digest(file)}".encode())
        return digest.hexdigest()

    def describe(self) -> str:
        return f"{self.folder.name}/ ({len(self.files)} files)"


class IterableSource(RawSource):
    """Frames of a callable that is called anew for every pass, or of a sequence."""

    def __init__(self, make: Callable[[], Iterable[Any]], count: int | None, place: str) -> None:
        self.make = make
        self._count = count
        self.place = place

    @property
    def count(self) -> int | None:
        return self._count

    def read(self, positions: Sequence[int] | None) -> Iterator[RawFrame]:
        wanted = None if positions is None else set(positions)
        try:
            items = iter(self.make())
            for index, item in enumerate(items):
                if wanted is None or index in wanted:
                    yield RawFrame(f"frame {index}", _named(item, f"{self.place}, frame {index}"))
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"raised {type(error).__name__}: {error}", place=self.place) from error

    def fingerprint(self) -> None:
        return None

    def describe(self) -> str:
        return self.place


class RandomSource(RawSource):
    """Normally distributed numbers; the same ones for the same seed."""

    synthetic = True

    def __init__(self, inputs: Sequence[InputSpec], count: int, seed: int) -> None:
        self.inputs = tuple(inputs)
        self._count = count
        self.seed = seed

    @property
    def count(self) -> int:
        return self._count

    def read(self, positions: Sequence[int] | None) -> Iterator[RawFrame]:
        for index in range(self._count) if positions is None else positions:
            generator = np.random.default_rng([self.seed, index])
            yield RawFrame(f"frame {index}", {spec.name: _draw(generator, spec) for spec in self.inputs})

    def fingerprint(self) -> str:
        return hashlib.sha256(repr((self.inputs, self._count, self.seed)).encode()).hexdigest()

    def describe(self) -> str:
        return f"random:{self._count}"


def _draw(generator: np.random.Generator, spec: InputSpec) -> Array:
    if np.dtype(spec.dtype).kind == "f":
        return generator.standard_normal(spec.shape).astype(spec.dtype)
    return generator.integers(0, 2, spec.shape).astype(spec.dtype)


def _named(item: Any, place: str) -> Mapping[str, Array]:
    if is_mapping(item):
        return {str(name): np.asarray(array) for name, array in item.items()}
    array = np.asarray(item)
    if array.dtype == object:
        raise DataError(f"expected an array or a mapping of arrays, found {type(item).__name__}", place=place)
    return {"": array}


def _header(stream: Any, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if fortran and len(shape) > 1:
        raise DataError("holds an array in column order", place=str(path), hint="save it in row order")
    if dtype.kind not in "fiub":
        raise DataError(f"holds {dtype}, expected numbers", place=str(path))
    return shape, dtype


def _file_digest(path: Path) -> str:
    file: BinaryIO
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
