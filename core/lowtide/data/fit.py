"""Samples fitted to the inputs of a network, and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import attrs
import numpy as np

from lowtide.data.source import Array, Frame, InputSpec, Label, RawFrame, RawSource, evenly_spread
from lowtide.diagnostics import Diagnostics
from lowtide.errors import DataError, counted, nearest


@attrs.frozen
class BadFrame:
    """A sample that is no frame for the network, and why."""

    name: str
    error: DataError


@attrs.frozen(eq=False)
class DataSource:
    """Frames that fit a network, in a fixed order, one at a time.

    Attributes:
        inputs: what every frame is fitted to.
        positions: the chosen samples of the source; ``None`` for all.
        labels: labels by position that replace those of the source.
    """

    raw: RawSource
    inputs: tuple[InputSpec, ...]
    diagnostics: Diagnostics
    positions: tuple[int, ...] | None = None
    labels: Sequence[Label] | None = None

    @property
    def count(self) -> int | None:
        """How many frames there are; ``None`` when only reading them tells."""
        return self.raw.count if self.positions is None else len(self.positions)

    @property
    def synthetic(self) -> bool:
        """Whether the frames are random numbers."""
        return self.raw.synthetic

    def select(self, count: int) -> DataSource:
        """An evenly spread, fixed subset of at most `count` frames.

        A source of unknown length is read once to count its frames.

        Raises:
            DataError: when `count` is not positive.
        """
        if count < 1:
            raise DataError(f"expected at least one frame, found {count}", place=self.describe())
        chosen = self._chosen()
        picked = tuple(chosen[index] for index in evenly_spread(len(chosen), count))
        return attrs.evolve(self, positions=picked)

    def hold_out(self, count: int) -> tuple[DataSource, DataSource]:
        """Two fixed parts without a common frame: most of the frames, and `count` evenly spread ones.

        A source of unknown length is read once to count its frames.
        """
        chosen = self._chosen()
        # The middle of each of `count` equal parts.
        out = {(2 * part + 1) * len(chosen) // (2 * count) for part in range(count)}
        kept = tuple(position for index, position in enumerate(chosen) if index not in out)
        held = tuple(position for index, position in enumerate(chosen) if index in out)
        return attrs.evolve(self, positions=kept), attrs.evolve(self, positions=held)

    def _chosen(self) -> tuple[int, ...]:
        """The positions of all frames in the source."""
        if self.positions is not None:
            return self.positions
        total = self.raw.count
        return tuple(range(sum(1 for _ in self.raw.read(None)) if total is None else total))

    def fingerprint(self) -> str | None:
        """SHA-256 of all that decides on the frames; ``None`` when that cannot be known without a run."""
        found = self.raw.fingerprint()
        if found is None:
            return None
        return hashlib.sha256(f"{found}:{self.positions}:{self.inputs}".encode()).hexdigest()

    def describe(self) -> str:
        """Where the frames come from, for the report."""
        return self.raw.describe()

    def frames(self) -> Iterator[Frame]:
        """The frames, checked; may be called again and again.

        Raises:
            DataError: naming the frame that does not fit, holds NaN or infinity, or if there is none at all.
        """
        seen = 0
        for raw in self.raw.read(self.positions):
            yield self._frame(raw, seen)
            seen += 1
        if not seen:
            raise DataError("there are no frames", place=self.describe())
        if self.count is not None and seen != self.count:
            raise DataError(
                f"expected {counted(self.count, 'frame')}, found {seen}",
                place=self.describe(),
                hint="every pass must give the same frames",
            )
        if self.labels is not None and self.positions is None and seen != len(self.labels):
            raise DataError(
                f"{counted(len(self.labels), 'label')} for {counted(seen, 'frame')}", place=self.describe()
            )

    def attempts(self) -> Iterator[Frame | BadFrame]:
        """All frames, also those that do not fit, each with what `frames` would raise for it.

        Raises:
            DataError: when the source cannot go on after a frame that it cannot read.
        """
        names, seen = self.raw.names(), 0
        reader = self.raw.read(self.positions)
        while True:
            try:
                raw = next(reader)
            except StopIteration:
                return
            except DataError as error:
                if names is None:
                    raise
                positions = range(len(names)) if self.positions is None else self.positions
                yield BadFrame(names[positions[seen]], error)
                seen += 1
                reader = self.raw.read(tuple(positions[seen:]))
                continue
            try:
                yield self._frame(raw, seen)
            except DataError as error:
                yield BadFrame(raw.name, error)
            seen += 1

    def _frame(self, raw: RawFrame, seen: int) -> Frame:
        origin = raw.label_from if self.labels is None else ""
        return Frame(raw.name, self._feeds(raw), self._label(raw, seen), origin)

    def _label(self, raw: RawFrame, seen: int) -> Label:
        if self.labels is None:
            return raw.label
        position = seen if self.positions is None else self.positions[seen]
        if position >= len(self.labels):
            raise DataError(
                f"{counted(len(self.labels), 'label')} given, none for this frame", place=raw.name
            )
        return self.labels[position]

    def _feeds(self, raw: RawFrame) -> dict[str, Array]:
        arrays = dict(raw.arrays)
        if set(arrays) == {""} and len(self.inputs) == 1:
            arrays = {self.inputs[0].name: arrays[""]}
            if raw.other_name:
                self.diagnostics.info(
                    "LT767",
                    self.describe(),
                    f"the array {raw.other_name!r} is taken for {self.inputs[0].name!r}",
                )
        check_names(arrays, self.inputs, raw.name)
        return {spec.name: self._fit(arrays[spec.name], spec, raw.name) for spec in self.inputs}

    def _fit(self, array: Array, spec: InputSpec, frame: str) -> Array:
        place = f"{frame}, input {spec.name}"
        if array.dtype.kind not in "fiub":
            raise DataError(f"expected {spec.dtype}, found {array.dtype}", place=place)
        shaped = self._shaped(array, spec, place)
        if shaped.dtype.kind == "f":
            _check_finite(shaped, place)
        if shaped.size > 1 and bool((shaped == shaped.flat[0]).all()):
            self.diagnostics.warning(
                "LT752", place, f"every element is {shaped.flat[0]}", "is this frame what it should be?"
            )
        return _cast(shaped, np.dtype(spec.dtype), place)

    def _shaped(self, array: Array, spec: InputSpec, place: str) -> Array:
        # The batch axis, and the channel axis of grey pictures, are often left out: no element moves.
        if _long_axes(array.shape) == _long_axes(spec.shape):
            return array.reshape(spec.shape)
        batched = array[None] if array.ndim == 3 else array
        if batched.ndim == len(spec.shape) == 4:
            for order, words in (
                ((0, 3, 1, 2), "NHWC, the input wants NCHW"),
                ((0, 2, 3, 1), "NCHW, the input wants NHWC"),
            ):
                if batched.transpose(order).shape == spec.shape:
                    self.diagnostics.info("LT751", spec.name, f"frames are {words}: transposed")
                    return batched.transpose(order)
        raise DataError(
            f"expected the shape {list(spec.shape)} or {list(spec.shape[1:])}, found {list(array.shape)}",
            place=place,
            hint="in an array of frames the first axis counts them"
            if array.ndim < len(spec.shape) - 1
            else "",
        )


def check_names(names: Sequence[str] | dict[str, Array], inputs: Sequence[InputSpec], place: str) -> None:
    """Check that there is one array for every input.

    Raises:
        DataError: naming an array that belongs to no input, or an input without an array.
    """
    wanted = [spec.name for spec in inputs]
    for name in names:
        if name not in wanted:
            what = f"the array {name!r}" if name else "an array without a name"
            raise DataError(f"{what} belongs to no input", place=place, hint=nearest(name, wanted))
    for name in wanted:
        if name not in names:
            raise DataError(f"no array for the input {name!r}", place=place, hint=nearest(name, names))


def _long_axes(shape: Sequence[int]) -> list[int]:
    return [length for length in shape if length != 1]


def _check_finite(array: Array, place: str) -> None:
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(index) for index in np.argwhere(bad)[0])
        raise DataError(
            f"NaN or infinity in {counted(int(bad.sum()), 'element')}, the first at {first}",
            place=place,
            hint="leave the frame out or mend it",
        )


def _cast(array: Array, dtype: np.dtype[np.generic], place: str) -> Array:
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            cast = np.ascontiguousarray(array, dtype)
        if not np.can_cast(array.dtype, dtype) and not np.isfinite(cast).all():
            raise DataError(f"expected {dtype}, found numbers too large for it", place=place)
        return cast
    if array.dtype.kind == "f" and bool((array != np.rint(array)).any()):
        raise DataError(f"expected {dtype}, found fractions", place=place)
    low, high = (
        (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype.name).min), int(np.iinfo(dtype.name).max))
    )
    if array.size and not (low <= int(array.min()) and int(array.max()) <= high):
        raise DataError(
            f"expected {dtype}, {low} to {high}, found {array.min()} to {array.max()}", place=place
        )
    return np.ascontiguousarray(array, dtype)
