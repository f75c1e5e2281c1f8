"""What frames are and where they come from."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from lowtide.errors import DataError

Array = NDArray[Any]
Label = Array | int | None
LABEL_NAMES = ("labels", "label", "y")
"""Arrays of these names beside others are labels, unless the network has an input of that name."""
UNNAMED = "arr_0"
"""What numpy calls the first array of an ``.npz`` that was given no name."""


@attrs.frozen(eq=False)
class Frame:
    """One sample.

    Attributes:
        name: the file name, or ``frame 17``.
        feeds: an array for every input of the network, by name, with the batch axis.
        label: what a metric compares with; ``None`` if there is none.
        label_from: what was taken for the label, in words, where nobody named it; else empty.
    """

    name: str
    feeds: Mapping[str, Array]
    label: Label = None
    label_from: str = ""


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
        label: see `Frame`.
        label_from: see `Frame`.
        other_name: what the array of the only input is called in the file, where that is not its name.
    """

    name: str
    arrays: Mapping[str, Array]
    label: Label = None
    label_from: str = ""
    other_name: str = ""


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

    def names(self) -> Sequence[str] | None:
        """The names of the samples, where they are files; ``None`` where they only have numbers."""
        return None


def label_name(names: Iterable[str], inputs: Iterable[InputSpec]) -> str | None:
    """Which of some arrays holds labels; ``None`` if none does."""
    found = list(names)
    taken = {spec.name for spec in inputs}
    chosen = [name for name in LABEL_NAMES if name in found and name not in taken]
    return chosen[0] if chosen and len(found) > 1 else None


def as_label(value: Any, place: str) -> Label:
    """A label as a metric takes it: a single integer as `int`, anything else as an array."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise DataError(f"expected a number as label, found {array.dtype}", place=place)
    return int(array) if array.ndim == 0 and array.dtype.kind in "iub" else array


def frame_of_file(
    name: str, arrays: Mapping[str, Array], label: str | None, inputs: Sequence[InputSpec], place: str
) -> RawFrame:
    """A sample out of the arrays that a file holds for it.

    The only array beside the label loses its name when the network has a single input: it can mean no other.

    Args:
        name: of the sample.
        arrays: all of them.
        label: which one is the label, see `label_name`.
        inputs: what the network wants.
        place: names the file in messages.
    """
    feeds = {key: array for key, array in arrays.items() if key != label}
    found = None if label is None else as_label(arrays[label], place)
    origin = "" if label is None else f"the array {label!r} of the data"
    if len(feeds) != 1 or len(inputs) != 1:
        return RawFrame(name, feeds, found, origin)
    ((own, array),) = feeds.items()
    other = "" if own in {inputs[0].name, UNNAMED} else own
    return RawFrame(name, {"": array}, found, origin, other)


def common_length(shapes: Mapping[str, tuple[int, ...]], place: str) -> int:
    """The number of frames that arrays with a leading frame axis agree on.

    Raises:
        DataError: when they do not, or when there are none.
    """
    if not shapes:
        raise DataError("there are no arrays", place=place)
    for name, shape in shapes.items():
        if not shape:
            raise DataError(
                f"{name or 'the array'} is a single number, expected an axis of frames", place=place
            )
    lengths = {shape[:1] for shape in shapes.values()}
    if len(lengths) > 1:
        listed = ", ".join(f"{name or 'array'} {list(shape)}" for name, shape in shapes.items())
        raise DataError(
            f"the arrays have different numbers of frames: {listed}",
            place=place,
            hint="the first axis of every array counts the frames",
        )
    return lengths.pop()[0]


def evenly_spread(total: int, count: int) -> tuple[int, ...]:
    """`count` positions out of `total`, at i * total // count; all of them when there are not more."""
    if count >= total:
        return tuple(range(total))
    return tuple(index * total // count for index in range(count))
