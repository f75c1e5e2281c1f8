"""The options that decide on widths."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from lowtide.options.schema import FIELDS, CompileOptions

FLOAT_BITS = 32
"""The value of ``tensor_bits`` that leaves the network float."""

WIDE_BITS = 16
"""The value of ``tensor_bits`` that leaves nothing to raise."""

LISTS = ("output_feature_16bit_names_list", "params_16bit_names_list")
"""The fields that name layers with 16 bits."""

SEARCHING = ("mixed_precision_factor", "budget_ms", "goal", "front_point")
"""The fields that have widths searched for."""

WIDTH_OPTIONS: Mapping[str, str] = {
    field: FIELDS[field].key for field in (*SEARCHING, "search_frames", *LISTS)
}
"""The keys of the options that a precision strategy may use besides ``tensor_bits``, by field name."""


def without_search(options: CompileOptions) -> CompileOptions:
    """The options without what has widths searched for, and without a strategy that may do that."""
    plain = CompileOptions()
    return attrs.evolve(options, **{field: getattr(plain, field) for field in ("strategy", *SEARCHING)})
