"""Frames out of an ``.npz`` archive, one by one."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from lowtide.data.raw import file_digest
from lowtide.data.source import (
    Array,
    InputSpec,
    RawFrame,
    RawSource,
    common_length,
    frame_of_file,
    label_name,
)
from lowtide.errors import DataError

DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    ValueError,
    EOFError,
    KeyError,
    NotImplementedError,  # a compression method that Python does not have
    RuntimeError,  # an encrypted member
)
"""What reading a damaged or unusual archive raises."""

Header = tuple[tuple[int, ...], np.dtype[Any]]


class NpzSource(RawSource):
    """One ``.npz`` with a leading frame axis in every array.

    Members are decompressed as streams, so that one frame of every array is in memory at a time.
    """

    def __init__(self, path: Path, inputs: Sequence[InputSpec]) -> None:
        self.path = path
        self.inputs = tuple(inputs)
        self.members: dict[str, str] = {}
        headers: dict[str, Header] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    name = member.removesuffix(".npy")
                    self.members[name] = member
                    with archive.open(member) as stream:
                        headers[name] = _header(stream, f"{path}, array {name}")
        except DAMAGED as error:
            raise DataError(f"is no readable .npz file: {error}", place=str(path)) from error
        self.headers = headers
        self.label = label_name(headers, inputs)
        self._count = common_length({name: shape for name, (shape, _) in headers.items()}, str(path))

    @property
    def count(self) -> int:
        return self._count

    def read(self, positions: Sequence[int] | None) -> Iterator[RawFrame]:
        with ExitStack() as stack:
            try:
                archive = stack.enter_context(zipfile.ZipFile(self.path))
                readers = {
                    name: _MemberReader(
                        stack.enter_context(archive.open(self.members[name])), header, self.path
                    )
                    for name, header in self.headers.items()
                }
            except DAMAGED as error:
                raise DataError(f"is no readable .npz file: {error}", place=str(self.path)) from error
            for index in range(self._count) if positions is None else positions:
                found = {name: reader.frame(index) for name, reader in readers.items()}
                yield frame_of_file(f"frame {index}", found, self.label, self.inputs, str(self.path))

    def fingerprint(self) -> str:
        return file_digest(self.path)

    def describe(self) -> str:
        return self.path.name


class _MemberReader:
    """Reads ascending frames of one array out of an archive without holding the others."""

    def __init__(self, stream: Any, header: Header, path: Path) -> None:
        shape, self.dtype = header
        self.stream = stream
        self.shape = shape[1:]
        self.path = path
        self.size = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        self.next = 0
        _header(stream, str(path))

    def frame(self, index: int) -> Array:
        while self.next < index:
            self._take()
        return np.frombuffer(self._take(), self.dtype).reshape(self.shape)

    def _take(self) -> bytes:
        place = f"{self.path}, frame {self.next}"
        try:
            data: bytes = self.stream.read(self.size)
        except DAMAGED as error:
            raise DataError(f"is damaged: {error}", place=place) from error
        if len(data) != self.size:
            raise DataError("ends too early", place=place)
        self.next += 1
        return data


def _header(stream: Any, place: str) -> Header:
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if fortran and len(shape) > 1:
        raise DataError("holds an array in column order", place=place, hint="save it in row order")
    if dtype.kind not in "fiub":
        raise DataError(f"holds {dtype}, expected numbers", place=place)
    return shape, dtype
