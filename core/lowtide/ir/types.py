"""The type of a value: element type, shape and, where the value is quantized, how."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable

import attrs
import numpy as np

from lowtide.ir.dtypes import DType

QUANTIZED_DTYPES = frozenset({DType.INT8, DType.UINT8, DType.INT16, DType.UINT16, DType.INT32})

Shape = tuple[int | None, ...] | None
"""Dimensions, ``None`` for one that only a run tells; a shape of ``None`` has an unknown rank."""


def _as_float32(scale: float | Iterable[float]) -> tuple[float, ...]:
    # Every file format stores scales as float32, so no scale has more digits than that.
    given = np.atleast_1d(np.asarray(scale, dtype=np.float64)).ravel()
    with np.errstate(over="ignore", under="ignore"):  # infinity and 0 are refused by the caller
        return tuple(float(entry) for entry in given.astype(np.float32))


def _as_ints(zero_point: int | Iterable[int]) -> tuple[int, ...]:
    given = np.atleast_1d(np.asarray(zero_point)).ravel()
    codes = tuple(int(entry) for entry in given)
    if any(code != entry for code, entry in zip(codes, given, strict=True)):
        raise ValueError(f"a zero point is an integer, found {given.tolist()}")
    return codes


@attrs.frozen
class QuantParams:
    """real = scale * (code - zero_point), one pair per tensor or one per index along `axis`.

    Attributes:
        dtype: the integer type of the codes.
        scale: the step, positive and finite, rounded to float32.
        zero_point: the code of 0.0, within the range of `dtype`; as many as scales.
        axis: the axis of per-channel parameters, ``None`` per tensor; never negative.

    Raises:
        ValueError: on construction, when one of the above does not hold.
    """

    dtype: DType = attrs.field(converter=DType)
    scale: tuple[float, ...] = attrs.field(converter=_as_float32)
    zero_point: tuple[int, ...] = attrs.field(converter=_as_ints, default=(0,))
    axis: int | None = None

    def __attrs_post_init__(self) -> None:
        if self.dtype not in QUANTIZED_DTYPES:
            raise ValueError(f"no tensor is quantized to {self.dtype}")
        bad = [scale for scale in self.scale if not (math.isfinite(scale) and scale > 0)]
        if bad or not self.scale:
            found = bad[0] if bad else "none"
            raise ValueError(f"a scale must be positive and finite, found {found}")
        if len(self.zero_point) == 1 < len(self.scale):
            object.__setattr__(self, "zero_point", self.zero_point * len(self.scale))
        if len(self.zero_point) != len(self.scale):
            raise ValueError(f"{len(self.scale)} scales but {len(self.zero_point)} zero points")
        if not self.dtype.min <= min(self.zero_point) <= max(self.zero_point) <= self.dtype.max:
            raise ValueError(f"a zero point lies outside {self.dtype}: {self.zero_point}")
        if self.axis is None and len(self.scale) != 1:
            raise ValueError(f"per-tensor parameters have one scale, found {len(self.scale)}")
        if self.axis is not None and self.axis < 0:
            raise ValueError(f"an axis counts from 0, found {self.axis}")

    @property
    def bits(self) -> int:
        """Width of one code."""
        return self.dtype.bits

    @property
    def is_symmetric(self) -> bool:
        """Whether every zero point is 0."""
        return not any(self.zero_point)

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and highest real number of any code, over all channels."""
        low, high = self.dtype.min, self.dtype.max
        lows = [s * (low - z) for s, z in zip(self.scale, self.zero_point, strict=True)]
        highs = [s * (high - z) for s, z in zip(self.scale, self.zero_point, strict=True)]
        return min(lows), max(highs)


def _as_shape(shape: Iterable[int | None] | None) -> Shape:
    if shape is None:
        return None
    dims = tuple(None if dim is None else operator.index(dim) for dim in shape)
    if any(dim is not None and dim < 0 for dim in dims):
        raise ValueError(f"a dimension cannot be negative, found {list(dims)}")
    return dims


@attrs.frozen
class TensorType:
    """What a value is.

    Attributes:
        dtype: the element type of the mathematical value; of a quantized value the float type it stands for.
        shape: see `Shape`.
        quant: how the value is stored as integers, ``None`` for a value that is not quantized.

    Raises:
        ValueError: on construction, for a negative dimension or an unknown element type.
    """

    dtype: DType = attrs.field(converter=DType)
    shape: Shape = attrs.field(converter=_as_shape)
    quant: QuantParams | None = None

    @property
    def storage(self) -> DType:
        """The element type in memory."""
        return self.quant.dtype if self.quant else self.dtype

    @property
    def rank(self) -> int | None:
        """The number of dimensions, ``None`` if unknown."""
        return None if self.shape is None else len(self.shape)

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape when every dimension is known.

        Raises:
            ValueError: when one is not.
        """
        if self.shape is None:
            raise ValueError("the shape is unknown")
        known = tuple(dim for dim in self.shape if dim is not None)
        if len(known) != len(self.shape):
            raise ValueError(f"the shape {self.shape} is not static")
        return known

    @property
    def is_static(self) -> bool:
        """Whether every dimension is known."""
        return self.shape is not None and None not in self.shape

    def with_quant(self, quant: QuantParams | None) -> TensorType:
        """The same type, stored in another way."""
        return attrs.evolve(self, quant=quant)
