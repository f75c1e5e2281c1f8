"""A quantized network as what a device computes, integer by integer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from lowtide.exact.builder import Builder
from lowtide.exact.lower import Lowering
from lowtide.exact.profile import Profile
from lowtide.exact.program import Program
from lowtide.exact.selftest import require_exact_convolutions
from lowtide.ir import Array, Graph, Value, layers


class ExactSession:
    """Runs the integer pipeline of a device.

    Args:
        graph: a quantized network.
        profile: how the device rounds, see `lowtide.exact.profile`.
        on_host: names of the layers that run in float.
        codes: names of quantized values whose codes a run returns too.

    Raises:
        QuantizationError: when the convolutions of this machine do not add integers exactly.
    """

    def __init__(
        self, graph: Graph, profile: Profile, *, on_host: Iterable[str] = (), codes: Iterable[str] = ()
    ) -> None:
        require_exact_convolutions()
        builder = Builder()
        lowering = Lowering(builder, profile, frozenset(on_host))
        for value in graph.inputs:
            builder.real[value] = value.name
        for layer in layers(graph):
            lowering.layer(layer)
        self._outputs = {value.name: _output(lowering, value) for value in graph.outputs}
        self._codes = {name: (graph.values[name], lowering.codes_of(graph.values[name])) for name in codes}
        feeds = {value.name: (value.type.dtype.onnx, value.type.static_shape) for value in graph.inputs}
        wanted = [*self._outputs.values(), *(name for _, name in self._codes.values())]
        self._program = Program.of(builder, feeds, wanted)
        self.output_names = tuple(self._outputs)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one frame; the outputs by name: real numbers, or integers where the network gives these."""
        tensors = self._program.run(feeds)
        return {name: tensors[tensor] for name, tensor in self._outputs.items()}

    def run_codes(self, feeds: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        """Run one frame: the outputs, and the codes that were asked for, in their integer types."""
        tensors = self._program.run(feeds)
        outputs = {name: tensors[tensor] for name, tensor in self._outputs.items()}
        return outputs, {
            name: _stored(value, tensors[tensor]) for name, (value, tensor) in self._codes.items()
        }


def _output(lowering: Lowering, value: Value) -> str:
    return lowering.real_of(value)


def _stored(value: Value, codes: Array) -> Array:
    quant = value.type.quant
    assert quant is not None  # noqa: S101 - only quantized values have codes
    whole = np.rint(codes) if codes.dtype.kind == "f" else codes.astype(np.int64)
    return (whole + quant.zero_point[0]).astype(quant.dtype.numpy)
