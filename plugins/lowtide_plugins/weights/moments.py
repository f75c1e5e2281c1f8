"""Second moments of what layers multiply, measured on the float network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import numpy as np

from lowtide.data import DataSource
from lowtide.ir import Array, Graph, Node
from lowtide.quantize.operands import MacOperands
from lowtide.runtime import Session, in_flight, to_model

GOLDEN = (5**0.5 - 1) / 2
"""Multiples of it, less their whole parts, spread evenly however many there are."""


@attrs.frozen(eq=False)
class Moments:
    """E[x x'] over frames and positions, up to a factor.

    Attributes:
        matrix: float32 ``[groups, K, K]``, K the number of products of one output.
        count: how many vectors were seen.
    """

    matrix: Array
    count: int


def second_moments(
    reference: Graph, layers: Sequence[tuple[Node, MacOperands]], frames: DataSource, *, rows: int
) -> dict[str, Moments]:
    """The moments of the inputs of Conv, Gemm and MatMul nodes, by node name.

    Of every frame an evenly spread sample of `rows` output positions is taken, others of every frame and the
    same for every run.
    """
    known = [(node, found) for node, found in layers if _can_sample(reference, node, found)]
    names = list(dict.fromkeys(found.activation.name for _, found in known))
    if not names:
        return {}
    session = Session(to_model(reference, quantized=False, outputs=names))
    sums: dict[str, Array] = {}
    counts: dict[str, int] = {}
    runs = in_flight(session, frames.frames(), lambda frame: frame.feeds)
    for number, (_, results) in enumerate(runs):
        values: Mapping[str, Array] = dict(zip(names, results.values(), strict=True))
        for node, found in known:
            vectors = sample(node, values[found.activation.name], rows, number)
            made = np.matmul(vectors.transpose(0, 2, 1), vectors)
            sums[node.name] = sums[node.name] + made if node.name in sums else made
            counts[node.name] = counts.get(node.name, 0) + vectors.shape[1]
    return {name: Moments(total, counts[name]) for name, total in sums.items()}


def _can_sample(reference: Graph, node: Node, found: MacOperands) -> bool:
    value = reference.values.get(found.activation.name)
    rank = value.type.rank if value is not None else None
    if node.op == "Conv":
        return rank == 4
    return node.op in {"Gemm", "MatMul"} and not node.int_attribute("transA", 0) and rank is not None


def sample(node: Node, data: Array, rows: int, frame: int, zero: int = 0) -> Array:
    """Evenly spread vectors that a node multiplies, ``[groups, rows, K]`` of the type of `data`.

    Args:
        node: a Conv, Gemm or MatMul.
        data: what it reads, real numbers or codes.
        rows: how many.
        frame: its number; other frames are looked at in other places.
        zero: what stands for 0 at the border.
    """
    if node.op != "Conv":
        flat = data.reshape(-1, data.shape[-1])
        return flat[_spread(len(flat), rows, frame)][np.newaxis]
    batch, channels, height, width = data.shape
    group = node.int_attribute("group", 1)
    reads, outside = _taps(node, data.shape, rows, frame)
    made = np.empty((group, reads.shape[0], channels // group, reads.shape[1]), data.dtype)
    planes = data.reshape(batch, channels, height * width)
    for at in range(batch):
        here = reads[:, 0] // (height * width) == at
        read = reads[here] % (height * width)
        picked = planes[at].take(read.reshape(-1), axis=1, mode="clip").reshape(channels, *read.shape)
        picked[:, outside[here]] = zero
        made[:, here] = picked.reshape(group, -1, *read.shape).transpose(0, 2, 1, 3)
    return made.reshape(group, len(reads), -1)


def sample_results(node: Node, data: Array, rows: int, frame: int) -> Array:
    """What a node gives at the positions of which `sample` takes what it reads, ``[rows, C_out]``."""
    if node.op != "Conv":
        flat = data.reshape(-1, data.shape[-1])
        return flat[_spread(len(flat), rows, frame)]
    batch, _, height, width = data.shape
    at, row, column = np.unravel_index(_spread(batch * height * width, rows, frame), (batch, height, width))
    return data[at, :, row, column]


def _taps(node: Node, shape: tuple[int, ...], rows: int, frame: int) -> tuple[Array, Array]:
    """What evenly spread output positions of a convolution read, ``[positions, taps]``.

    Returns:
        Numbers of elements of a channel, counted through the batch, and whether the tap is in the border.
    """
    kernel = node.ints_attribute("kernel_shape") or node.value(1).type.static_shape[2:]
    strides, dilations = node.ints_attribute("strides", (1, 1)), node.ints_attribute("dilations", (1, 1))
    pads = node.ints_attribute("pads", (0, 0, 0, 0))
    sizes = [
        (shape[2 + at] + pads[at] + pads[at + 2] - (kernel[at] - 1) * dilations[at] - 1) // strides[at] + 1
        for at in range(2)
    ]
    number, *starts = np.unravel_index(
        _spread(shape[0] * sizes[0] * sizes[1], rows, frame), (shape[0], *sizes)
    )
    row, column = (
        start[:, np.newaxis] * strides[at] - pads[at] + np.arange(kernel[at]) * dilations[at]
        for at, start in enumerate(starts)
    )
    row, column = row[:, :, np.newaxis], column[:, np.newaxis, :]
    outside = (row < 0) | (row >= shape[2]) | (column < 0) | (column >= shape[3])
    read = (
        np.where(outside, 0, row * shape[3] + column)
        + (number * (shape[2] * shape[3]))[:, np.newaxis, np.newaxis]
    )
    return read.reshape(len(number), -1), outside.reshape(len(number), -1)


def _spread(count: int, wanted: int, frame: int) -> Array:
    """At most `wanted` evenly spread numbers below `count`, ascending, all over many frames."""
    step = max(1, count // wanted)
    return np.arange(int(step * (GOLDEN * frame % 1.0)), count, step)[:wanted]
