"""Sums of two tensors as nodes, where their arithmetic is exact in float."""

from __future__ import annotations

import numpy as np

from lowtide.exact.builder import PROVEN, Builder, largest
from lowtide.exact.codes import aligned_factors
from lowtide.exact.profile import Profile
from lowtide.ir import Node, QuantParams


def add_nodes(
    b: Builder, node: Node, sources: tuple[str, str], made: QuantParams, profile: Profile
) -> str | None:
    """Add or Sub of codes, rounded and not yet limited; ``None`` where tables or Python do it."""
    first, second = (node.value(at).type.quant for at in (0, 1))
    assert first is not None  # noqa: S101 - the caller checks
    assert second is not None  # noqa: S101 - the caller checks
    sign = -1 if node.op == "Sub" else 1
    if profile.addition == "float32":
        factors = [np.float32(quant.scale[0]) / np.float32(made.scale[0]) for quant in (first, second)]
        parts = [
            b.node("Mul", [name, b.constant(float(factor))])
            for name, factor in zip(sources, (factors[0], sign * factors[1]), strict=True)
        ]
        most = sum(float(f) * largest(quant) for f, quant in zip(factors, (first, second), strict=True))
        return b.round(b.node("Add", parts), most + 1)
    if profile.addition not in {"multiplier", "shift"}:
        return None
    mantissas, shift = aligned_factors((first.scale[0], second.scale[0], made.scale[0]))
    reach = mantissas[0] * largest(first) + mantissas[1] * largest(second) + (1 << max(0, shift - 1))
    kind = np.float32 if reach < PROVEN else np.float64
    named = sources if kind is np.float32 else (b.wide(sources[0]), b.wide(sources[1]))
    scaled = [
        b.node("Mul", [name, b.constant(mantissa * 2.0**-shift, kind)])
        for name, mantissa in zip(named, (mantissas[0], sign * mantissas[1]), strict=True)
    ]
    total = b.node("Floor", [b.node("Add", [b.node("Add", scaled), b.constant(0.5, kind)])])
    return total if kind is np.float32 else b.narrow(total)
