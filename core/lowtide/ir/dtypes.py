"""Element types, named as numpy and ONNX name them."""

from __future__ import annotations

import enum
import functools
from typing import Any

import numpy as np
import onnx


@functools.cache
def _codes(name: str) -> tuple[int, int]:
    """The lowest and the highest code; numpy takes long to say, and it is asked for every channel."""
    found = np.iinfo(name)
    return int(found.min), int(found.max)


class DType(enum.StrEnum):
    """The type of one element of a tensor."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    INT8 = "int8"
    UINT8 = "uint8"
    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy dtype that stores one element."""
        return np.dtype(self.value)

    @property
    def onnx(self) -> int:
        """The number of ``onnx.TensorProto.DataType``."""
        return int(onnx.helper.np_dtype_to_tensor_dtype(self.numpy))

    @property
    def is_float(self) -> bool:
        """Whether elements are floating-point numbers."""
        return self.value.startswith("float")

    @property
    def is_integer(self) -> bool:
        """Whether elements are integers; bool is none."""
        return "int" in self.value

    @property
    def bits(self) -> int:
        """Storage width of one element in bits."""
        return self.numpy.itemsize * 8

    @property
    def signed(self) -> bool:
        """Whether negative codes exist."""
        return not self.value.startswith(("uint", "bool"))

    @property
    def min(self) -> int:
        """The lowest code of an integer type."""
        return _codes(self.value)[0]

    @property
    def max(self) -> int:
        """The highest code of an integer type."""
        return _codes(self.value)[1]

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> DType:
        """The element type of a numpy dtype, of either byte order.

        Raises:
            ValueError: for a dtype that no network tensor has (strings, complex numbers).
        """
        return cls(dtype.name)

    @classmethod
    def from_onnx(cls, number: int) -> DType:
        """The element type of a number of ``onnx.TensorProto.DataType``.

        Raises:
            ValueError: for an ONNX type that Lowtide does not carry (strings, bfloat16, float8, int4).
        """
        name = onnx.TensorProto.DataType.Name(number)
        return cls({"FLOAT": "float32", "DOUBLE": "float64"}.get(name, name.lower()))
