"""What frames are and where they come from."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence

import attrs

from lowtide.ir import Array

Label = Array | int | None


@attrs.frozen(eq=False)
class Frame:
    """One sample.

    Attributes:
        name: the file name, or ``frame 17``.
        feeds: an array for every input of the network, by name, with the batch axis.
        label: what a metric compares with; ``None`` if there is none.
    """

    name: str
    feeds: Mapping[str, Array]
    label: Label = None


@attrs.frozen
class InputSpec:
    """What the network wants: the input's name, numpy dtype name, and static shape with the batch axis."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@attrs.frozen(eq=False)
class RawFrame:
    """One sample as a source has it, before it is fitted to the network's inputs.

    Attributes:
        arrays: by input name; under the name ``""`` when the source has one array without a name.
    """

    name: str
    arrays: Mapping[str, Array]
    label: Label = None


class RawSource(abc.ABC):
    """Samples in a fixed order, read one at a time."""

    synthetic = False

    @property
    @abc.abstractmethod
    def count(self) -> int | None:
        """How many there are; ``None`` when only reading them tells."""

    @abc.abstractmethod
    def read(self, positions: Sequence[int] | None) -> Iterator[RawFrame]:
        """The samples at some ascending positions, or all; may be called again and again."""

    @abc.abstractmethod
    def fingerprint(self) -> str | None:
        """SHA-256 of all that decides on the arrays; ``None`` when that cannot be known without a run."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Where the samples come from, for the report."""


def evenly_spread(total: int, count: int) -> tuple[int, ...]:
    """`count` positions out of `total`, at i * total // count; all of them when there are not more."""
    if count >= total:
        return tuple(range(total))
    return tuple(index * total // count for index in range(count))
