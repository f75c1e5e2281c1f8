"""Constant data as a handle: an array in memory, a piece of a file, or only its digest."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowtide.errors import GraphError, ModelError
from lowtide.ir.dtypes import DType

Array = NDArray[Any]


class Constant:
    """Read-only tensor data that is loaded when it is asked for.

    Two constants are equal when dtype, shape and bytes are; bytes are compared by SHA-256. A constant read
    back from the text form may know its digest only, and then has no data to give.
    """

    __slots__ = ("_array", "_digest", "_file", "dtype", "shape")

    def __init__(self, dtype: DType, shape: tuple[int, ...]) -> None:
        self.dtype = dtype
        self.shape = shape
        self._array: Array | None = None
        self._file: tuple[Path, int] | None = None
        self._digest: str | None = None

    @classmethod
    def of(cls, array: Array | np.generic[Any] | float) -> Constant:
        """Wrap an array or scalar; it must not be written to afterwards.

        Raises:
            ValueError: for a dtype that no network tensor has.
        """
        data = np.asarray(array)
        dtype = DType.from_numpy(data.dtype)
        # ascontiguousarray turns a scalar into [1]; dtype.numpy brings foreign byte orders to the native one.
        data = np.ascontiguousarray(data, dtype.numpy).reshape(data.shape).view()
        data.flags.writeable = False
        constant = cls(dtype, data.shape)
        constant._array = data
        return constant

    @classmethod
    def in_file(cls, path: Path, offset: int, dtype: DType, shape: tuple[int, ...]) -> Constant:
        """Point at little-endian row-major data that starts `offset` bytes into a file.

        Raises:
            ModelError: when the file is missing or ends too early.
        """
        constant = cls(dtype, shape)
        try:
            size = path.stat().st_size
        except OSError as error:
            raise ModelError(
                f"external data cannot be read: {error.strerror}",
                place=str(path),
                hint="keep the files that the exporter wrote beside the model",
            ) from error
        if offset < 0 or offset + constant.nbytes > size:
            raise ModelError(
                f"external data needs bytes {offset} to {offset + constant.nbytes}, the file has {size}",
                place=str(path),
                hint="the file is truncated or belongs to another model",
            )
        constant._file = (path, offset)
        return constant

    @classmethod
    def by_digest(cls, dtype: DType, shape: tuple[int, ...], digest: str) -> Constant:
        """A constant whose data is elsewhere."""
        constant = cls(dtype, shape)
        constant._digest = digest
        return constant

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of the data in bytes."""
        return self.size * self.dtype.numpy.itemsize

    @property
    def has_data(self) -> bool:
        """Whether `array` can deliver."""
        return self._array is not None or self._file is not None

    def array(self) -> Array:
        """The data, not writable; a memory map when it lies in a file.

        Raises:
            GraphError: when only the digest is known.
            ModelError: when the file has gone or shrunk since.
        """
        if self._array is not None:
            return self._array
        if self._file is None:
            raise GraphError(
                f"the data of this constant is not here, only its digest {self._digest}",
                hint="the text form prints large constants by digest; compile from the model file instead",
            )
        if not self.size:
            return np.empty(self.shape, self.dtype.numpy)
        path, offset = self._file
        try:
            return np.memmap(path, self.dtype.numpy.newbyteorder("<"), "r", offset, self.shape)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"external data cannot be read any more: {error}",
                place=str(path),
                hint="keep the file while the model is in use",
            ) from error

    def digest(self) -> str:
        """SHA-256 of the bytes, in hexadecimal."""
        if self._digest is None:
            self._digest = hashlib.sha256(np.ascontiguousarray(self.array()).data).hexdigest()
        return self._digest

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Constant):
            return NotImplemented
        same_type = self.dtype == other.dtype and self.shape == other.shape
        return same_type and (self is other or self.digest() == other.digest())

    def __hash__(self) -> int:
        return hash((self.dtype, self.shape))

    def __repr__(self) -> str:
        return f"Constant({self.dtype.value}, {self.shape})"
