"""The statistics of all tensors over some frames."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

import attrs
import numpy as np

from lowtide.calibrate.api import Statistic, TensorInfo
from lowtide.calibrate.probes import Observation
from lowtide.diagnostics import Diagnostic, Severity
from lowtide.ir import Array
from lowtide.plugin import plugin_code


@attrs.define
class Tally:
    """Statistics that grow frame by frame, or by merging.

    Attributes:
        kinds: which statistics.
        infos: of which tensors.
        statistics: by tensor, then by name.
        frames: how many frames were seen.
        array_frames: how many of them whole.
        notes: what was found out about them while they were read.
    """

    kinds: Sequence[type[Statistic]]
    infos: Sequence[TensorInfo]
    statistics: dict[str, dict[str, Statistic]]
    frames: int = 0
    array_frames: int = 0
    notes: tuple[Diagnostic, ...] = ()

    @classmethod
    def empty(cls, kinds: Sequence[type[Statistic]], infos: Sequence[TensorInfo]) -> Tally:
        """One that has seen nothing.

        Raises:
            PluginError: as `update`.
        """
        return cls(
            kinds, infos, {info.name: {kind.name: _made(kind, info) for kind in kinds} for info in infos}
        )

    def update(self, seen: Observation) -> None:
        """Take in one frame.

        Raises:
            PluginError: naming a statistic that fails, and the tensor.
        """
        self.frames += 1
        self.array_frames += seen.arrays is not None
        for tensor, accumulators in self.statistics.items():
            for accumulator in accumulators.values():
                with _code_of(type(accumulator), tensor):
                    if accumulator.wants == "extremes":
                        accumulator.update(seen.extremes[tensor])
                    elif seen.arrays is not None:
                        accumulator.update(seen.arrays[tensor])

    def merge(self, later: Tally) -> None:
        """Take in what was seen on later frames."""
        self.frames += later.frames
        self.array_frames += later.array_frames
        for tensor, accumulators in self.statistics.items():
            for name, accumulator in accumulators.items():
                with _code_of(type(accumulator), tensor):
                    accumulator.merge(later.statistics[tensor][name])

    def save(self) -> dict[str, Array]:
        """The state as arrays, for `load`; names hold no tensor names, which may hold anything.

        Raises:
            PluginError: as `update`, and for a state that is no arrays by name.
        """
        saved: dict[str, Array] = {
            "frames": np.array([self.frames, self.array_frames]),
            "notes": np.array(json.dumps([attrs.astuple(note) for note in self.notes])),
        }
        for position, (tensor, accumulators) in enumerate(self.statistics.items()):
            for name, accumulator in accumulators.items():
                with _code_of(type(accumulator), tensor):
                    state = {part: _plain(data) for part, data in accumulator.save().items()}
                saved |= {f"{position}/{name}/{part}": data for part, data in state.items()}
        return saved

    @classmethod
    def load(
        cls, kinds: Sequence[type[Statistic]], infos: Sequence[TensorInfo], saved: Mapping[str, Array]
    ) -> Tally:
        """What `save` has written.

        Raises:
            LookupError: when something is missing.
            ValueError: when an array is not what its statistic expects.
            TypeError: the same.
            PluginError: when a statistic fails with anything else.
        """
        made = cls.empty(kinds, infos)
        made.frames, made.array_frames = (int(entry) for entry in saved["frames"])
        made.notes = tuple(_notes(json.loads(str(saved["notes"]))))
        parts: dict[tuple[str, str], dict[str, Array]] = {}
        for path, data in saved.items():
            if path not in ("frames", "notes"):
                position, name, part = path.split("/", 2)
                parts.setdefault((position, name), {})[part] = data
        for number, info in enumerate(infos):
            for kind in kinds:
                found = parts.get((f"{number}", kind.name), {})
                with _code_of(kind, info.name, passing=(LookupError, ValueError, TypeError)):
                    made.statistics[info.name][kind.name] = kind.load(info, found)
        return made


def _notes(saved: Iterable[Sequence[str]]) -> Iterable[Diagnostic]:
    for severity, *texts in saved:
        yield Diagnostic(Severity(severity), *texts)


def _made(kind: type[Statistic], info: TensorInfo) -> Statistic:
    with _code_of(kind, info.name):
        return kind(info)


def _plain(data: object) -> Array:
    """An array as files can hold it.

    Raises:
        TypeError: for anything else.
    """
    array = np.asanyarray(data)
    if array.dtype.hasobject:
        raise TypeError(f"save should return arrays of numbers by name, found {data!r}")
    return array


def _code_of(
    kind: type[Statistic], tensor: str, *, passing: tuple[type[Exception], ...] = ()
) -> AbstractContextManager[None]:
    return plugin_code(f"the statistic {kind.name} of {kind.__module__}, tensor {tensor}", passing=passing)
