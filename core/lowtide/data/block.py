"""The preprocessing block of the vendor's model-zoo files."""

from __future__ import annotations

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
    "pil": {0: "nearest", 2: "bilinear", 3: "bicubic", 4: "area"},
}
"""What numbers mean as ``interpolation``.

Source: ``InterpolationFlags`` of OpenCV; ``Image.Resampling`` of Pillow.
"""


def arguments(mapping: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The arguments of `Preprocess` that a block stands for.

    Raises:
        OptionError: for an unknown key, or a value that is not understood.
    """
    for key in mapping:
        if key not in KEYS:
            raise OptionError(f"unknown preprocessing key {key!r}", place=place, hint=nearest(str(key), KEYS))
    block = {key: value for key, value in mapping.items() if value is not None}
    readers = {
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
    found: dict[str, Any] = {"interpolation": _interpolation(block, place)}
    for key, value in block.items():
        if key in {"backend", "interpolation"}:
            continue
        try:
            read = readers[key](value) if key in readers else value
        except (TypeError, ValueError) as error:
            raise OptionError(f"{key} is {value!r}: {error}", place=place) from error
        name = names.get(key, key)
        if found.setdefault(name, read) != read:
            raise OptionError(f"{name} is given twice, as {found[name]} and {read}", place=place)
    return found


def _interpolation(block: Mapping[str, Any], place: str) -> Any:
    backend, value = block.get("backend", "cv2"), block.get("interpolation", "bilinear")
    if backend not in INTERPOLATIONS:
        raise OptionError(f"unknown backend {backend!r}", place=place, hint="cv2 or pil")
    if not isinstance(value, int):
        return value
    numbers = INTERPOLATIONS[backend]
    if value not in numbers:
        known = ", ".join(f"{number} {name}" for number, name in numbers.items())
        raise OptionError(f"unknown interpolation {value!r}", place=place, hint=f"{backend}: {known}")
    return numbers[value]


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
    if any(isinstance(entry, bool | str) for entry in listed):
        raise TypeError("expected numbers")
    return tuple(float(entry) for entry in listed)
