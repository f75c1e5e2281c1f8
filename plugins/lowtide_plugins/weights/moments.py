"""Second moments of what layers multiply, measured on the float network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import numpy as np

from lowtide.data import DataSource
from lowtide.ir import Array, Graph, Node
from lowtide.quantize.operands import MacOperands
from lowtide.runtime import Session, in_flight, to_model


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

    Of every frame an evenly spread sample of `rows` output positions is taken, the same for every run.
    """
    known = [(node, found) for node, found in layers if _can_sample(reference, node, found)]
    names = list(dict.fromkeys(found.activation.name for _, found in known))
    if not names:
        return {}
    session = Session(to_model(reference, quantized=False, outputs=names))
    sums: dict[str, Array] = {}
    counts: dict[str, int] = {}
    for _, results in in_flight(session, frames.frames(), lambda frame: frame.feeds):
        values: Mapping[str, Array] = dict(zip(names, results.values(), strict=True))
        for node, found in known:
            vectors = sample(node, values[found.activation.name], rows)
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


def sample(node: Node, data: Array, rows: int, zero: int = 0) -> Array:
    """Evenly spread vectors that a node multiplies, ``[groups, rows, K]`` of the type of `data`.

    Args:
        node: a Conv, Gemm or MatMul.
        data: what it reads, real numbers or codes.
        rows: how many.
        zero: what stands for 0 at the border.
    """
    if node.op != "Conv":
        flat = data.reshape(-1, data.shape[-1])
        return flat[_spread(len(flat), rows)][np.newaxis]
    kernel = node.ints_attribute("kernel_shape") or node.value(1).type.static_shape[2:]
    strides, dilations = node.ints_attribute("strides", (1, 1)), node.ints_attribute("dilations", (1, 1))
    top, left, bottom, right = node.ints_attribute("pads", (0, 0, 0, 0))
    padded = data
    if top or left or bottom or right:
        frame = ((0, 0), (0, 0), (top, bottom), (left, right))
        padded = np.pad(data, frame, constant_values=zero)
    extents = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, extents, axis=(2, 3))
    windows = windows[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
    batch, channels, height, width = windows.shape[:4]
    chosen = _spread(batch * height * width, rows)
    at, row, column = np.unravel_index(chosen, (batch, height, width))
    picked = windows[at, :, row, column]  # [rows, C, kh, kw]
    group = node.int_attribute("group", 1)
    by_group = picked.reshape(len(chosen), group, channels // group * kernel[0] * kernel[1])
    return np.ascontiguousarray(by_group.transpose(1, 0, 2))


def _spread(count: int, wanted: int) -> Array:
    """At most `wanted` evenly spread numbers below `count`, ascending."""
    step = max(1, count // wanted)
    return np.arange(step // 2, count, step)[:wanted]
