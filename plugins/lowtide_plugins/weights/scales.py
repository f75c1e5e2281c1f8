"""Finer weight scales for quantized layers, at the price of weights that saturate."""

from __future__ import annotations

import math
from functools import cached_property

import attrs
import numpy as np

from lowtide.ir import Array, QuantParams
from lowtide.quantize.numbers import round_half_away
from lowtide.quantize.weights import LARGE_BIAS, MOST_CHANNEL_SHIFTS, SPLIT_BIAS_LIMIT

FINER = (0.5, 0.25)
"""Parts of an octave to both sides of the best scale so far that are tried where scales are free."""


FACTORS = (1, 2, 4, 8, 16, 32, 64, 128, 255)
"""Factors of the split format of biases that are tried, up to the largest."""


@attrs.frozen(kw_only=True, eq=False, slots=False)
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
        if self.split and len(self.quant.scale) > 1:
            return self._with_one_factor()
        present = self._present()
        best, least = present, self._costs(present, first=True)
        for step in range(1, self.halvings + 1):
            found, least = self._better(best, least, present * 2.0**-step)
            if step > 1 and np.array_equal(found, best):
                break  # more weights saturate from octave to octave
            best = found
        for part in () if self.shift else FINER:
            around = best
            for factor in (2.0**-part, 2.0**part):
                best, least = self._better(best, least, np.minimum(around * factor, present))
        chosen = [float(scale) for scale in best]
        return (_stored(chosen[0]),) if len(self.quant.scale) == 1 else self._together(chosen)

    def _with_one_factor(self) -> tuple[float, ...]:
        """Scales of channels whose biases share the factor of the split format.

        A finer channel needs more steps of its accumulator for its bias, and so a larger factor, at which the
        biases of all channels are coarser. For every factor each channel takes its best scale.
        """
        tried = np.stack([self._present() * 2.0**-step for step in range(self.halvings + 1)])
        energies = np.stack([self._energy(scale.reshape(self.gains.shape)).reshape(-1) for scale in tried])
        accumulators = self.input_scale * tried
        needed, gains = self.bias.reshape(-1) / accumulators, self.gains.reshape(-1)
        found: list[tuple[float, list[float]]] = []
        for factor in FACTORS:
            costs = energies + (accumulators * factor) ** 2 / 12
            costs = np.where(needed > 127 * factor, np.inf, costs)
            least = costs.min(axis=0)
            if np.isfinite(least).all():
                at = costs.argmin(axis=0)[np.newaxis]
                found.append((float((least * gains).sum()), np.take_along_axis(tried, at, 0)[0].tolist()))
        chosen = min(found)[1] if found else list(self.quant.scale)
        return self._together(chosen)

    def _better(self, best: Array, least: Array, tried: Array) -> tuple[Array, Array]:
        """Other scales where they cost less, and what the scales cost then."""
        costs = self._costs(tried)
        lower = costs < least
        return np.where(lower, tried, best), np.where(lower, costs, least)

    def _costs(self, scale: Array, *, first: bool = False) -> Array:
        """What scales cost by output; where all share one, every output has the sum."""
        errors = self._error(scale.reshape(self.gains.shape), first=first)
        if len(self.quant.scale) > 1:
            return errors.reshape(-1)
        # What cannot be held stays out, even where it hardly counts.
        total = float((errors * self.gains).sum()) if np.isfinite(errors).all() else math.inf
        return np.full(errors.size, total)

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

    def _error(self, scale: Array, *, first: bool) -> Array:
        accumulator = self.input_scale * scale
        energy, needed = self._energy(scale), self.bias / accumulator
        if self.split:
            factor = np.clip(np.ceil(needed.max(initial=0.0) / 127), 1, 255)
            energy = energy + (accumulator * factor) ** 2 / 12
        if first:
            return energy
        return np.where(needed > (SPLIT_BIAS_LIMIT if self.split else LARGE_BIAS), np.inf, energy)

    def _energy(self, scale: Array) -> Array:
        """The error of every output by the codes of its weights, in float32, which is enough to compare."""
        wanted, moments = self._single
        step = scale[..., np.newaxis].astype(np.float32)
        lost = wanted / step
        lost -= np.clip(round_half_away(lost), self.low, self.quant.dtype.max)
        lost *= step
        energy: Array = np.einsum("gok,gok->go", np.matmul(lost, moments), lost).astype(np.float64)
        return energy

    @cached_property
    def _single(self) -> tuple[Array, Array]:
        """Weights and moments in float32."""
        return self.wanted.astype(np.float32), self.moments.astype(np.float32)


def _stored(scale: float) -> float:
    return float(np.float32(scale))


def _not_below(scale: float, least: float) -> float:
    return scale if scale >= least else math.ldexp(scale, math.ceil(math.log2(least / scale) - 1e-9))
