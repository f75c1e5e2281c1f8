"""Ways in which frames could have been prepared instead, for the doctor to try."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import numpy as np

from lowtide.data import Preprocess
from lowtide.ir import Array

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the three channels of ImageNet pictures scaled to 0…1, red first.

Source: torchvision's documentation of its pretrained weights.
"""

Numbers = tuple[float, ...]


@attrs.frozen(kw_only=True)
class Candidate:
    """x * factor + offset by channel, after channels were reversed or elements put into another layout.

    Attributes:
        words: what it does, as an expression over the frames x.
        reverse: the channels in the opposite order.
        relayout: the elements stand in memory as height, width, channels, although the shape says otherwise.
    """

    words: str
    factor: Numbers = (1.0,)
    offset: Numbers = (0.0,)
    reverse: bool = False
    relayout: bool = False

    @property
    def identity(self) -> bool:
        """Whether frames stay as they are."""
        return not (self.reverse or self.relayout or self.rescales)

    @property
    def rescales(self) -> bool:
        """Whether numbers change."""
        return set(self.factor) != {1.0} or any(self.offset)

    def apply(self, frame: Array, axis: int) -> Array:
        """A frame ``[1, C, H, W]`` (`axis` 1) or ``[1, H, W, C]`` (`axis` 3), as it would have been."""
        data = frame
        if self.relayout:
            data = _relayout(data, axis)
        if self.reverse:
            data = np.flip(data, axis)
        if self.rescales:
            shape = [1] * data.ndim
            shape[axis] = -1
            factor = np.array(self.factor, np.float32).reshape(shape)
            with np.errstate(over="ignore"):
                data = data * factor + np.array(self.offset, np.float32).reshape(shape)
        return np.ascontiguousarray(data, frame.dtype)

    def preprocess(self, given: Preprocess) -> Preprocess:
        """The preprocessing of pictures whose result would be that of this candidate."""
        count = max(len(self.factor), len(self.offset), len(given.mean), len(given.scale))
        mean = _spread(given.mean or (0.0,), count)
        scale = _spread(given.scale or (1.0,), count)
        if self.reverse:
            mean, scale = mean[::-1], scale[::-1]
        factor, offset = _spread(self.factor, count), _spread(self.offset, count)
        after = tuple(old * new for old, new in zip(scale, factor, strict=True))
        before = tuple(m - o / s for m, o, s in zip(mean, offset, after, strict=True))
        return attrs.evolve(
            given, mean=before, scale=after, reverse_channels=given.reverse_channels != self.reverse
        )


def _spread(numbers: Numbers, count: int) -> Numbers:
    return numbers if len(numbers) == count else numbers * count


def _relayout(frame: Array, axis: int) -> Array:
    batch, *rest = frame.shape
    if axis == 1:
        channels, height, width = rest
        return frame.reshape(batch, height, width, channels).transpose(0, 3, 1, 2)
    height, width, channels = rest
    return frame.reshape(batch, channels, height, width).transpose(0, 2, 3, 1)


def candidates(channels: int, *, integers: bool) -> tuple[Candidate, ...]:
    """All ways to try, the frames as they are first.

    Args:
        channels: 1 or 3; orders and the means of channels need 3.
        integers: the network takes integers, which are not scaled.
    """
    scaled = [Candidate(words="x")] if integers else list(_scaled(channels))
    if channels == 1:
        return tuple(scaled)
    reversed_ = [
        attrs.evolve(entry, words=entry.words.replace("x", "x[reversed channels]"), reverse=True)
        for entry in scaled
    ]
    turned = [
        Candidate(words="x read as height, width, channels", relayout=True),
        Candidate(words="x[reversed channels] read as height, width, channels", relayout=True, reverse=True),
    ]
    return (*scaled, *reversed_, *turned)


def _scaled(channels: int) -> Iterator[Candidate]:
    yield Candidate(words="x")
    yield Candidate(words="x * 255", factor=(255.0,))
    yield Candidate(words="x / 255", factor=(1 / 255,))
    yield Candidate(words="x / 127.5 - 1", factor=(1 / 127.5,), offset=(-1.0,))
    yield Candidate(words="(x + 1) * 127.5", factor=(127.5,), offset=(127.5,))
    yield Candidate(words="x * 2 - 1", factor=(2.0,), offset=(-1.0,))
    yield Candidate(words="(x + 1) / 2", factor=(0.5,), offset=(0.5,))
    yield Candidate(words="x - 128", offset=(-128.0,))
    yield Candidate(words="x + 128", offset=(128.0,))
    if channels != 3:
        return
    shift = tuple(-mean / deviation for mean, deviation in zip(MEAN, DEVIATION, strict=True))
    bytes_ = tuple(1 / (255 * deviation) for deviation in DEVIATION)
    yield Candidate(words="(x - mean) / deviation", factor=tuple(1 / d for d in DEVIATION), offset=shift)
    yield Candidate(words="(x / 255 - mean) / deviation", factor=bytes_, offset=shift)
    yield Candidate(words="x * deviation + mean", factor=DEVIATION, offset=MEAN)
    yield Candidate(
        words="(x * deviation + mean) * 255",
        factor=tuple(255 * d for d in DEVIATION),
        offset=tuple(255 * m for m in MEAN),
    )
    yield Candidate(words="x - 255 * mean", offset=tuple(-255 * m for m in MEAN))
