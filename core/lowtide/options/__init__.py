"""Options: one typed schema, layers with origins, files."""

from __future__ import annotations

from lowtide.options.fields import Effect, Kind, OptionInfo, written
from lowtide.options.files import LoadedOptions, load_options_file, parse_assignment
from lowtide.options.resolve import (
    EffectiveOption,
    OptionLayer,
    ResolvedOptions,
    resolve_options,
    vendor_options,
)
from lowtide.options.schema import FIELDS, CompileOptions
from lowtide.options.widths import FLOAT_BITS, SEARCHING, WIDTH_OPTIONS, without_search

__all__ = [
    "FIELDS",
    "FLOAT_BITS",
    "SEARCHING",
    "WIDTH_OPTIONS",
    "CompileOptions",
    "Effect",
    "EffectiveOption",
    "Kind",
    "LoadedOptions",
    "OptionInfo",
    "OptionLayer",
    "ResolvedOptions",
    "load_options_file",
    "parse_assignment",
    "resolve_options",
    "vendor_options",
    "without_search",
    "written",
]
