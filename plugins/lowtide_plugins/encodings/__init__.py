"""Built-in sources of what is known before calibration."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import EncodingsSpec, hookimpl


@hookimpl
def lowtide_register_encodings() -> Iterable[EncodingsSpec]:
    """Contribute ``clip-ranges``."""
    return [
        EncodingsSpec(
            name="clip-ranges",
            summary="ranges that quantization-aware training left in a network as clips",
            implementation="lowtide_plugins.encodings.clip_ranges:ClipRanges",
        )
    ]
