"""Constants load late, compare by bytes, and say what is wrong with their file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lowtide.errors import GraphError, ModelError
from lowtide.ir import Constant, DType


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"head" + np.arange(6, dtype="<f4").tobytes())
    return path


def test_data_in_a_file_is_read_when_it_is_asked_for(file: Path) -> None:
    constant = Constant.in_file(file, 4, DType.FLOAT32, (2, 3))
    assert (constant.size, constant.nbytes, constant.has_data) == (6, 24, True)
    file.write_bytes(b"head" + np.full(6, 7, "<f4").tobytes())
    assert constant.array().tolist() == [[7.0] * 3] * 2
    assert not constant.array().flags.writeable


@pytest.mark.parametrize(
    ("offset", "message"), [(8, "needs bytes 8 to 32, the file has 28"), (-1, "bytes -1")]
)
def test_a_truncated_file_is_refused_at_once(file: Path, offset: int, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        Constant.in_file(file, offset, DType.FLOAT32, (2, 3))
    assert caught.value.place == str(file)
    assert "truncated" in caught.value.hint


def test_a_missing_file_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        Constant.in_file(tmp_path / "none", 0, DType.INT8, (1,))


@pytest.mark.parametrize("vanish", [Path.unlink, lambda path: path.write_bytes(b"short")])
def test_a_file_that_vanishes_later_is_an_error_of_the_model(file: Path, vanish: object) -> None:
    constant = Constant.in_file(file, 4, DType.FLOAT32, (2, 3))
    vanish(file)  # type: ignore[operator]
    with pytest.raises(ModelError, match="cannot be read any more"):
        constant.array()


def test_empty_data_in_a_file_needs_no_file_to_map(file: Path) -> None:
    constant = Constant.in_file(file, 28, DType.FLOAT32, (0, 3))
    assert constant.array().shape == (0, 3)
    assert constant == Constant.of(np.empty((0, 3), np.float32))


def test_constants_are_equal_by_dtype_shape_and_bytes_wherever_they_lie(file: Path) -> None:
    here = Constant.of(np.arange(6, dtype=np.float32).reshape(2, 3))
    there = Constant.in_file(file, 4, DType.FLOAT32, (2, 3))
    known = Constant.by_digest(DType.FLOAT32, (2, 3), here.digest())
    assert here == there == known
    assert len({here, there, known}) == 1
    assert here != Constant.of(np.arange(6, dtype=np.float32))
    assert here != Constant.of(np.arange(6, dtype=np.int32).reshape(2, 3))
    assert Constant.of(np.float32(0.0)) != Constant.of(np.float32(-0.0))
    assert here != "constant"


def test_a_digest_has_no_data() -> None:
    known = Constant.by_digest(DType.INT8, (2,), "ab")
    assert not known.has_data
    with pytest.raises(GraphError, match="only its digest ab"):
        known.array()


def test_arrays_of_any_layout_and_byte_order_are_the_same_constant() -> None:
    plain = np.arange(6, dtype=np.int32).reshape(2, 3)
    transposed = np.asfortranarray(plain)
    swapped = plain.astype(">i4")
    assert Constant.of(plain) == Constant.of(transposed) == Constant.of(swapped)
    assert Constant.of(swapped).array().tolist() == plain.tolist()


def test_a_scalar_keeps_its_rank() -> None:
    assert Constant.of(np.float32(3)).shape == ()
    assert Constant.of(np.float32(3)).array().shape == ()
    assert repr(Constant.of(2.5)) == "Constant(float64, ())"


def test_what_no_tensor_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="str"):
        Constant.of(np.array(["text"]))


def test_a_constant_cannot_be_written_to() -> None:
    constant = Constant.of(np.zeros(3))
    with pytest.raises(ValueError, match="read-only"):
        constant.array()[0] = 1
