"""Causes in functions that a device looks up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import attrs

from lowtide.diagnosis import Cause, Diagnosis, DiagnosisView
from lowtide.report.model import Finding
from lowtide_plugins.diagnosis import remedies

TABLE = Cause("LT966", "function in a table of 256 entries", "the layer is one of the worst")


@attrs.frozen(kw_only=True)
class Functions(Diagnosis):
    """Names tables among the worst layers."""

    name: ClassVar[str] = "functions"
    causes: ClassVar[tuple[Cause, ...]] = (TABLE,)

    def find(self, view: DiagnosisView) -> Iterable[Finding]:
        """See `Diagnosis.find`."""
        for cost in view.worst:
            layer = view.layers[cost.layer]
            rule = view.target.operators.get(layer.op)
            quant = layer.output.type.quant
            if rule is None or rule.kind != "table" or quant is None or quant.bits > 8:
                continue
            parts = view.parts.get(cost.layer)
            before = parts.share(parts.inputs) if parts else 0.0
            after = parts.share(parts.rounding + parts.clipping) if parts else 0.0
            yield TABLE.finding(
                layer.name,
                f"{layer.op} of 8-bit codes: {before:.0%} of the noise comes from the codes of its input, "
                f"{after:.0%} from those of its output; {cost.sqnr_db:.1f} dB alone",
                remedies.wider_output(view, layer.name),
            )
