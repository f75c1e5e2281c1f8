"""Ways from one plan to others that are not those of an integer program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import attrs
import numpy as np

from lowtide.ir import Array
from lowtide_plugins.precision.together import Together

LOOKS = 64
"""Swaps that are looked at before the search for a better one ends."""

SEED = 7

WORTH = 1e-4
"""The least share of the error that a swap has to save."""


@attrs.frozen(eq=False)
class Swaps:
    """Swaps among the variables of an integer program, which are 1 for 16 bits.

    Attributes:
        lowest: of each variable.
        highest: of each variable.
        dragged: pairs of variables of which the second is 1 where the first is.
        added_ms: what values cost beside 8 bits.
    """

    lowest: Array
    highest: Array
    dragged: Sequence[tuple[int, int]]
    added_ms: Callable[[Array], float]

    def best(self, together: Together, values: Array, room_ms: float) -> Array:
        """Swap as long as the predicted error falls, and what is added stays within the room."""
        for _ in range(len(values)):
            better = next(self._better(together, values, room_ms), None)
            if better is None:
                return values
            values = better
        return values

    def full(self, room_ms: float, draws: int) -> list[Array]:
        """Values to which nothing can be added within the room, found by raising them in random orders."""
        random = np.random.default_rng(SEED)
        found: dict[bytes, Array] = {}
        for _ in range(draws):
            values = self._filled(random.permutation(len(self.lowest)), room_ms)
            found[values.tobytes()] = values
        return list(found.values())

    def _filled(self, order: Array, room_ms: float) -> Array:
        values: Array = self.lowest.astype(int)
        for at in order:
            raised = values.copy()
            raised[at] = 1
            for group, weights in self.dragged:
                raised[weights] = max(raised[weights], raised[group])
            if self._is_legal(raised) and self._fits(raised, room_ms):
                values = raised
        return values

    def _better(self, together: Together, values: Array, room_ms: float) -> Iterator[Array]:
        """The likely swaps that lower the error, the best first."""
        moves = self._moves(values)
        if not moves:
            return
        error, before = together.error(1 - values), self.added_ms(values)
        costs = np.array([self.added_ms(values + move) - before for move in moves])
        changes = together.changes(1 - values, -np.array(moves))
        room = room_ms - before
        likely = np.where(costs[:, None] + costs[None, :] <= room * (1 + 1e-9) + 1e-9, changes, 0.0)
        for flat in np.argsort(likely, axis=None, kind="stable")[:LOOKS]:
            first, second = divmod(int(flat), len(moves))
            if likely[first, second] >= -WORTH * error:
                return
            moved = values + moves[first] + (moves[second] if first != second else 0)
            if self._is_legal(moved) and self._fits(moved, room_ms) and together.error(1 - moved) < error:
                yield moved

    def _moves(self, values: Array) -> list[Array]:
        """Every change of one width, with those that have to go along."""
        moves: list[Array] = []
        for at, value in enumerate(values):
            move = np.zeros(len(values), int)
            move[at] = 1 - 2 * int(value)
            for group, weights in self.dragged:
                if at == group and value == 0:
                    move[weights] = 1 - int(values[weights])
                if at == weights and value == 1 and values[group] == 1:
                    move[group] = -1
            if self._is_legal(values + move):
                moves.append(move)
        return moves

    def _is_legal(self, values: Array) -> bool:
        within = bool(np.all(values >= self.lowest) and np.all(values <= self.highest))
        return within and all(values[weights] >= values[group] for group, weights in self.dragged)

    def _fits(self, values: Array, room_ms: float) -> bool:
        return self.added_ms(values) <= room_ms * (1 + 1e-12) + 1e-12
