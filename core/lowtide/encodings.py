"""Encodings: what is known about the numbers of a network before any frame is run.

A file from an earlier compile, or the network itself, may say what range a tensor has, how a layer's weights
are scaled, what a bias is. Calibration fills in the rest; when nothing is left it needs no frames.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import numpy as np

from lowtide.calibrate import Range
from lowtide.errors import QuantizationError, nearest
from lowtide.ir import Array, Graph, Layer, layers
from lowtide.quantize.operands import mac_operands, output_channels

if TYPE_CHECKING:
    from lowtide.diagnostics import Diagnostics
    from lowtide.options import CompileOptions
    from lowtide.target import Placement, ScaleRule, Target


@attrs.frozen(kw_only=True)
class Encodings:
    """What one source says; what it does not mention stays open.

    Attributes:
        origin: who says so, for messages and the report: a file name, or what was recognised in the network.
        explicit: whether the user named the source, as a file; then it wins over what a network implies.
        ranges: the range of an activation, by tensor name.
        weight_scales: one scale, or one for each output channel, by layer name.
        biases: real numbers, float64 ``[C_out]``, by layer name.
        activation_bits: 8 or 16, by tensor name.
        weight_bits: 8 or 16, by layer name.
    """

    origin: str
    explicit: bool = False
    ranges: Mapping[str, Range] = attrs.field(factory=dict[str, Range])
    weight_scales: Mapping[str, tuple[float, ...]] = attrs.field(factory=dict[str, tuple[float, ...]])
    biases: Mapping[str, Array] = attrs.field(factory=dict[str, Array])
    activation_bits: Mapping[str, int] = attrs.field(factory=dict[str, int])
    weight_bits: Mapping[str, int] = attrs.field(factory=dict[str, int])


@attrs.frozen(kw_only=True)
class EncodingRequest:
    """Everything that a source may look at.

    Attributes:
        graph: the prepared float network; not to be changed.
        model_digest: SHA-256 of the model file, as in the manifest.
    """

    graph: Graph
    model_digest: str
    target: Target
    rule: ScaleRule
    placement: Placement
    options: CompileOptions
    diagnostics: Diagnostics


@attrs.frozen(kw_only=True)
class EncodingSource(abc.ABC):
    """Reads encodings. Every source is asked in every compile; most have nothing to say in most of them."""

    name: ClassVar[str]

    @abc.abstractmethod
    def read(self, request: EncodingRequest) -> Encodings | None:
        """What this source knows about the network, ``None`` when nothing.

        Raises:
            QuantizationError: when there is something to read and it does not fit the network; the place is
                the layer and the tensor.
        """


def check_encodings(said: Encodings, graph: Graph) -> None:
    """Hold what a source says against the network.

    Raises:
        QuantizationError: for a tensor or layer that the network does not have, a range that is none, a scale
            that is not positive, or another number of scales or biases than the layer has channels. Widths
            are checked with the plan.
    """
    found = {layer.name: layer for layer in layers(graph)}
    for names, known in (
        ((*said.ranges, *said.activation_bits), graph.values),
        ((*said.weight_scales, *said.biases, *said.weight_bits), found),
    ):
        for name in names:
            if name not in known:
                what = "layer" if known is found else "tensor"
                raise _unfit(said, name, f"the network has no such {what}", nearest(name, known))
    for name, given in said.ranges.items():
        if not -math.inf < given.min <= given.max < math.inf:
            raise _unfit(said, name, f"expected finite numbers in order as range, found {given}")
    for name, scales in said.weight_scales.items():
        bad = [scale for scale in scales if not 0 < scale < math.inf]
        if bad:
            raise _unfit(said, name, f"a weight scale must be positive and finite, found {bad[0]}")
        _check_count(said, found[name], len(scales), "weight scales", axis=True)
    for name, bias in said.biases.items():
        if not np.isfinite(bias).all():
            raise _unfit(said, name, "the bias holds NaN or infinity")
        _check_count(said, found[name], bias.size, "biases", axis=False)


def _check_count(said: Encodings, layer: Layer, count: int, what: str, *, axis: bool) -> None:
    node = layer.nodes[0]
    operands = mac_operands(node)
    if operands is None:
        raise _unfit(said, layer.name, f"there are {what} for it, but {node.op} has no weights")
    channels = output_channels(node, operands)
    may_differ = operands.axis is not None if axis else True
    if count != channels and not (axis and count == 1):
        wanted = f"1 or {channels}" if axis else str(channels)
        raise _unfit(said, layer.name, f"expected {wanted} {what}, found {count}")
    if count > 1 and not may_differ:
        raise _unfit(said, layer.name, f"its weights have one scale, found {count}")


def _unfit(said: Encodings, name: str, message: str, hint: str = "") -> QuantizationError:
    return QuantizationError(f"{said.origin}: {message}", place=name, hint=hint)


def merge(found: list[Encodings]) -> Encodings:
    """Put what several sources say together: what the user named wins over what a network implies.

    Raises:
        QuantizationError: when two sources of equal standing say different things about the same tensor.
    """
    merged: dict[str, dict[str, Any]] = {field: {} for field in _FIELDS}
    owners: dict[tuple[str, str], Encodings] = {}
    for source in sorted(found, key=lambda entry: not entry.explicit):
        for field in _FIELDS:
            for name, value in getattr(source, field).items():
                owner = owners.setdefault((field, name), source)
                if owner is source:
                    merged[field][name] = value
                elif owner.explicit == source.explicit and not _same(merged[field][name], value):
                    raise QuantizationError(
                        f"{owner.origin} and {source.origin} say different things about its {field}",
                        place=name,
                        hint="leave one of them out",
                    )
    origin = " and ".join(dict.fromkeys(source.origin for source in found))
    return Encodings(
        origin=origin,
        explicit=any(source.explicit for source in found),
        ranges=merged["ranges"],
        weight_scales=merged["weight_scales"],
        biases=merged["biases"],
        activation_bits=merged["activation_bits"],
        weight_bits=merged["weight_bits"],
    )


_FIELDS = ("ranges", "weight_scales", "biases", "activation_bits", "weight_bits")


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray):
        return np.array_equal(np.asarray(first, np.float64), second)
    return bool(first == second)
