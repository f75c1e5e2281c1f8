"""What differs between two output folders."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import numpy as np

from lowtide.compiler.output import SavedOutput
from lowtide.difference import (
    WIDTH_STEP_DB,
    Difference,
    by_effect,
    scale_effect,
    shown,
    value_effect,
    width_effect,
)
from lowtide.ir import Array, Layer, Value, layers
from lowtide.quantize.operands import MacOperands, mac_operands
from lowtide.runtime import dequantize

ABSENT = "not there"
FIELDS = ("placement", "subgraph", "operator", "dtype", "bits", "weight_bits", "zero_point")
"""Fields of a layer in the report that are compared as they are."""

FIGURES = {"sqnr_isolated_db": "error alone", "sqnr_cumulative_db": "error in sum"}


@attrs.frozen
class Setting:
    """Something that was asked for, or found, and differs."""

    name: str
    before: str
    after: str


@attrs.frozen
class LatencyChange:
    """Estimated milliseconds of a layer, or of the whole network under the name ``""``."""

    layer: str
    before: float | None
    after: float | None

    @property
    def effect(self) -> float:
        """The change in milliseconds."""
        return (self.after or 0.0) - (self.before or 0.0)


@attrs.frozen
class FolderDiff:
    """Everything that differs between two output folders.

    Attributes:
        settings: versions, model, data, device, options, pipelines.
        outputs: error at the outputs, the largest change first.
        layers: placement, widths, ranges, scales, weights and error, the largest effect first.
        latency: the largest change first; empty where neither folder has an estimate.
    """

    settings: tuple[Setting, ...]
    outputs: tuple[Difference, ...]
    layers: tuple[Difference, ...]
    latency: tuple[LatencyChange, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (self.settings or self.outputs or self.layers or self.latency)


def diff_outputs(first: SavedOutput, second: SavedOutput) -> FolderDiff:
    """Compare two output folders, layers by name."""
    found = [*_pairs(first.report["layers"], second.report["layers"])]
    rows = [row for name, old, new in found for row in _layer(name, old, new)]
    return FolderDiff(
        settings=tuple(_settings(first, second)),
        outputs=by_effect(_outputs(first.report, second.report)),
        layers=by_effect([*rows, *_numbers(first, second)]),
        latency=tuple(_latency(first.report, second.report, found)),
    )


Entry = Mapping[str, Any]


def _pairs(first: list[Entry], second: list[Entry]) -> Iterator[tuple[str, Entry | None, Entry | None]]:
    """Entries of both lists by name, those of the first list first."""
    before, after = ({str(entry["name"]): entry for entry in entries} for entries in (first, second))
    for name in dict.fromkeys((*before, *after)):
        yield name, before.get(name), after.get(name)


def _settings(first: SavedOutput, second: SavedOutput) -> Iterator[Setting]:
    before, after = _asked(first), _asked(second)
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name, "-"), after.get(name, "-")
        if old != new:
            yield Setting(name, old, new)


def _asked(saved: SavedOutput) -> dict[str, str]:
    """What decides on a result, as text: each under a name of its own."""
    manifest, report = saved.manifest, saved.report
    found = {f"version of {name}": str(version) for name, version in manifest["versions"].items()}
    found |= {"model": str(manifest["model"]), "device": str(report["device"]["name"])}
    found |= {f"digest of {name}": str(digest)[:16] for name, digest in manifest["digests"].items()}
    found |= {"scale rule": str(report["device"]["scale_rule"]), "arithmetic": str(manifest["arithmetic"])}
    found["ranges from"] = str(report["ranges_from"]) or "-"
    calibration: Mapping[str, object] = report["calibration"] or {}
    found |= {
        name: str(calibration[name]) for name in ("data", "frames", "calibrator") if name in calibration
    }
    found |= {str(option["name"]): str(option["value"]) for option in report["options"]}
    return found | {f"pipeline {stage}": str(text) for stage, text in manifest["pipelines"].items()}


def _outputs(first: Entry, second: Entry) -> Iterator[Difference]:
    for name, old, new in _pairs(first["outputs"], second["outputs"]):
        if old is None or new is None:
            yield Difference(name, "", "output", _there(old), _there(new), math.inf)
            continue
        yield from _figures(name, old, new, {"sqnr_db": "error"})
        for field in ("cosine", "max_error"):
            if old[field] != new[field]:
                effect = _ratio_db(old[field], new[field]) if field == "max_error" else 0.0
                yield Difference(name, "", field, _text(old[field]), _text(new[field]), effect)


def _layer(name: str, old: Entry | None, new: Entry | None) -> Iterator[Difference]:
    if old is None or new is None:
        yield Difference(name, "", "layer", _there(old), _there(new), math.inf)
        return
    for field in FIELDS:
        if old[field] != new[field]:
            yield Difference(name, "", field, _text(old[field]), _text(new[field]), _weight(field, old, new))
    before, after = old["range"], new["range"]
    if before != after:
        effect = width_effect(tuple(before), tuple(after)) if before and after else math.inf
        yield Difference(name, "", "range", _range(before), _range(after), effect)
    yield from _figures(name, old, new, FIGURES)


def _weight(field: str, old: Entry, new: Entry) -> float:
    if field in {"bits", "weight_bits"} and old[field] and new[field]:
        return WIDTH_STEP_DB * abs(int(new[field]) - int(old[field]))
    return math.inf if field in {"placement", "operator"} else 0.0


def _ratio_db(old: object, new: object) -> float:
    before, after = _number(old), _number(new)
    known = 0 < before < math.inf and 0 < after < math.inf
    return abs(20 * math.log10(after / before)) if known else math.inf


def _figures(name: str, old: Entry, new: Entry, fields: Mapping[str, str]) -> Iterator[Difference]:
    """Signal-to-noise ratios: the effect is the change itself."""
    for field, words in fields.items():
        before, after = _number(old[field]), _number(new[field])
        if before == after or (math.isnan(before) and math.isnan(after)):
            continue
        change = abs(after - before)
        effect = math.inf if math.isnan(change) else change
        yield Difference(name, "", words, _db(before), _db(after), effect)


def _numbers(first: SavedOutput, second: SavedOutput) -> Iterator[Difference]:
    """Scales of activations, and scales and values of weights and biases, which only the graphs have."""
    others = {layer.name: layer for layer in layers(second.graph)}
    for layer in layers(first.graph):
        other = others.get(layer.name)
        if other is None:
            continue
        yield from _scales(layer.name, "output", layer.output, other.output)
        mine, theirs = _operands(layer), _operands(other)
        if mine is None or theirs is None:
            continue
        yield from _constants(layer.name, "weights", mine.weights, theirs.weights)
        if mine.bias is not None and theirs.bias is not None:
            yield from _constants(layer.name, "bias", mine.bias, theirs.bias)
        elif mine.bias is not theirs.bias:
            yield Difference(layer.name, "bias", "tensor", _there(mine.bias), _there(theirs.bias), math.inf)
    for value, other_input in zip(first.graph.inputs, second.graph.inputs, strict=False):
        yield from _scales(value.name, "input", value, other_input)


def _operands(layer: Layer) -> MacOperands | None:
    return mac_operands(layer.nodes[0])


def _scales(layer: str, tensor: str, before: Value, after: Value) -> Iterator[Difference]:
    old, new = before.type.quant, after.type.quant
    if old is not None and new is not None and old.scale != new.scale:
        effect = scale_effect(old.scale, new.scale)
        yield Difference(layer, tensor, "scale", shown(old.scale), shown(new.scale), effect)


def _constants(layer: str, tensor: str, before: Value, after: Value) -> Iterator[Difference]:
    if tensor == "weights":  # the scale of a bias follows from this one
        yield from _scales(layer, tensor, before, after)
    old, new = _values(before), _values(after)
    if old.shape != new.shape:
        yield Difference(layer, tensor, "shape", str(list(old.shape)), str(list(new.shape)), math.inf)
    elif not np.array_equal(old, new):
        share = f"{np.count_nonzero(old != new) / old.size:.1%} of the numbers moved"
        yield Difference(layer, tensor, "values", "-", share, value_effect(old, new))


def _values(value: Value) -> Array:
    """The real numbers of a constant."""
    assert value.constant is not None  # noqa: S101 - operands of layers are constants
    array = value.constant.array()
    return array if value.type.quant is None else dequantize(array, value.type.quant)


def _latency(
    first: Entry, second: Entry, found: list[tuple[str, Entry | None, Entry | None]]
) -> list[LatencyChange]:
    rows = [("", first, second), *found]
    changes = [
        LatencyChange(name, (old or {}).get("latency_ms"), (new or {}).get("latency_ms"))
        for name, old, new in rows
    ]
    return sorted((row for row in changes if row.before != row.after), key=lambda row: -abs(row.effect))


# --- words ---


def _there(entry: object) -> str:
    return ABSENT if entry is None else "there"


def _number(value: object) -> float:
    return math.nan if value is None else float(str(value))


def _text(value: object) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _db(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f} dB"


def _range(ends: list[float] | None) -> str:
    return f"{ends[0]:g} to {ends[1]:g}" if ends else "-"
