"""Holds a proto against a network, strictly: the vendor's tool calibrates again in silence, we say why."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import attrs

from lowtide.errors import nearest
from lowtide_plugins.tidl_proto.expected import DATA_LAYER, Entry
from lowtide_plugins.tidl_proto.records import LARGEST, CalibType, LayerParams, NetParams, TensorParams

DEPTHS = (1, 2)
SENTINEL = 0.999 * LARGEST
"""A minimum below minus this, or a maximum above it, was never set."""


@attrs.frozen
class Problem:
    """Something that keeps a proto from being used.

    Attributes:
        kind: ``missing`` is what calibration could fill in, ``wrong`` is what it could not.
    """

    layer: str
    tensor: str
    message: str
    kind: Literal["missing", "wrong"]

    def __str__(self) -> str:
        where = f"layer {self.layer}" if self.layer else "the file"
        return f"{where}{', ' if self.tensor else ''}{self.tensor}: {self.message}"


def problems(net: NetParams, part: Sequence[Entry], *, asymmetric: bool) -> Iterator[Problem]:
    """Everything that is wrong or missing, in the order of the file, then of the network."""
    known = {entry.name: entry for entry in part}
    if net.num_layers != len(net.layers):
        text = f"num_layers says {net.num_layers}, there are {len(net.layers)} layers"
        yield Problem("", "", text, "wrong")
    if net.quant_type.name == "ASYMMETRIC" and not asymmetric:
        yield Problem("", "", "quant_type is ASYMMETRIC, the scale rule is symmetric", "wrong")
    names = Counter(layer.layer_name for layer in net.layers)
    for layer in net.layers:
        if names[layer.layer_name] > 1:
            yield Problem(layer.layer_name, "", f"occurs {names[layer.layer_name]} times", "wrong")
        entry = known.get(layer.layer_name)
        if entry is None:
            hint = nearest(layer.layer_name, known)
            yield Problem(layer.layer_name, "", f"the network has no such layer ({hint})", "wrong")
        else:
            yield from _layer(net, layer, entry)
    for name in known:
        if name not in names:
            yield Problem(name, "", "is not in the file", "missing")


def _layer(net: NetParams, layer: LayerParams, entry: Entry) -> Iterator[Problem]:
    name = layer.layer_name
    if layer.layer_type != entry.layer_type:
        text = f"layer_type is {layer.layer_type!r}, in the network it is {entry.layer_type}"
        yield Problem(name, "", text, "wrong")
    if layer.bit_depth not in DEPTHS:
        yield Problem(name, "", f"bit_depth is {layer.bit_depth}; it counts bytes, 1 or 2", "wrong")
    yield from _count(name, "outputs", len(layer.outputs), len(entry.values))
    for at, tensor in enumerate(layer.outputs):
        yield from _tensor(name, f"outputs[{at}]", tensor, scales=1)
    weights = int(entry.operands is not None)
    yield from _count(name, "weights", len(layer.weights), weights)
    for tensor in layer.weights:
        several = net.calib_type is CalibType.PERCHANNEL and tensor.size > 1
        yield from _tensor(name, "weights", tensor, scales=entry.channels if several else 1)
    if entry.operands is not None and entry.operands.bias is not None:
        yield from _count(name, "bias", len(layer.bias), 1)
    for tensor in layer.bias:
        yield from _bias(name, tensor, entry)


def _count(layer: str, tensor: str, found: int, expected: int) -> Iterator[Problem]:
    if found < expected:
        yield Problem(layer, tensor, f"{found} of {expected} tensors", "missing")
    elif found > expected:
        yield Problem(layer, tensor, f"{found} tensors, the layer has {expected}", "wrong")


def _tensor(layer: str, name: str, tensor: TensorParams, *, scales: int) -> Iterator[Problem]:
    for which, number in (("min", tensor.min), ("max", tensor.max)):
        if math.isnan(number) or math.isinf(number):
            yield Problem(layer, name, f"{which} is {number}", "wrong")
        elif abs(number) >= SENTINEL:
            yield Problem(layer, name, f"{which} was never set", "missing")
    if tensor.min > tensor.max:
        yield Problem(layer, name, f"min {tensor.min:g} is above max {tensor.max:g}", "wrong")
    if tensor.size != scales:
        yield Problem(layer, name, f"size is {tensor.size}, expected {scales}", "wrong")
    for field, count in (("scale", len(tensor.scale)), ("zero_point", len(tensor.zero_point))):
        if count not in {0, scales}:
            yield Problem(layer, name, f"{count} entries of {field}, expected {scales}", "wrong")
    bad = [scale for scale in tensor.scale if not (math.isfinite(scale) and scale > 0)]
    if bad:
        yield Problem(layer, name, f"a scale is {bad[0]}; scales are positive", "wrong")


def _bias(layer: str, tensor: TensorParams, entry: Entry) -> Iterator[Problem]:
    if entry.operands is None:
        yield Problem(layer, "bias", "the layer has none", "wrong")
        return
    if tensor.size != entry.channels:
        text = f"size is {tensor.size}, the layer has {entry.channels} channels"
        yield Problem(layer, "bias", text, "wrong")
    if len(tensor.value) != tensor.size:
        kind: Literal["missing", "wrong"] = "wrong" if tensor.value else "missing"
        yield Problem(layer, "bias", f"{len(tensor.value)} entries of value, size is {tensor.size}", kind)
    if any(not math.isfinite(number) for number in tensor.value):
        yield Problem(layer, "bias", "a value is NaN or infinite", "wrong")


def by_name(net: NetParams) -> Mapping[str, LayerParams]:
    """Layers by name."""
    return {layer.layer_name: layer for layer in net.layers}


__all__ = ["DATA_LAYER", "Problem", "by_name", "problems"]
