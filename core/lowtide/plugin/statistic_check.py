"""The contract of calibrators and the statistics that they ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from lowtide.calibrate import Calibrator, Extremes, NumberFormat, Range, Statistic, TensorInfo
from lowtide.errors import PluginError
from lowtide.ir import Array
from lowtide.plugin.registry import Registry
from lowtide.plugin.specs import StatisticSpec

_FORMATS = (
    *(NumberFormat(*choice) for choice in product((8, 16), (False, True), (False, True))),
    *(
        NumberFormat(bits, symmetric=True, power_of_two=False, shift_only=True, accumulator=accumulator)
        for bits, accumulator in product((8, 16), (None, 3e-5))
    ),
)


def check_statistic(statistic: type[Statistic], frames: Sequence[Array] | None = None) -> None:
    """Check that an accumulator keeps its contract.

    Args:
        statistic: the class.
        frames: what one tensor ``[N, C, ...]`` is in each frame, float32; built-in ones by default.

    Raises:
        PluginError: when the state depends on how frames are split among merged objects, does not survive
            `save` and `load`, or when `update` or `merge` change their argument.
    """
    for seen in _tensors(frames):
        _check_split(statistic, seen)


def check_calibrator(
    calibrator: Calibrator, registry: Registry, frames: Sequence[Array] | None = None
) -> None:
    """Check a calibrator, and the statistics that it reads.

    Args:
        calibrator: with the options that it should be checked with.
        registry: provides the statistics.
        frames: as for `check_statistic`; the built-in ones contain tensors of one sign, of zeros only, and of
            widely different channels.

    Raises:
        PluginError: when a range is not finite and ordered or depends on how the frames are split, for any
            number format; or as `check_statistic` does.
    """
    kinds: dict[str, type[Statistic]] = {
        name: registry.load(StatisticSpec, name) for name in calibrator.statistics
    }
    for kind in kinds.values():
        check_statistic(kind, frames)
    place = f"calibrator {calibrator.name}"
    for seen in _tensors(frames):
        whole = {name: _accumulated(kind, seen) for name, kind in kinds.items()}
        merged = {name: _merged(kind, seen, len(seen) // 2) for name, kind in kinds.items()}
        for fmt in _FORMATS:
            found = calibrator.range(whole, fmt)
            _check_range(found, fmt, place)
            if calibrator.range(merged, fmt) != found:
                raise PluginError("the range depends on how frames are split", place=place)


def _check_range(found: object, fmt: NumberFormat, place: str) -> None:
    if not isinstance(found, Range):
        raise PluginError(f"range should return a Range, found {found!r}", place=place)
    if not (math.isfinite(found.min) and math.isfinite(found.max) and found.min <= found.max):
        raise PluginError(f"a range is finite and min <= max, found {found} for {fmt}", place=place)


def _check_split(statistic: type[Statistic], seen: Sequence[Array]) -> None:
    place = f"statistic {statistic.name}"
    whole = _accumulated(statistic, seen)
    state = _copied(whole.save())
    again = statistic.load(whole.info, state)
    if not _same(again.save(), state):
        raise PluginError("save and load do not keep the state", place=place)
    for cut in range(len(seen) + 1):
        if not _same(_merged(statistic, seen, cut).save(), state):
            raise PluginError(
                f"the state depends on how frames are split: after {cut} of {len(seen)} it differs",
                place=place,
            )


def _accumulated(statistic: type[Statistic], seen: Sequence[Array]) -> Statistic:
    made = statistic(_info(seen))
    for frame in seen:
        observed: Any = _extremes(frame) if statistic.wants == "extremes" else frame
        before = _copied(_arrays(observed))
        made.update(observed)
        if not _same(_arrays(observed), before):
            raise PluginError("update changes what it is given", place=f"statistic {statistic.name}")
    return made


def _merged(statistic: type[Statistic], seen: Sequence[Array], cut: int) -> Statistic:
    made, later = statistic(_info(seen)), statistic(_info(seen))
    for part, target in ((seen[:cut], made), (seen[cut:], later)):
        for frame in part:
            target.update(_extremes(frame) if statistic.wants == "extremes" else frame)
    before = _copied(later.save())
    made.merge(later)
    if not _same(later.save(), before):
        raise PluginError("merge changes its argument", place=f"statistic {statistic.name}")
    return made


def _info(seen: Sequence[Array]) -> TensorInfo:
    nonnegative = all(float(frame.min()) >= 0 for frame in seen)
    return TensorInfo("checked", seen[0].shape, 1 if seen[0].ndim > 1 else None, nonnegative)


def _extremes(frame: Array) -> Extremes:
    data = np.asarray(frame, np.float32)
    if data.ndim < 2:
        return Extremes(data.min(keepdims=True).reshape(1), data.max(keepdims=True).reshape(1))
    others = tuple(axis for axis in range(data.ndim) if axis != 1)
    return Extremes(data.min(others), data.max(others))


def _arrays(observed: Any) -> dict[str, Array]:
    return {"min": observed.min, "max": observed.max} if isinstance(observed, Extremes) else {"": observed}


def _copied(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: np.array(array) for name, array in arrays.items()}


def _same(left: Mapping[str, Array], right: Mapping[str, Array]) -> bool:
    def key(array: Array) -> tuple[Any, ...]:
        data = np.asarray(array)
        return data.dtype.str, data.shape, data.tobytes()

    return {name: key(array) for name, array in left.items()} == {
        name: key(array) for name, array in right.items()
    }


def _tensors(frames: Sequence[Array] | None) -> Sequence[Sequence[Array]]:
    if frames is not None:
        return [frames]
    random = np.random.default_rng(20240501)
    spread = np.array([1e-3, 1.0, 1e3], np.float32).reshape(1, 3, 1, 1)
    signed = [random.standard_normal((1, 3, 4, 5), np.float32) * spread for _ in range(5)]
    shapers: tuple[Callable[[Array], Array], ...] = (
        lambda data: data,
        np.abs,
        lambda data: -np.abs(data),
        np.zeros_like,
    )
    return [[shape(frame) for frame in signed] for shape in shapers]
