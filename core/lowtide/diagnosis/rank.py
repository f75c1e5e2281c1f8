"""Which layers cost most."""

from __future__ import annotations

import math
from collections.abc import Iterable

import attrs

from lowtide.measure import LayerError

NINE_TENTHS = 0.9
"""The share of all noise that the diagnosed layers make together."""

MOST = 8
"""How many layers are diagnosed at most."""

GOOD_DB = 40.0
"""A layer that alone has more than this is not diagnosed: 8-bit codes that fit their tensor give as much."""


@attrs.frozen
class Cost:
    """What a layer costs.

    Attributes:
        layer: its name.
        noise: noise by signal at its output, with this layer alone quantized.
        share: of the sum of that over all layers, 0 to 1.
    """

    layer: str
    noise: float
    share: float

    @property
    def sqnr_db(self) -> float:
        """The same noise as SQNR in dB."""
        return -10 * math.log10(self.noise) if self.noise > 0 else math.inf


def rank(errors: Iterable[LayerError]) -> tuple[Cost, ...]:
    """The layers that together make nine tenths of the noise, the worst first.

    Noise by signal passes through linear layers about unchanged, so to first order those of all layers add up
    at the output. Of these layers at most `MOST` are returned, and none that alone has `GOOD_DB` or more.
    """
    ratios = {
        error.layer: error.isolated.noise / error.isolated.signal
        for error in errors
        if error.isolated is not None and error.isolated.signal > 0
    }
    total = math.fsum(ratios.values())
    found: list[Cost] = []
    covered = 0.0
    for layer, noise in sorted(ratios.items(), key=lambda item: -item[1]):
        cost = Cost(layer, noise, noise / total if total > 0 else 0.0)
        if covered >= NINE_TENTHS or len(found) == MOST or cost.sqnr_db >= GOOD_DB:
            break
        found.append(cost)
        covered += cost.share
    return tuple(found)
