"""Samples fitted to the inputs of a network, and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import attrs
import numpy as np

from lowtide.data.source import Frame, InputSpec, Label, RawFrame, RawSource, evenly_spread
from lowtide.diagnostics import Diagnostics
from lowtide.errors import DataError, nearest
from lowtide.ir import Array


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
        """
        chosen = self.positions
        if chosen is None:
            total = self.raw.count
            chosen = tuple(range(sum(1 for _ in self.raw.read(None)) if total is None else total))
        picked = tuple(chosen[index] for index in evenly_spread(len(chosen), count))
        return attrs.evolve(self, positions=picked)

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
        positions = self.positions
        for raw in self.raw.read(positions):
            label = raw.label
            if self.labels is not None:
                label = self.labels[seen if positions is None else positions[seen]]
            yield Frame(raw.name, self._feeds(raw), label)
            seen += 1
        if not seen:
            raise DataError("there are no frames", place=self.describe())

    def _feeds(self, raw: RawFrame) -> dict[str, Array]:
        arrays = dict(raw.arrays)
        names = {spec.name for spec in self.inputs}
        if len(arrays) == 1 and len(self.inputs) == 1 and not arrays.keys() & names:
            arrays = {self.inputs[0].name: next(iter(arrays.values()))}
        for name in arrays.keys() - names:
            what = f"the array {name!r}" if name else "an array without a name"
            raise DataError(f"{what} belongs to no input", place=raw.name, hint=nearest(name, names))
        for name in names - arrays.keys():
            raise DataError(f"no array for the input {name!r}", place=raw.name, hint=nearest(name, arrays))
        return {spec.name: self._fit(arrays[spec.name], spec, raw.name) for spec in self.inputs}

    def _fit(self, array: Array, spec: InputSpec, frame: str) -> Array:
        place = f"{frame}, input {spec.name}"
        if array.dtype.kind not in "fiub":
            raise DataError(f"expected {spec.dtype}, found {array.dtype}", place=place)
        fitted = self._shaped(array, spec, place)
        if fitted.dtype.kind == "f":
            _check_finite(fitted, place)
        if fitted.size > 1 and bool((fitted == fitted.flat[0]).all()):
            self.diagnostics.warning(
                "LT752", place, f"every element is {fitted.flat[0]}", "is this frame what it should be?"
            )
        if (
            np.dtype(spec.dtype).kind != "f"
            and fitted.dtype.kind == "f"
            and (fitted != np.rint(fitted)).any()
        ):
            raise DataError(f"expected {spec.dtype}, found fractions", place=place)
        return np.ascontiguousarray(fitted, dtype=spec.dtype)

    def _shaped(self, array: Array, spec: InputSpec, place: str) -> Array:
        missing = len(spec.shape) - array.ndim
        leading = set(spec.shape[: max(missing, 0)])
        # The batch axis, and the channel axis of grey pictures, are often left out.
        for candidate in (array, array.reshape((1,) * missing + array.shape) if leading == {1} else array):
            if candidate.shape == spec.shape:
                return candidate
            if candidate.ndim == len(spec.shape) == 4:
                for order, words in (
                    ((0, 3, 1, 2), "NHWC, the input wants NCHW"),
                    ((0, 2, 3, 1), "NCHW, the input wants NHWC"),
                ):
                    if candidate.transpose(order).shape == spec.shape:
                        self.diagnostics.info("LT751", spec.name, f"frames are {words}: transposed")
                        return candidate.transpose(order)
        raise DataError(
            f"expected the shape {list(spec.shape)} or {list(spec.shape[1:])}, found {list(array.shape)}",
            place=place,
        )


def _check_finite(array: Array, place: str) -> None:
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(index) for index in np.argwhere(bad)[0])
        raise DataError(
            f"{int(bad.sum())} elements are NaN or infinite, the first at {first}",
            place=place,
            hint="leave the frame out or mend it",
        )
