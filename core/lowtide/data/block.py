"""The preprocessing block of the vendor's model-zoo files."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from typing import Any

from lowtide.errors import OptionError, nearest
from lowtide.narrow import is_sequence

KEYS = (
    "resize",
    "crop",
    "data_layout",
    "reverse_channels",
    "backend",
    "interpolation",
    "resize_with_pad",
    "pad_color",
    "mean",
    "scale",
    "input_mean",
    "input_scale",
)
INTERPOLATIONS = {
    "cv2": {0: "nearest", 1: "bilinear", 2: "bicubic", 3: "area"},
    "pil": {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "area"},
}
"""What numbers mean as ``interpolation``.

Source: ``InterpolationFlags`` of OpenCV; ``Image.Resampling`` of Pillow.
"""
NAMES = {"linear": "bilinear", "cubic": "bicubic", "box": "area"}
"""Names of OpenCV and Pillow, in lower case and without ``INTER_``, for what is called otherwise here."""


def arguments(mapping: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The arguments of `Preprocess` that a block stands for.

    Raises:
        OptionError: for an unknown key, or a value that is not understood.
    """
    for key in mapping:
        if key not in KEYS:
            shown = reprlib.repr(key)
            raise OptionError(f"unknown preprocessing key {shown}", place=place, hint=nearest(str(key), KEYS))
    block = {key: value for key, value in mapping.items() if value is not None}
    readers = {
        "data_layout": _text,
        "resize": _size,
        "crop": _size,
        "resize_with_pad": _pad,
        "pad_color": _color,
        "reverse_channels": _flag,
        "mean": _numbers,
        "scale": _numbers,
        "input_mean": _numbers,
        "input_scale": _numbers,
    }
    names = {"data_layout": "layout", "input_mean": "mean", "input_scale": "scale"}
    found: dict[str, Any] = {
        "interpolation": _interpolation(block, place),
        "backend": block.get("backend"),
    }
    for key, value in block.items():
        if key in {"backend", "interpolation"}:
            continue
        try:
            read = readers[key](value)
        except (TypeError, ValueError, OverflowError) as error:
            raise OptionError(f"{key} is {reprlib.repr(value)}: {error}", place=place) from error
        name = names.get(key, key)
        if found.setdefault(name, read) != read:
            raise OptionError(f"{name} is given twice, as {found[name]} and {read}", place=place)
    return found


def _interpolation(block: Mapping[str, Any], place: str) -> Any:
    backend, value = block.get("backend", "cv2"), block.get("interpolation", "bilinear")
    if not isinstance(backend, str) or backend not in INTERPOLATIONS:
        raise OptionError(f"unknown backend {reprlib.repr(backend)}", place=place, hint="cv2 or pil")
    if isinstance(value, str):
        name = value.rpartition(".")[2].lower().removeprefix("inter_")
        return NAMES.get(name, name)
    numbers = INTERPOLATIONS[backend]
    if isinstance(value, bool) or not isinstance(value, int) or value not in numbers:
        known = ", ".join(f"{number} {name}" for number, name in numbers.items())
        shown = reprlib.repr(value)
        raise OptionError(f"unknown interpolation {shown}", place=place, hint=f"{backend}: {known}")
    return numbers[value]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("expected text")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("expected a whole number")
    return value


def _size(value: Any) -> int | tuple[int, int]:
    if not is_sequence(value):
        return _whole(value)
    if len(value) != 2:
        raise ValueError("expected a number, or height and width")
    return _whole(value[0]), _whole(value[1])


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("expected true or false")
    return value


def _pad(value: Any) -> str | None:
    """``true``, ``corner``, ``[true, corner]``: the vendor's files have the first and the last form."""
    listed = list(value) if is_sequence(value) else [value]
    if len(listed) == 1 and isinstance(listed[0], str):
        return listed[0]
    if not 1 <= len(listed) <= 2 or not isinstance(listed[0], bool):
        raise ValueError("expected true, false, corner, center, or a pair like [true, corner]")
    place = listed[1] if len(listed) > 1 else "corner"
    return str(place) if listed[0] else None


def _color(value: Any) -> tuple[int, ...]:
    return tuple(_whole(entry) for entry in value) if is_sequence(value) else (_whole(value),) * 3


def _numbers(value: Any) -> tuple[float, ...]:
    listed = value if is_sequence(value) else [value]
    if any(isinstance(entry, bool) or not isinstance(entry, int | float) for entry in listed):
        raise TypeError("expected numbers")
    found = tuple(float(entry) for entry in listed)
    if not all(math.isfinite(entry) for entry in found):
        raise ValueError("expected finite numbers")
    return found
