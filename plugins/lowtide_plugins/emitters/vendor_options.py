"""The options for the vendor's runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from lowtide.emit import Emitter
from lowtide.options import vendor_options

if TYPE_CHECKING:
    from lowtide.compiler.result import CompileResult


@attrs.frozen
class VendorOptionsEmitter(Emitter):
    """Writes ``tidl_options.json`` for devices of that vendor, with the values of this compile."""

    def emit(self, result: CompileResult, folder: Path) -> tuple[str, ...]:
        """See `Emitter.emit`."""
        if not result.target.vendor_layers:
            return ()
        decided = vendor_options(result.options)
        decided["advanced_options:quantization_scale_type"] = result.report.device.scale_type
        text = json.dumps(decided, indent=2, sort_keys=True)
        (folder / "tidl_options.json").write_text(text + "\n", "utf-8")
        return ("tidl_options.json",)
