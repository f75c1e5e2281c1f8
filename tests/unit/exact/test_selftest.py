"""A machine whose convolutions do not add integers exactly is found out before the first run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from lowtide.errors import QuantizationError
from lowtide.exact import ExactSession, find_profile, selftest
from lowtide.ir import Array, Graph, parse_graph

BODY = """
input %x: float32[1, 2, 2, 2] ~ int8(scale=0.5)
const %w: float32[2, 2, 1, 1] ~ int8(scale=0.5) = [1, 2, 3, 4]
%y: float32[1, 2, 2, 2] ~ int8(scale=1) = Conv(%x, %w)
return %y
"""


def network() -> Graph:
    return parse_graph(f'graph "n" {{\n{BODY}\n}}')


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    selftest.require_exact_convolutions.cache_clear()
    yield
    selftest.require_exact_convolutions.cache_clear()


def test_this_machine_adds_exactly() -> None:
    ExactSession(network(), find_profile("shift"))


def test_sums_that_lose_their_last_bits_stop_exact_execution(monkeypatch: pytest.MonkeyPatch) -> None:
    executed = selftest._executed

    def with_fewer_bits(frame: Array, weights: Array, bias: Array, group: int) -> Array:
        total, rounded = executed(frame, weights, bias, group)
        # What multiplication of bfloat16 leaves of numbers of 23 bits, at best.
        return np.stack([total & ~0xF, rounded])

    monkeypatch.setattr(selftest, "_executed", with_fewer_bits)
    with pytest.raises(QuantizationError, match=r"LT801 exact execution: \d+ of 2304 sums .* are wrong"):
        ExactSession(network(), find_profile("shift"))
