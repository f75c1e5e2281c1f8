"""Finer weight scales for quantized layers, at the price of weights that saturate."""

from __future__ import annotations

import math

import attrs
import numpy as np

from lowtide.ir import Array, QuantParams
from lowtide.quantize.numbers import round_half_away
from lowtide.quantize.weights import LARGE_BIAS, MOST_CHANNEL_SHIFTS, SPLIT_BIAS_LIMIT


@attrs.frozen(kw_only=True, eq=False)
class ScaleChoice:
    """What decides on the scale of one layer.

    Attributes:
        wanted: weights that are to be stored, float64 ``[groups, outputs, K]``.
        moments: of what they multiply, float64 ``[groups, K, K]``.
        gains: how much the power of an error matters, float64 ``[groups, outputs]``.
        bias: magnitudes that the bias format has to hold, float64 ``[groups, outputs]``.
        quant: the scales that are there; chosen ones are these or smaller.
        input_scale: the scale of what the weights multiply.
        low: the lowest code.
        shift: whether scales may differ by powers of two alone.
        split: whether a bias is an 8-bit code times an 8-bit factor.
        halvings: how many octaves to go down.
    """

    wanted: Array
    moments: Array
    gains: Array
    bias: Array
    quant: QuantParams
    input_scale: float
    low: int
    shift: bool
    split: bool
    halvings: int

    def scales(self) -> tuple[float, ...]:
        """The scales with the least expected error, as many as there are.

        The error of an output is that of nearest rounding and saturation, e H e' with the moments H, and that
        of the bias, whose step is its factor times the step of the accumulator. Scales at which the format
        cannot hold a bias are left out, except the present ones.
        """
        groups, outputs, _ = self.wanted.shape
        present = self._present()
        tried = [present * factor for factor in self._factors()]
        errors = np.stack(
            [self._error(scale.reshape(groups, outputs), first=at == 0) for at, scale in enumerate(tried)]
        )
        if len(self.quant.scale) == 1:
            with np.errstate(invalid="ignore"):  # what cannot be held stays out, even where it hardly counts
                weighed = np.where(np.isfinite(errors), errors * self.gains, np.inf)
            best = int(weighed.sum(axis=(1, 2)).argmin())
            return (_stored(tried[best][0]),)
        best_of: list[int] = errors.reshape(len(tried), -1).argmin(axis=0).tolist()
        return self._together([float(tried[best][at]) for at, best in enumerate(best_of)])

    def scales_for(self, limit: float) -> tuple[float, ...]:
        """The scales at which weights saturate no earlier than at a limit, as many as there are."""
        needed = limit / (self.quant.dtype.max if self.low == -self.quant.dtype.max else -self.low)
        room = SPLIT_BIAS_LIMIT if self.split else LARGE_BIAS
        for_bias = self.bias.reshape(-1) / (self.input_scale * room)
        least = np.maximum(needed, for_bias if len(self.quant.scale) > 1 else for_bias.max(initial=0.0))
        factors = np.minimum(1.0, least / self._present())
        if self.shift:
            factors = 2.0 ** np.ceil(np.log2(factors) - 1e-9)
        chosen = [float(scale) for scale in self._present() * factors]
        return (_stored(chosen[0]),) if len(self.quant.scale) == 1 else self._together(chosen)

    def _present(self) -> Array:
        outputs = self.wanted.shape[0] * self.wanted.shape[1]
        return np.broadcast_to(np.array(self.quant.scale, np.float64), (outputs,))

    def _together(self, chosen: list[float]) -> tuple[float, ...]:
        """Scales of channels, none further below the largest than the device can shift."""
        least = max(chosen) / 2**MOST_CHANNEL_SHIFTS if self.shift else 0.0
        return tuple(_stored(_not_below(scale, least)) for scale in chosen)

    def _factors(self) -> list[float]:
        per_octave = 1 if self.shift else 8
        count = self.halvings * per_octave
        return [2.0 ** (-step / per_octave) for step in range(count + 1)]

    def _error(self, scale: Array, *, first: bool) -> Array:
        steps = self.wanted / scale[..., np.newaxis]
        codes = np.clip(round_half_away(steps), self.low, self.quant.dtype.max)
        error = (codes - steps) * scale[..., np.newaxis]
        energy: Array = (np.matmul(error, self.moments) * error).sum(axis=-1)
        accumulator = self.input_scale * scale
        needed = self.bias / accumulator
        if self.split:
            largest = needed.max(initial=0.0) if len(self.quant.scale) == 1 else needed
            factor = np.clip(np.ceil(largest / 127), 1, 255)
            energy = energy + (accumulator * factor) ** 2 / 12
        if first:
            return energy
        return np.where(needed > (SPLIT_BIAS_LIMIT if self.split else LARGE_BIAS), np.inf, energy)


def _stored(scale: float) -> float:
    return float(np.float32(scale))


def _not_below(scale: float, least: float) -> float:
    return scale if scale >= least else math.ldexp(scale, math.ceil(math.log2(least / scale) - 1e-9))
