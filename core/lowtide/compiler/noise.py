"""The error of outputs, as a number and as a vector that can be added to others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lowtide.ir import Array

Outputs = Sequence[Mapping[str, Array]]
"""The outputs by name, for each frame."""

LENGTH = 2048
"""The longest vector that is kept."""

SEED = 20240917


def output_vector(reference: Outputs, found: Outputs) -> Array:
    """The difference of outputs as one vector, whose squared length is their error.

    The error is noise by signal, the mean over the outputs that have a signal; of an output of integers, the
    share of elements that differ.

    Args:
        reference: of the float network.
        found: in the same order, whatever their names.
    """
    parts: list[Array] = []
    for position, name in enumerate(reference[0]):
        real = np.stack([frame[name] for frame in reference])
        made = np.stack([list(frame.values())[position] for frame in found])
        if real.dtype.kind == "f":
            difference = made.astype(np.float64) - real
            signal = float(np.square(real, dtype=np.float64).sum())
        else:
            difference, signal = (real != made).astype(np.float64), float(real.size)
        if signal > 0:
            parts.append(difference.ravel() / np.sqrt(signal))
    if not parts:
        return np.zeros(1)
    whole: Array = np.concatenate(parts) / np.sqrt(len(parts))
    return whole


def error_of(vector: Array) -> float:
    """The squared length."""
    return float(vector @ vector)


def shortened(vector: Array) -> Array:
    """A vector float32 of at most `LENGTH` elements with nearly the same products with others.

    Every element goes with a random sign into a random place, the same ones for all vectors of one length.

    Source: Charikar, Chen, Farach-Colton, Finding Frequent Items in Data Streams, 2002.
    """
    if vector.size <= LENGTH:
        return vector.astype(np.float32)
    random = np.random.default_rng(SEED)
    places = random.integers(0, LENGTH, vector.size)
    signs = random.integers(0, 2, vector.size) * 2.0 - 1.0
    made: Array = np.bincount(places, vector * signs, LENGTH).astype(np.float32)
    return made
