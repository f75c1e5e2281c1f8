"""Type tests for values of any type, as files and plugins hand them in.

After a plain ``isinstance`` against a generic class, type checkers do not know the types of the elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether a value maps keys to values."""
    return isinstance(value, Mapping)


def is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether a value is a sequence; text is none here."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def is_iterable(value: object) -> TypeGuard[Iterable[Any]]:
    """Whether a value can be iterated over; text cannot here."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is one real number of Python or numpy, NaN and infinity included."""
    if isinstance(value, np.ndarray | np.generic):
        array: NDArray[Any] = np.asarray(cast("Any", value))
        return array.ndim == 0 and array.dtype.kind in "fiu"
    return isinstance(value, int | float)
