"""Images to arrays, as the vendor's model-zoo files describe it."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, Literal

import attrs
import numpy as np
from PIL import Image, ImageOps

from lowtide.data.block import arguments
from lowtide.data.source import Array
from lowtide.errors import DataError, OptionError, counted, nearest
from lowtide.narrow import is_sequence

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
}
MOST_PIXELS = 16384
"""The longest side that a picture may be resized to; a file that asks for more is wrong."""
Size = tuple[int, int]


def _one_of(*known: str) -> Any:
    def check(_: object, attribute: attrs.Attribute[Any], value: str | None) -> None:
        if value is not None and value not in known:
            raise OptionError(
                f"unknown {attribute.name} {value!r}", place="preprocess", hint=nearest(str(value), known)
            )

    return check


def _positive(_: object, attribute: attrs.Attribute[Any], value: int | Size | None) -> None:
    sizes = () if value is None else _size(value)
    if any(size < 1 for size in sizes):
        raise OptionError(
            f"{attribute.name} is {reprlib.repr(value)}, expected at least one pixel", place="preprocess"
        )
    if any(size > MOST_PIXELS for size in sizes):
        raise OptionError(
            f"{attribute.name} is {reprlib.repr(value)}, expected at most {MOST_PIXELS} pixels",
            place="preprocess",
        )


def _color(_: object, __: object, value: tuple[int, ...]) -> None:
    if len(value) != 3 or not all(0 <= level <= 255 for level in value):
        shown = reprlib.repr(value)
        raise OptionError(f"pad_color is {shown}, expected three numbers 0 to 255", place="preprocess")


@attrs.frozen(kw_only=True)
class Preprocess:
    """Resize, crop, channel order, layout, (x - mean) * scale; in this order.

    Pictures are resized with Pillow, which averages over the source pixels when it shrinks; OpenCV's bilinear
    filter does not, so files made for it give slightly other pixels.

    Attributes:
        resize: height and width, or a number for the shorter side; ``None`` for the network's own size.
        crop: height and width of the centre that is kept, or a number for both.
        resize_with_pad: keep the aspect ratio and pad to `resize`; the picture stands in the ``corner`` or
            ``center``.
        pad_color: the colour of the padding, red, green and blue, 0 to 255.
        layout: ``NCHW`` or ``NHWC``; ``None`` for what fits the input.
        reverse_channels: BGR instead of RGB.
        mean: per channel, or one for all; empty for none.
        scale: per channel, or one for all; empty for none.
        interpolation: ``nearest``, ``bilinear``, ``bicubic``, ``area`` or ``lanczos``.
        backend: the library that the description was made for, ``cv2`` or ``pil``; it changes no pixel here.
    """

    resize: int | Size | None = attrs.field(default=None, validator=_positive)
    crop: int | Size | None = attrs.field(default=None, validator=_positive)
    resize_with_pad: Literal["corner", "center"] | None = attrs.field(
        default=None, validator=_one_of("corner", "center")
    )
    pad_color: tuple[int, ...] = attrs.field(default=(0, 0, 0), validator=_color)
    layout: Literal["NCHW", "NHWC"] | None = attrs.field(default=None, validator=_one_of("NCHW", "NHWC"))
    reverse_channels: bool = False
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    interpolation: str = attrs.field(default="bilinear", validator=_one_of(*FILTERS))
    backend: Literal["cv2", "pil"] | None = attrs.field(
        default=None, validator=_one_of("cv2", "pil"), eq=False, repr=False
    )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, place: str = "preprocess") -> Preprocess:
        """Read the preprocessing block of a model-zoo file.

        ``backend``, ``cv2`` or ``pil``, decides only on what a number means as ``interpolation``, which may
        also be a name of either library. Without one it is bilinear.

        Raises:
            OptionError: for an unknown key or a value that is not understood.
        """
        try:
            return cls(**arguments(mapping, place))
        except OptionError as error:
            raise OptionError(error.message, place=place, hint=error.hint) from error

    def as_mapping(self) -> dict[str, Any]:
        """The block that `from_mapping` reads it from; what has its default is left out."""
        block = attrs.asdict(self, filter=lambda field, value: value != field.default)
        named = {"data_layout" if key == "layout" else key: value for key, value in block.items()}
        return {key: list(value) if is_sequence(value) else value for key, value in named.items()}

    def apply(self, image: Image.Image, *, grey: bool = False) -> Array:
        """An image as float32, [H, W, C] or [C, H, W], turned upright as its EXIF orientation says.

        Args:
            image: any mode with 8 bits a channel.
            grey: one channel instead of three.

        Raises:
            DataError: when the image has more bits, is smaller than the crop, or mean or scale have another
                number of channels.
        """
        if image.mode.startswith(("I", "F")):
            raise DataError(f"expected 8 bits a channel, found the mode {image.mode}", hint="save it as .npy")
        picture = ImageOps.exif_transpose(image).convert("L" if grey else "RGB")
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
        # In integers: wide / width * width may fall just short of wide, and would lose a column.
        if wide * height <= high * width:
            inner = (wide, max(1, height * wide // width))
        else:
            inner = (max(1, width * high // height), high)
        color = self.pad_color[0] if grey else self.pad_color
        canvas = Image.new(picture.mode, (wide, high), color)
        offset = (0, 0)
        if self.resize_with_pad == "center":
            offset = ((wide - inner[0]) // 2, (high - inner[1]) // 2)
        canvas.paste(picture.resize(inner, FILTERS[self.interpolation]), offset)
        return canvas


def _size(value: int | Size) -> Size:
    return (value, value) if isinstance(value, int) else value


def _centre(picture: Image.Image, size: Size) -> Image.Image:
    high, wide = size
    width, height = picture.size
    if high > height or wide > width:
        raise DataError(
            f"the crop [{high}, {wide}] is larger than the picture [{height}, {width}]",
            hint="resize it first",
        )
    left, top = (width - wide) // 2, (height - high) // 2
    return picture.crop((left, top, left + wide, top + high))


def _channels(values: tuple[float, ...], channels: int, name: str) -> Array:
    if len(values) not in {1, channels}:
        raise DataError(
            f"{name} has {counted(len(values), 'number')} for {counted(channels, 'channel')}",
            place="preprocess",
        )
    return np.array(values, np.float32)
