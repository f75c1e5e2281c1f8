"""Sums of two tensors as nodes, where their arithmetic is exact in float."""

from __future__ import annotations

import numpy as np

from lowtide.exact.builder import PROVEN, Builder, Window, largest
from lowtide.exact.codes import aligned_factors
from lowtide.exact.product import PLANAR, Accumulator
from lowtide.exact.profile import Profile
from lowtide.exact.requantize import floored, scaled
from lowtide.ir import Node, QuantParams

LARGEST = float(np.finfo(np.float32).max)


def add_nodes(
    b: Builder,
    node: Node,
    sources: tuple[str, str],
    made: QuantParams,
    *,
    profile: Profile,
    window: Window,
) -> str | None:
    """Add or Sub of codes, rounded and limited; ``None`` where tables or Python do it."""
    first, second = (node.value(at).type.quant for at in (0, 1))
    assert first is not None  # noqa: S101 - the caller checks
    assert second is not None  # noqa: S101 - the caller checks
    sign = -1 if node.op == "Sub" else 1
    planes = planes_of(node)
    if profile.addition == "float32":
        factors = [np.float32(quant.scale[0]) / np.float32(made.scale[0]) for quant in (first, second)]
        parts = [
            _multiplied(b, name, float(factor), planes)
            for name, factor in zip(sources, (factors[0], sign * factors[1]), strict=True)
        ]
        return b.codes_from(b.node("Add", parts), window, planes)
    if profile.addition not in {"multiplier", "xnnpack"}:
        return None
    mantissas, shift = aligned_factors(first, second, made, profile)
    reach = mantissas[0] * largest(first) + mantissas[1] * largest(second) + (1 << max(0, shift - 1))
    factors64 = (mantissas[0] * 2.0**-shift, sign * mantissas[1] * 2.0**-shift)
    if planes and 2 * reach < PROVEN and shift >= 0:
        # Half of the last bit lets ties go up.
        tie = 2.0 ** -(shift + 1) if shift else None
        parts = [
            b.planes(sources[0], planes, factors64[0], tie),
            b.planes(sources[1], planes, factors64[1]),
        ]
        return b.codes_from(b.node("Add", parts), window, planes)
    # Half of a code lets ties go up.
    parts = [
        scaled(b, Accumulator(name, False, PROVEN, planes, planes), np.asarray(factor), np.asarray(half))
        for name, factor, half in zip(sources, factors64, (0.5, 0.0), strict=True)
    ]
    return floored(b, b.node("Add", parts), reach * 2.0**-shift + 1, window)


def _multiplied(b: Builder, name: str, factor: float, planes: int) -> str:
    """Codes times a factor, rounded to float32 before anything is added."""
    if not planes:
        return b.node("Mul", [name, b.constant(factor)])
    # ONNX Runtime adds within a convolution, but not in one with limits, and these change nothing.
    return b.clip(b.planes(name, planes, factor), -LARGEST, LARGEST)


def planes_of(node: Node) -> int:
    """How many channels both tensors ``[N, C, H, W]`` and their sum have, else 0."""
    shapes = {value.type.shape for value in (node.value(0), node.value(1), node.output)}
    shape = next(iter(shapes))
    if len(shapes) > 1 or shape is None or len(shape) != PLANAR:
        return 0
    channels = shape[1]
    return channels if isinstance(channels, int) else 0
