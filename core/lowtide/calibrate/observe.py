"""Which activations are observed, and what is known about them beforehand."""

from __future__ import annotations

from collections.abc import Sequence

from lowtide.calibrate.api import TensorInfo
from lowtide.calibrate.nonnegative import provably_nonnegative
from lowtide.errors import QuantizationError, nearest
from lowtide.ir import Graph, Value, layers


def observable(graph: Graph) -> dict[str, Value]:
    """The float activations outside of layers, by name: network inputs, and what leaves a layer.

    Tensors without elements are left out.
    """
    values = [*graph.inputs, *(value for layer in layers(graph) for value in layer.outputs)]
    return {
        value.name: value
        for value in values
        if value.type.dtype.is_float and 0 not in (value.type.shape or ())
    }


def observed_tensors(graph: Graph, tensors: Sequence[str] | None = None) -> tuple[TensorInfo, ...]:
    """The chosen activations, by default all `observable` ones, in the order of the graph.

    Raises:
        QuantizationError: when a name is not that of an activation outside of layers.
    """
    known = observable(graph)
    chosen = set(known) if tensors is None else set(tensors)
    for name in sorted(chosen - set(known)):
        raise QuantizationError(
            "this is no float activation that leaves a layer", place=name, hint=nearest(name, known)
        )
    nonnegative = provably_nonnegative(graph)
    return tuple(_info(value, name in nonnegative) for name, value in known.items() if name in chosen)


def _info(value: Value, nonnegative: bool) -> TensorInfo:
    shape = value.type.shape or ()
    has_channels = len(shape) > 1 and shape[1] is not None
    return TensorInfo(value.name, shape, 1 if has_channels else None, nonnegative)
