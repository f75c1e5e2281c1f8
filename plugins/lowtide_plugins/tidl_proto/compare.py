"""What differs between two protos, by effect."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from lowtide.difference import (
    WIDTH_STEP_DB,
    Comparison,
    Difference,
    by_effect,
    scale_effect,
    shown,
    value_effect,
    width_effect,
)
from lowtide.errors import OutputError
from lowtide_plugins.tidl_proto.records import LayerParams, NetParams, TensorParams
from lowtide_plugins.tidl_proto.text import read


@attrs.frozen
class TidlProtoComparison(Comparison):
    """Compares two quantization protos, or those of output folders."""

    def differences(self, first: Path, second: Path) -> tuple[Difference, ...]:
        """See `Comparison.differences`."""
        return differences(_read_all(first), _read_all(second))


def _read_all(path: Path) -> list[NetParams]:
    if not path.is_dir():
        return [read(path)]
    files = sorted(path.glob("quant_params*.prototxt"))
    if not files:
        raise OutputError(
            "holds no quantization proto", place=str(path), hint="compile for one of the vendor's devices"
        )
    return [read(file) for file in files]


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
    return by_effect(found)


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
        step = 8 * WIDTH_STEP_DB * abs(after.bit_depth - before.bit_depth)
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
        effect = scale_effect(before.scale, after.scale)
        yield Difference(layer, tensor, "scale", shown(before.scale), shown(after.scale), effect)
    for field in ("min", "max"):
        old, new = getattr(before, field), getattr(after, field)
        if old != new:
            effect = width_effect((before.min, before.max), (after.min, after.max))
            yield Difference(layer, tensor, field, f"{old:g}", f"{new:g}", effect)
    for field in ("zero_point", "size", "element_type", "value"):
        old, new = getattr(before, field), getattr(after, field)
        if old != new:
            effect = value_effect(before.value, after.value) if field == "value" else 0.0
            yield Difference(layer, tensor, field, shown(old), shown(new), effect)
