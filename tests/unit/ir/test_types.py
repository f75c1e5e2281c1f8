"""Types and quantization parameters are valid or do not exist."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from lowtide.ir import DType, QuantParams, TensorType


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("float32", 1.0), "no tensor is quantized to float32"),
        (("int64", 1.0), "no tensor is quantized to int64"),
        (("int7", 1.0), "int7"),
        (("int8", 0.0), "positive and finite, found 0.0"),
        (("int8", -1.0), "positive and finite, found -1.0"),
        (("int8", float("nan")), "positive and finite, found nan"),
        (("int8", [1.0, float("inf")], 0, 0), "positive and finite, found inf"),
        (("int8", 1e39), "positive and finite, found inf"),
        (("int8", 1e-50), "positive and finite, found 0.0"),
        (("int8", [], [], 0), "positive and finite, found none"),
        (("int8", [1.0, 2.0], [0, 0, 0], 0), "2 scales but 3 zero points"),
        (("int8", 1.0, [0, 0]), "1 scales but 2 zero points"),
        (("int8", 1.0, 128), "outside int8"),
        (("uint8", 1.0, -1), "outside uint8"),
        (("uint16", 1.0, 65536), "outside uint16"),
        (("int8", 1.0, 0.5), "a zero point is an integer"),
        (("int8", [1.0, 2.0]), "per-tensor parameters have one scale"),
        (("int8", [1.0, 2.0], 0, -1), "an axis counts from 0"),
    ],
)
def test_impossible_parameters_are_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuantParams(*arguments)  # type: ignore[arg-type]


def test_scales_are_rounded_to_float32_so_that_files_keep_them() -> None:
    assert QuantParams("int8", 0.1).scale == (float(np.float32(0.1)),)
    assert QuantParams("int8", 0.1) == QuantParams(DType.INT8, float(np.float32(0.1)))


def test_one_zero_point_serves_all_channels() -> None:
    quant = QuantParams("uint8", [1.0, 2.0], 3, axis=1)
    assert quant.zero_point == (3, 3)
    assert not quant.is_symmetric
    assert QuantParams("uint8", [1.0, 2.0], axis=1).is_symmetric


def test_the_range_is_that_of_the_extreme_codes_over_all_channels() -> None:
    assert QuantParams("int8", 0.5, -28).range == (-50.0, 77.5)
    assert QuantParams("uint8", [1.0, 2.0], [0, 255], axis=0).range == (-510.0, 255.0)
    assert QuantParams("uint16", 1.0).bits == 16


@pytest.mark.parametrize("shape", [[-1], [2, -3]])
def test_a_negative_dimension_is_refused(shape: list[int]) -> None:
    with pytest.raises(ValueError, match="a dimension cannot be negative"):
        TensorType("float32", shape)


def test_a_fractional_dimension_is_refused() -> None:
    with pytest.raises(TypeError):
        TensorType("float32", [1.5])  # type: ignore[list-item]


def test_dimensions_of_numpy_become_plain_integers() -> None:
    made = TensorType("float32", np.array([1, 2]))
    assert made.shape == (1, 2)
    assert all(type(dim) is int for dim in made.static_shape)


def test_a_shape_is_static_when_every_dimension_is_known() -> None:
    assert TensorType("float32", [1, 2]).static_shape == (1, 2)
    assert TensorType("float32", []).is_static
    for shape, message in ((None, "unknown"), ([1, None], "not static")):
        made = TensorType("float32", shape)
        assert not made.is_static
        with pytest.raises(ValueError, match=message):
            made.static_shape  # noqa: B018 - the property raises
    assert (TensorType("float32", None).rank, TensorType("float32", [None]).rank) == (None, 1)


def test_storage_is_the_type_of_the_codes() -> None:
    plain = TensorType("float32", [2])
    stored = plain.with_quant(QuantParams("int16", 1.0))
    assert (plain.storage, stored.storage, stored.dtype) == (DType.FLOAT32, DType.INT16, DType.FLOAT32)
    assert stored.with_quant(None) == plain


@pytest.mark.parametrize(
    "name", ["BFLOAT16", "STRING", "INT4", "UINT4", "FLOAT8E4M3FN", "COMPLEX64", "UNDEFINED"]
)
def test_element_types_that_are_not_carried_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"not a valid DType"):
        DType.from_onnx(onnx.TensorProto.DataType.Value(name))


@pytest.mark.parametrize("number", [99, -1])
def test_numbers_that_onnx_does_not_have_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match=str(number)):
        DType.from_onnx(number)


def test_kinds_and_limits_of_element_types() -> None:
    assert [kind for kind in DType if kind.is_float] == ["float16", "float32", "float64"]
    assert not DType.BOOL.is_integer
    assert not DType.BOOL.signed
    assert (DType.INT16.min, DType.UINT16.max, DType.UINT16.signed) == (-32768, 65535, False)
    with pytest.raises(ValueError, match="complex64"):
        DType.from_numpy(np.dtype(np.complex64))
