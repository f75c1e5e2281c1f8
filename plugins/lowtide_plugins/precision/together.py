"""The error of several narrow widths together, predicted from what each does alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lowtide.ir import Array
from lowtide.precision import Sensitivities

Name = tuple[str, str]
"""``activations`` or ``weights``, and the name of a class or of a layer."""


class Together:
    """Errors of the outputs add up as vectors: some cancel, those that go one way add up to more.

    Where sensitivities come without effects, errors are taken to have nothing in common. A search finds
    more that cancels in a few frames than does in others, so what errors have in common may count in part.

    Args:
        noise: what was measured.
        names: the widths, in the order of all vectors here.
        trust: how much of what errors have in common counts, from 0 to 1.
    """

    def __init__(self, noise: Sensitivities, names: Sequence[Name], trust: float = 1.0) -> None:
        own = np.array([max(getattr(noise, kind).get(name, 0.0), 0.0) for kind, name in names])
        length = max((effect.size for effect in noise.effects.values()), default=0)
        if length:
            nothing = np.zeros(length, np.float32)
            effects = np.stack([noise.effects.get(name, nothing) for name in names]).astype(np.float64)
            products = effects @ effects.T
            self._products = trust * products + (1 - trust) * np.diag(np.diag(products))
        else:
            self._products = np.diag(own)

    def alone(self) -> Array:
        """What each width is worth by itself, as shares."""
        own = np.diag(self._products)
        return own / (own.sum() or 1.0)

    def beside(self, narrow: Array) -> Array:
        """What each width is worth beside narrow ones, in shares: those of narrow ones sum up to the error.

        Args:
            narrow: 1 for 8 bits, 0 for 16.
        """
        own = np.diag(self._products)
        # A wide width would bring its own error and what it has in common with the narrow ones.
        worth = np.where(narrow > 0, self._products @ narrow, 2 * (self._products @ narrow) + own)
        return worth / (own.sum() or 1.0)

    def error(self, narrow: Array) -> float:
        """The error with these widths at 8 bits."""
        return float(narrow @ self._products @ narrow)

    def changes(self, narrow: Array, moves: Array) -> Array:
        """What pairs of moves change, by position; on the diagonal, what each does alone.

        Args:
            narrow: the widths before, 1 for 8 bits.
            moves: one row for each move, -1 for a width that is raised and 1 for one that is lowered.
        """
        projected = moves @ self._products
        single = 2 * (projected @ narrow) + np.einsum("ij,ij->i", projected, moves)
        pairs = single[:, None] + single[None, :] + 2 * projected @ moves.T
        np.fill_diagonal(pairs, single)
        return np.asarray(pairs)
