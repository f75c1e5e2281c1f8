"""A quantized network as what a device computes, integer by integer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from lowtide.exact.builder import Builder
from lowtide.exact.lower import Lowering
from lowtide.exact.profile import Profile
from lowtide.exact.program import Program
from lowtide.exact.selftest import require_exact_convolutions
from lowtide.ir import Array, DType, Graph, QuantParams, Value, layers


class ExactSession:
    """Runs the integer pipeline of a device.

    Args:
        graph: a quantized network.
        profile: how the device rounds, see `lowtide.exact.profile`.
        on_host: names of the layers that run in float.
        codes: names of quantized values whose codes a run returns too.
        fed: names of quantized inputs that are fed as codes, in their integer types.
        outputs: names of the outputs whose real numbers a run returns; all by default.

    Raises:
        QuantizationError: when the convolutions of this machine do not add integers exactly.
    """

    def __init__(
        self,
        graph: Graph,
        profile: Profile,
        *,
        on_host: Iterable[str] = (),
        codes: Iterable[str] = (),
        fed: Collection[str] = (),
        outputs: Collection[str] | None = None,
    ) -> None:
        require_exact_convolutions()
        builder = Builder()
        lowering = Lowering(builder, profile, frozenset(on_host))
        types: dict[str, DType] = {}
        for value in graph.inputs:
            if value.name in fed:
                types[value.name] = _quant(value).dtype
                builder.codes[value] = _entered(builder, value)
            else:
                types[value.name] = value.type.dtype
                lowering.given(value, value.name)
        for layer in layers(graph):
            lowering.layer(layer)
        self._outputs = {
            value.name: lowering.real_of(value)
            for value in graph.outputs
            if outputs is None or value.name in outputs
        }
        self._codes = {name: _stored(lowering, graph.values[name]) for name in codes}
        feeds = {value.name: (types[value.name].onnx, value.type.shape) for value in graph.inputs}
        wanted = [*self._outputs.values(), *self._codes.values()]
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
        return outputs, {name: tensors[tensor] for name, tensor in self._codes.items()}


def _quant(value: Value) -> QuantParams:
    assert value.type.quant is not None  # noqa: S101 - only quantized values have codes
    return value.type.quant


def _entered(builder: Builder, value: Value) -> str:
    """Codes that are fed, less their zero point."""
    codes, zero = builder.narrow(value.name), _quant(value).zero_point[0]
    return builder.node("Sub", [codes, builder.constant(zero)]) if zero else codes


def _stored(lowering: Lowering, value: Value) -> str:
    """The codes of a value in their integer type; whole numbers are carried, so that nothing is rounded."""
    builder, quant, carried = lowering.b, _quant(value), lowering.codes_of(value)
    zero = quant.zero_point[0]
    whole = builder.node("Add", [builder.narrow(carried), builder.constant(zero)]) if zero else carried
    return builder.node("Cast", [whole], {"to": quant.dtype.onnx})
