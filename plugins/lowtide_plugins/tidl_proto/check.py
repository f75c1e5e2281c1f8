"""Holds a proto against a network, strictly: the vendor's tool calibrates again in silence, we say why."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

import attrs

from lowtide.errors import counted, nearest
from lowtide_plugins.tidl_proto.expected import Entry
from lowtide_plugins.tidl_proto.records import (
    LARGEST,
    CalibType,
    LayerParams,
    NetParams,
    QuantType,
    TensorParams,
)

DEPTHS = (1, 2)
SENTINEL = 0.999 * LARGEST
"""A minimum below minus this, or a maximum above it, was never set."""

SUGGESTIONS = 10
"""How many unknown layers get a suggestion."""


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
        text = f"num_layers says {net.num_layers}, found {counted(len(net.layers), 'layer')}"
        yield Problem("", "", text, "missing" if len(net.layers) < net.num_layers else "wrong")
    if net.quant_type is QuantType.ASYMMETRIC and not asymmetric:
        yield Problem("", "", "quant_type is ASYMMETRIC, the scale rule is symmetric", "wrong")
    names = Counter(layer.layer_name for layer in net.layers)
    for name, count in names.items():
        if count > 1:
            yield Problem(name, "", f"occurs {count} times", "wrong")
    strangers = [name for name in names if name not in known]
    for at, name in enumerate(strangers):
        # Likeness costs time in proportion to the network, and files may have any number of strangers.
        hint = f" ({nearest(name, known)})" if at < SUGGESTIONS else ""
        yield Problem(name, "", f"the network has no such layer{hint}", "wrong")
    for layer in net.layers:
        if layer.layer_name in known and names[layer.layer_name] == 1:
            yield from _layer(net, layer, known[layer.layer_name])
    for name in known:
        if name not in names:
            yield Problem(name, "", "is not in the file", "missing")


def _layer(net: NetParams, layer: LayerParams, entry: Entry) -> Iterator[Problem]:
    name = layer.layer_name
    if entry.layer_type and layer.layer_type != entry.layer_type:
        text = f"layer_type is {layer.layer_type!r}, in the network it is {entry.layer_type}"
        yield Problem(name, "", text, "wrong")
    if layer.bit_depth not in DEPTHS:
        yield Problem(name, "", f"bit_depth is {layer.bit_depth}; it counts bytes, 1 or 2", "wrong")
    symmetric = net.quant_type is QuantType.SYMMETRIC
    yield from _count(name, "outputs", len(layer.outputs), len(entry.values))
    for at, tensor in enumerate(layer.outputs):
        yield from _tensor(name, f"outputs[{at}]", tensor, scales=1, symmetric=symmetric)
    yield from _count(name, "weights", len(layer.weights), int(entry.operands is not None))
    for tensor in layer.weights:
        several = net.calib_type is CalibType.PERCHANNEL and tensor.size > 1
        scales = entry.channels if several else 1
        yield from _tensor(name, "weights", tensor, scales=scales, symmetric=True)
    yield from _biases(layer, entry)
    yield from _count(name, "slope", len(layer.slope), int(entry.slope is not None), least=0)
    for tensor in layer.slope:
        yield from _tensor(name, "slope", tensor, scales=1, symmetric=symmetric)


def _count(layer: str, tensor: str, found: int, most: int, *, least: int | None = None) -> Iterator[Problem]:
    if found < (most if least is None else least):
        yield Problem(layer, tensor, f"{found} of {counted(most, 'tensor')}", "missing")
    elif found > most:
        yield Problem(layer, tensor, f"{counted(found, 'tensor')}, the layer has {most}", "wrong")


def _tensor(
    layer: str, name: str, tensor: TensorParams, *, scales: int, symmetric: bool
) -> Iterator[Problem]:
    yield from _limits(layer, name, tensor)
    if tensor.size != scales:
        yield Problem(layer, name, f"size is {tensor.size}, expected {scales}", "wrong")
    for field, count in (("scale", len(tensor.scale)), ("zero_point", len(tensor.zero_point))):
        if count not in {0, scales}:
            yield Problem(
                layer, name, f"{counted(count, 'entry', 'entries')} of {field}, expected {scales}", "wrong"
            )
    bad = [scale for scale in tensor.scale if not (math.isfinite(scale) and scale > 0)]
    if bad:
        yield Problem(layer, name, f"a scale is {bad[0]}; scales are positive", "wrong")
    if symmetric and any(tensor.zero_point):
        text = f"zero_point is {max(tensor.zero_point)}, symmetric codes have 0"
        yield Problem(layer, name, text, "wrong")


def _limits(layer: str, name: str, tensor: TensorParams) -> Iterator[Problem]:
    for which, number in (("min", tensor.min), ("max", tensor.max)):
        if not math.isfinite(number):
            yield Problem(layer, name, f"{which} is {number}", "wrong")
        elif abs(number) >= SENTINEL:
            yield Problem(layer, name, f"{which} was never set", "missing")
    if tensor.min > tensor.max:
        yield Problem(layer, name, f"min {tensor.min:g} is above max {tensor.max:g}", "wrong")


def _biases(layer: LayerParams, entry: Entry) -> Iterator[Problem]:
    """A bias that only the file has is one that was made by correction; a MatMul cannot have any."""
    possible = entry.operands is not None and entry.node is not None and entry.node.op != "MatMul"
    needed = entry.operands is not None and entry.operands.bias is not None
    yield from _count(layer.layer_name, "bias", len(layer.bias), int(possible), least=int(needed))
    for tensor in layer.bias if possible else ():
        yield from _bias(layer.layer_name, tensor, entry.channels)


def _bias(layer: str, tensor: TensorParams, channels: int) -> Iterator[Problem]:
    yield from _limits(layer, "bias", tensor)
    if tensor.size != channels:
        yield Problem(
            layer, "bias", f"size is {tensor.size}, the layer has {counted(channels, 'channel')}", "wrong"
        )
    if len(tensor.value) != tensor.size:
        kind: Literal["missing", "wrong"] = "wrong" if tensor.value else "missing"
        yield Problem(
            layer,
            "bias",
            f"{counted(len(tensor.value), 'entry', 'entries')} of value, size is {tensor.size}",
            kind,
        )
    if any(not math.isfinite(number) for number in tensor.value):
        yield Problem(layer, "bias", "a value is NaN or infinite", "wrong")
