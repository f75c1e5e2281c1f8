"""Images to arrays, as the vendor's model-zoo files describe it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs
import numpy as np
from PIL import Image

from lowtide.errors import DataError, OptionError, nearest
from lowtide.ir import Array
from lowtide.narrow import is_sequence

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
}
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
Size = tuple[int, int]


def _known_filter(_: object, __: object, value: str) -> None:
    if value not in FILTERS:
        raise OptionError(
            f"unknown interpolation {value!r}", place="preprocess", hint=nearest(value, FILTERS)
        )


@attrs.frozen(kw_only=True)
class Preprocess:
    """Resize, crop, channel order, layout, (x - mean) * scale; in this order.

    Attributes:
        resize: height and width, or a number for the shorter side; ``None`` for the network's own size.
        crop: height and width of the centre that is kept, or a number for both.
        resize_with_pad: keep the aspect ratio and pad to `resize`; the picture stands in the ``corner`` or
            ``center``.
        pad_color: the colour of the padding, 0 to 255.
        layout: ``NCHW`` or ``NHWC``; ``None`` for what fits the input.
        reverse_channels: BGR instead of RGB.
        mean: per channel; empty for none.
        scale: per channel; empty for none.
    """

    resize: int | Size | None = None
    crop: int | Size | None = None
    resize_with_pad: Literal["corner", "center"] | None = None
    pad_color: tuple[int, ...] = (0, 0, 0)
    layout: Literal["NCHW", "NHWC"] | None = None
    reverse_channels: bool = False
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    interpolation: str = attrs.field(default="bilinear", validator=_known_filter)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, place: str = "preprocess") -> Preprocess:
        """Read the preprocessing block of a model-zoo file; ``backend`` is accepted and ignored.

        Raises:
            OptionError: for an unknown key or a value of a wrong type.
        """
        for key in mapping:
            if key not in KEYS:
                raise OptionError(
                    f"unknown preprocessing key {key!r}", place=place, hint=nearest(str(key), KEYS)
                )
        try:
            return _from_block(mapping)
        except (TypeError, ValueError) as error:
            raise OptionError(f"preprocessing has a value of a wrong type: {error}", place=place) from error

    def apply(self, image: Image.Image, *, grey: bool = False) -> Array:
        """An image as float32, [H, W, C] or [C, H, W].

        Args:
            image: any mode.
            grey: one channel instead of three.
        """
        picture = image.convert("L" if grey else "RGB")
        if self.resize is not None:
            picture = self._resized(picture, grey=grey)
        if self.crop is not None:
            picture = _centre(picture, _size(self.crop))
        pixels = np.asarray(picture, np.float32)
        pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
        if self.reverse_channels:
            pixels = pixels[:, :, ::-1]
        if self.mean:
            pixels = pixels - _channels(self.mean, pixels.shape[2], "mean")
        if self.scale:
            pixels = pixels * _channels(self.scale, pixels.shape[2], "scale")
        return np.ascontiguousarray(pixels.transpose(2, 0, 1) if self.layout == "NCHW" else pixels)

    def _resized(self, picture: Image.Image, *, grey: bool) -> Image.Image:
        how = FILTERS[self.interpolation]
        width, height = picture.size
        if self.resize_with_pad is not None and self.resize is not None:
            return self._padded(picture, _size(self.resize), grey=grey)
        if isinstance(self.resize, int):
            factor = self.resize / min(width, height)
            size = (max(self.resize, round(width * factor)), max(self.resize, round(height * factor)))
            return picture.resize(size, how)
        high, wide = _size(self.resize or (height, width))
        return picture.resize((wide, high), how)

    def _padded(self, picture: Image.Image, size: Size, *, grey: bool) -> Image.Image:
        high, wide = size
        width, height = picture.size
        factor = min(wide / width, high / height)
        inner = (max(1, int(width * factor)), max(1, int(height * factor)))
        color = self.pad_color[0] if grey else self.pad_color
        canvas = Image.new(picture.mode, (wide, high), color)
        offset = (0, 0)
        if self.resize_with_pad == "center":
            offset = ((wide - inner[0]) // 2, (high - inner[1]) // 2)
        canvas.paste(picture.resize(inner, FILTERS[self.interpolation]), offset)
        return canvas


def _from_block(mapping: Mapping[str, Any]) -> Preprocess:
    pad = mapping.get("resize_with_pad")
    listed = list(pad) if is_sequence(pad) else [pad]
    flag, place = listed[0], listed[1] if len(listed) > 1 else "corner"
    color = mapping.get("pad_color") or (0, 0, 0)
    colors = (int(color),) * 3 if isinstance(color, int) else tuple(int(entry) for entry in color)
    return Preprocess(
        resize=_optional_size(mapping.get("resize")),
        crop=_optional_size(mapping.get("crop")),
        resize_with_pad=("center" if place == "center" else "corner") if flag else None,
        pad_color=colors,
        layout=mapping.get("data_layout"),
        reverse_channels=bool(mapping.get("reverse_channels")),
        mean=_floats(mapping.get("mean", mapping.get("input_mean"))),
        scale=_floats(mapping.get("scale", mapping.get("input_scale"))),
        interpolation=mapping.get("interpolation") or "bilinear",
    )


def _optional_size(value: Any) -> int | Size | None:
    if value is None or isinstance(value, int):
        return value
    high, wide = value
    return int(high), int(wide)


def _floats(value: Any) -> tuple[float, ...]:
    return () if value is None else tuple(float(entry) for entry in value)


def _size(value: int | Size) -> Size:
    return (value, value) if isinstance(value, int) else value


def _centre(picture: Image.Image, size: Size) -> Image.Image:
    high, wide = size
    width, height = picture.size
    left, top = (width - wide) // 2, (height - high) // 2
    return picture.crop((left, top, left + wide, top + high))


def _channels(values: tuple[float, ...], channels: int, name: str) -> Array:
    if len(values) not in {1, channels}:
        raise DataError(f"{name} has {len(values)} numbers for {channels} channels", place="preprocess")
    return np.array(values, np.float32)
