"""ONNX tensors to constants, without reading external data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from lowtide.errors import ModelError, UnsupportedModelError
from lowtide.ir import Constant, DType


def read_tensor(tensor: onnx.TensorProto, folder: Path) -> Constant:
    """The data of a tensor, or a handle to the file that has it.

    Raises:
        UnsupportedModelError: for element types that a graph does not carry.
        ModelError: when data is damaged, missing, or lies outside the folder of the model.
    """
    try:
        dtype = DType.from_onnx(tensor.data_type)
    except (ValueError, KeyError) as error:
        raise unsupported_type(tensor.data_type, f"tensor {tensor.name}") from error
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return _external(tensor, dtype, folder)
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"the data does not fit the shape: {error}", place=f"tensor {tensor.name}"
        ) from error
    return Constant.of(np.asarray(array))


def unsupported_type(number: int, place: str) -> UnsupportedModelError:
    """The error for an element type of ONNX, by its number."""
    names = {value: name for name, value in onnx.TensorProto.DataType.items()}
    return UnsupportedModelError(
        f"the element type {names.get(number, number)} is not supported",
        place=place,
        hint="export the model with float32 or float16 weights, or with 8-bit or 16-bit codes",
    )


def _external(tensor: onnx.TensorProto, dtype: DType, folder: Path) -> Constant:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    path = (folder / entries.get("location", "")).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ModelError(
            f"external data outside the folder of the model: {entries.get('location')}",
            place=f"tensor {tensor.name}",
        )
    offset = int(entries.get("offset", 0))
    return Constant.in_file(path, offset, dtype, tuple(tensor.dims))
