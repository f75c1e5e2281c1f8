"""Lines in float32 beside the multipliers that they stand for."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from lowtide.exact.fixedpoint import Multiplier, multiply_integers, quantize_multiplier
from lowtide.exact.lines import Line, find_line
from lowtide.ir import Array


def codes_on(line: Line, integers: Array, *, once: bool) -> Array:
    """Codes of integers ``[n, channels]`` by a line, the product left as it is or rounded to float32."""
    away = integers - line.centre
    if once:
        # Below 2^53 all of it is exact in float64, so that there is one rounding to float32.
        made = (away * line.factor.astype(np.float64) + line.offset.astype(np.float64)).astype(np.float32)
    else:
        made = away.astype(np.float32) * line.factor + line.offset
    found: Array = np.rint(made).astype(np.int64) + line.middle
    return found


@settings(max_examples=60)
@given(
    st.lists(st.floats(-14, -2), min_size=1, max_size=4),
    st.integers(1, 18),
    st.sampled_from([15, 255]),
    st.booleans(),
)
def test_a_line_gives_the_codes_of_its_multiplier_for_every_integer(
    exponents: list[float], bits: int, highest: int, double: bool
) -> None:
    by = quantize_multiplier(np.exp2(exponents))
    bound = 1 << bits
    line = find_line(by, highest, np.full(len(exponents), bound), double=double)
    if line is None:
        return
    integers = np.arange(-bound, bound + 1).reshape((-1, 1))
    wanted = np.clip(multiply_integers(integers, by, "double" if double else "single"), 0, highest)
    for once in (True, False):
        np.testing.assert_array_equal(np.clip(codes_on(line, integers, once=once), 0, highest), wanted)


def test_most_multipliers_of_real_layers_have_a_line() -> None:
    factors = np.exp2(np.random.default_rng(5).uniform(-9, -6, 200))
    found = [
        find_line(quantize_multiplier(factors[at : at + 1]), 255, np.array([1 << 18]), double=True)
        for at in range(200)
    ]
    assert sum(line is not None for line in found) >= 190


def test_there_is_no_line_where_float32_has_too_few_bits_for_all_codes() -> None:
    by = quantize_multiplier(np.array([2.0**-15 * 1.2345]))
    assert find_line(by, 255, np.array([(1 << 24) - 1]), double=True) is None


def test_a_channel_without_weights_gives_code_zero_and_stops_no_other() -> None:
    by = Multiplier(np.array([0, 1 << 30]), np.array([0, -6]))
    line = find_line(by, 255, np.array([1000, 1000]), double=True)
    assert line is not None
    integers = np.array([[-1000], [0], [64], [1000]])
    assert codes_on(line, integers, once=False).tolist() == [[0, -8], [0, 0], [0, 1], [0, 8]]
