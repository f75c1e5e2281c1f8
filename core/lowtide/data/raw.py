"""Sources of samples: arrays, Python objects and callables, random numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lowtide.data.source import (
    Array,
    InputSpec,
    Label,
    RawFrame,
    RawSource,
    as_label,
    common_length,
    label_name,
)
from lowtide.errors import DataError
from lowtide.narrow import is_iterable, is_mapping, is_sequence


class ArraySource(RawSource):
    """Arrays in memory or mapped from a file, with a leading frame axis."""

    def __init__(self, arrays: Mapping[str, Array], labels: Array | None, place: str) -> None:
        self.arrays = arrays
        self.labels = labels
        self.place = place
        shapes = {name: array.shape for name, array in arrays.items()}
        if labels is not None:
            shapes["labels"] = labels.shape
        self._count = common_length(shapes, place)

    @property
    def count(self) -> int:
        return self._count

    def read(self, positions: Sequence[int] | None) -> Iterator[RawFrame]:
        for index in range(self._count) if positions is None else positions:
            feeds = {name: np.asarray(array[index]) for name, array in self.arrays.items()}
            label = None if self.labels is None else as_label(self.labels[index], self.place)
            yield RawFrame(f"frame {index}", feeds, label)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name}:{array.dtype}:{array.shape}".encode())
            for entry in array:
                digest.update(np.ascontiguousarray(entry).tobytes())
        return digest.hexdigest()

    def describe(self) -> str:
        return self.place


class IterableSource(RawSource):
    """Frames of a callable that is called anew for every pass, or of an iterable that can be read again.

    Args:
        make: gives the frames: arrays, or mappings from input names to arrays, with or without a label.
        inputs: what the network wants.
        count: how many there are, if that is known beforehand.
        place: what to call the source.
        held: the frames are in memory and the same at every pass, so that they have a fingerprint.
    """

    def __init__(
        self,
        make: Callable[[], object],
        inputs: Sequence[InputSpec],
        count: int | None,
        place: str,
        *,
        held: bool = False,
    ) -> None:
        self.make = make
        self.inputs = tuple(inputs)
        self._count = count
        self.place = place
        self.held = held

    @property
    def count(self) -> int | None:
        return self._count

    def read(self, positions: Sequence[int] | None) -> Iterator[RawFrame]:
        wanted = None if positions is None else set(positions)
        last = None if wanted is None else max(wanted, default=-1)
        try:
            for index, item in enumerate(self._items()):
                if wanted is None or index in wanted:
                    arrays, label = self._parts(item, f"{self.place}, frame {index}")
                    yield RawFrame(f"frame {index}", arrays, label)
                if index == last:
                    return
        except DataError:
            raise
        except (
            Exception,
            SystemExit,
        ) as error:  # the status of one that ends the program would pass for ours
            raise DataError(f"raised {type(error).__name__}: {error}", place=self.place) from error

    def _items(self) -> Iterable[Any]:
        """The frames; those of a mapping of arrays lie along the first axis."""
        made = self.make()
        if is_mapping(made):
            arrays = {str(name): np.asarray(array) for name, array in made.items()}
            count = common_length({name: array.shape for name, array in arrays.items()}, self.place)
            return ({name: array[index] for name, array in arrays.items()} for index in range(count))
        if not is_iterable(made):
            raise DataError(f"gave {type(made).__name__}, expected frames to iterate over", place=self.place)
        return made

    def _parts(self, item: Any, place: str) -> tuple[Mapping[str, Array], Label]:
        if is_mapping(item):
            arrays = {str(name): np.asarray(array) for name, array in item.items()}
            name = label_name(arrays, self.inputs)
            return arrays, None if name is None else as_label(arrays.pop(name), place)
        hint = "for labels and several inputs, give a mapping by name, the label under the name label"
        found = type(item).__name__
        if is_sequence(item) and len({np.shape(part) for part in item}) > 1:
            raise DataError(f"expected one array, found a {found} of several", place=place, hint=hint)
        array = np.asarray(item)
        if array.dtype == object:
            raise DataError(
                f"expected an array or a mapping of arrays, found {found}", place=place, hint=hint
            )
        return {"": array}, None

    def fingerprint(self) -> str | None:
        if not self.held:
            return None
        digest = hashlib.sha256()
        for frame in self.read(None):
            for name, array in sorted(frame.arrays.items()):
                digest.update(f"{frame.name}:{name}:{array.dtype}:{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def describe(self) -> str:
        return self.place


class RandomSource(RawSource):
    """Normally distributed numbers; the same ones for the same seed."""

    synthetic = True

    def __init__(self, inputs: Sequence[InputSpec], count: int, seed: int) -> None:
        self.inputs = tuple(inputs)
        self._count = count
        self.seed = seed

    @property
    def count(self) -> int:
        return self._count

    def read(self, positions: Sequence[int] | None) -> Iterator[RawFrame]:
        for index in range(self._count) if positions is None else positions:
            generator = np.random.default_rng([self.seed, index])
            yield RawFrame(f"frame {index}", {spec.name: _draw(generator, spec) for spec in self.inputs})

    def fingerprint(self) -> str:
        return hashlib.sha256(repr((self.inputs, self._count, self.seed)).encode()).hexdigest()

    def describe(self) -> str:
        return f"random:{self._count}"


def _draw(generator: np.random.Generator, spec: InputSpec) -> Array:
    if np.dtype(spec.dtype).kind == "f":
        return generator.standard_normal(spec.shape).astype(spec.dtype)
    return generator.integers(0, 2, spec.shape).astype(spec.dtype)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
