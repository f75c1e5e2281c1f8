"""Whether the convolutions of this machine add integers exactly; asked once before the first exact run."""

from __future__ import annotations

import functools

import numpy as np

from lowtide.errors import QuantizationError
from lowtide.exact.builder import PROVEN, Builder, Window
from lowtide.exact.fixedpoint import rounding_shift_up
from lowtide.exact.program import Program
from lowtide.ir import Array

CHANNELS, SIZE, KERNEL, SHIFT = 32, 6, 3, 9
"""One block or more of every blocked layout, and sums close to what is proven."""


@functools.cache
def require_exact_convolutions() -> None:
    """Run one layer, as a convolution and depthwise, and hold it against sums of 64-bit integers.

    Raises:
        QuantizationError: when they differ, as where a library computes float products with fewer bits.
    """
    rng = np.random.default_rng(7)
    for group in (1, CHANNELS):
        frame = rng.integers(-255, 256, (1, CHANNELS, SIZE, SIZE))
        weights = rng.integers(-127, 128, (CHANNELS, CHANNELS // group, KERNEL, KERNEL))
        # Between this and what sums can add stays less than the proven bound.
        bias = rng.integers(PROVEN // 8, PROVEN // 4, CHANNELS) | 1
        wanted = _layer(frame, weights, bias, group)
        got = _executed(frame, weights, bias, group)
        if not np.array_equal(wanted, got):
            raise QuantizationError(
                f"{int((wanted != got).sum())} of {wanted.size} sums of integers in convolutions are wrong",
                place="exact execution",
                hint="use mode 'qdq'; check that no fast-math mode of ONNX Runtime is switched on",
            )


def _layer(frame: Array, weights: Array, bias: Array, group: int) -> Array:
    """The sums and their rounded shift, int64."""
    padded = np.pad(frame, ((0, 0), (0, 0), (1, 1), (1, 1)))
    total = np.zeros(frame.shape, np.int64) + bias.reshape((1, -1, 1, 1))
    for row in range(KERNEL):
        for column in range(KERNEL):
            part = padded[:, :, row : row + SIZE, column : column + SIZE]
            taps = weights[:, :, row, column]
            total += (
                np.einsum("nchw,oc->nohw", part, taps) if group == 1 else part * taps.reshape((1, -1, 1, 1))
            )
    return np.stack([total, rounding_shift_up(total, SHIFT)])


def _executed(frame: Array, weights: Array, bias: Array, group: int) -> Array:
    b = Builder()
    attributes = {"group": group, "pads": [1, 1, 1, 1]}
    total = b.node("Conv", ["x", b.constant(weights), b.constant(bias)], attributes)
    scaled = b.planes(total, CHANNELS, 2.0**-SHIFT)
    tied = b.planes(scaled, CHANNELS, 1.0, 2.0 ** -(SHIFT + 1))
    limits = Window(-PROVEN >> SHIFT, PROVEN >> SHIFT)
    rounded = b.codes_from(tied, limits, CHANNELS)
    program = Program.of(b, {"x": (1, frame.shape)}, [total, rounded])
    found = program.run({"x": frame.astype(np.float32)})
    return np.stack([found[total], found[rounded]]).astype(np.int64)
