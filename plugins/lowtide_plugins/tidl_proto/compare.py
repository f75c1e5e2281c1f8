"""What differs between two protos, by effect."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import attrs

from lowtide_plugins.tidl_proto.records import LayerParams, NetParams, TensorParams

WIDTH_STEP_DB = 48.2
"""What eight more bits are worth: 8 * 20 log10(2)."""


@attrs.frozen
class Difference:
    """One difference.

    Attributes:
        effect: how much it weighs, in dB of quantization noise; infinity where a layer has no counterpart.
    """

    layer: str
    tensor: str
    field: str
    before: str
    after: str
    effect: float


def differences(first: Sequence[NetParams], second: Sequence[NetParams]) -> tuple[Difference, ...]:
    """All differences, the largest effect first."""
    found = list(_nets(first, second))
    before = {layer.layer_name: layer for net in first for layer in net.layers}
    after = {layer.layer_name: layer for net in second for layer in net.layers}
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in after:
            found.append(Difference(name, "", "layer", before[name].layer_type, "not there", math.inf))
        elif name not in before:
            found.append(Difference(name, "", "layer", "not there", after[name].layer_type, math.inf))
        else:
            found += _layers(before[name], after[name])
    return tuple(sorted(found, key=lambda entry: -entry.effect))


def _nets(first: Sequence[NetParams], second: Sequence[NetParams]) -> Iterator[Difference]:
    if len(first) != len(second):
        yield Difference("", "", "parts", str(len(first)), str(len(second)), math.inf)
    for before, after in zip(first, second, strict=False):
        for field in ("quant_type", "calib_type"):
            old, new = getattr(before, field), getattr(after, field)
            if old != new:
                yield Difference("", "", field, old.name, new.name, math.inf)


def _layers(before: LayerParams, after: LayerParams) -> Iterator[Difference]:
    name = before.layer_name
    if before.layer_type != after.layer_type:
        yield Difference(name, "", "layer_type", before.layer_type, after.layer_type, math.inf)
    if before.bit_depth != after.bit_depth:
        step = WIDTH_STEP_DB * abs(after.bit_depth - before.bit_depth)
        yield Difference(name, "", "bit_depth", str(before.bit_depth), str(after.bit_depth), step)
    for field in ("outputs", "weights", "bias", "slope"):
        old, new = getattr(before, field), getattr(after, field)
        if len(old) != len(new):
            yield Difference(name, field, "tensors", str(len(old)), str(len(new)), math.inf)
        for at, pair in enumerate(zip(old, new, strict=False)):
            tensor = f"{field}[{at}]" if max(len(old), len(new)) > 1 else field
            yield from _tensors(name, tensor, *pair)


def _tensors(layer: str, tensor: str, before: TensorParams, after: TensorParams) -> Iterator[Difference]:
    if before.scale != after.scale:
        step = max(
            (abs(20 * math.log10(new / old)) for old, new in zip(before.scale, after.scale, strict=False)),
            default=0.0,
        )
        effect = math.inf if len(before.scale) != len(after.scale) else step
        yield Difference(layer, tensor, "scale", _shown(before.scale), _shown(after.scale), effect)
    for field in ("min", "max"):
        old, new = getattr(before, field), getattr(after, field)
        if old != new:
            yield Difference(layer, tensor, field, f"{old:g}", f"{new:g}", _range_effect(before, after))
    for field in ("zero_point", "size", "element_type", "value"):
        old, new = getattr(before, field), getattr(after, field)
        if old != new:
            effect = _value_effect(before, after) if field == "value" else 0.0
            yield Difference(layer, tensor, field, _shown(old), _shown(new), effect)


def _range_effect(before: TensorParams, after: TensorParams) -> float:
    old, new = before.max - before.min, after.max - after.min
    return abs(20 * math.log10(new / old)) if old > 0 and new > 0 else 0.0


def _value_effect(before: TensorParams, after: TensorParams) -> float:
    """How far a bias moved, relative to its largest entry."""
    if len(before.value) != len(after.value):
        return math.inf
    largest = max(map(abs, before.value), default=0.0)
    moved = max((abs(new - old) for old, new in zip(before.value, after.value, strict=True)), default=0.0)
    return 20 * math.log10(1 + moved / largest) if largest else 0.0


def _shown(entries: float | Sequence[float]) -> str:
    if isinstance(entries, int | float):
        return str(entries)
    numbers = list(entries)
    if len(numbers) > 1:
        return f"{len(numbers)} entries, {min(numbers):g} to {max(numbers):g}"
    return f"{numbers[0]:g}" if numbers else "-"
