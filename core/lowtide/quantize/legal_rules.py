"""What the rules for activations and for layers of quantized networks share."""

from __future__ import annotations

import math

from lowtide.ir import Layer, QuantParams
from lowtide.quantize.findings import Finding, Legal
from lowtide.quantize.solve import SolveRequest

POWER_TOLERANCE = 1e-6
"""A scale this close, relatively, to what shifts can reach is meant to be it: files store float32."""


class Rules:
    """The rules in force, and where findings go."""

    def __init__(self, request: SolveRequest, legal: Legal, *, convert: bool) -> None:
        self.request = request
        self.rule = request.rule
        self.legal = legal
        self.convert = convert

    def on_device(self, layer: Layer) -> bool:
        """Whether a layer runs on the accelerator."""
        return self.request.placement.on_accelerator(layer.name)

    def note(self, code: str, place: str, tensor: str, message: str, *, repaired: bool = False) -> None:
        """Add a finding; what is not repaired is converted or refused."""
        action = "repaired" if repaired else "converted" if self.convert else "refused"
        self.legal.findings.append(Finding(code, place, tensor, message, action))

    def keep(self, code: str, place: str, tensor: str, message: str) -> None:
        """Add a finding of something that costs precision and stays as it is."""
        self.legal.findings.append(Finding(code, place, tensor, message, "kept"))


def nearest_power(number: float, tolerance: float = POWER_TOLERANCE) -> float | None:
    """The power of two that a number is meant to be, ``None`` when none is near enough."""
    power = math.ldexp(1.0, round(math.log2(number)))
    return power if math.isclose(power, number, rel_tol=tolerance) else None


def all_powers(quant: QuantParams) -> bool:
    """Whether every scale is meant to be a power of two."""
    return all(nearest_power(scale) is not None for scale in quant.scale)
