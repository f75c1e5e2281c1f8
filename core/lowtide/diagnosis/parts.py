"""Where the noise of some layers comes from, in one executed graph.

Beside the float network stands every layer that is asked for in several forms: with nothing but its inputs,
its constants or its bias as codes, and its float output clipped and rounded. Only sums of squares leave the
run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import onnx

from lowtide.data import DataSource, Frame
from lowtide.diagnosis.api import NoiseParts
from lowtide.ir import Array, Constant, DType, Graph, Layer, TensorType, Value, layers
from lowtide.ir.shapes import infer_types
from lowtide.measure import LayerError
from lowtide.quantize.operands import mac_operands
from lowtide.runtime import Session, in_flight, to_model

SCALAR = TensorType(DType.FLOAT32, ())
PARTS = ("inputs", "weights", "bias", "clipping", "output")


def measure_parts(
    reference: Graph,
    quantized: Graph,
    frames: DataSource,
    errors: Mapping[str, LayerError],
    *,
    wanted: Collection[str],
    progress: Callable[[int, int | None], None] | None = None,
) -> dict[str, NoiseParts]:
    """Run frames through the float network and the forms of the layers.

    Args:
        reference: the prepared float graph.
        quantized: the graph made from it, with layers of the same names.
        frames: what to run, the same as for `errors`.
        errors: what the layers lose as a whole.
        wanted: names of layers; one of which the float graph knows no twin is left out.
        progress: told how many of how many frames are done.
    """
    builder = _Builder(reference)
    for layer in layers(quantized):
        if layer.name in wanted and layer.name in errors:
            builder.add(layer)
    if not builder.results:
        return {}
    session = Session(builder.model())
    sums = dict.fromkeys(builder.results, 0.0)
    for done, (_, results) in enumerate(in_flight(session, frames.frames(), _feeds), start=1):
        for key, value in builder.results.items():
            sums[key] += float(results[value.name])
        if progress is not None:
            progress(done, frames.count)
    return {
        name: _parts(errors[name], {part: sums.get((name, part), 0.0) for part in PARTS})
        for name in dict.fromkeys(name for name, _ in sums)
    }


def _feeds(frame: Frame) -> Mapping[str, Array]:
    return frame.feeds


def _parts(error: LayerError, noise: Mapping[str, float]) -> NoiseParts:
    return NoiseParts(
        signal=error.cumulative.signal,
        total=error.isolated.noise if error.isolated else 0.0,
        inputs=noise["inputs"],
        weights=noise["weights"],
        bias=noise["bias"],
        clipping=noise["clipping"],
        rounding=max(0.0, noise["output"] - noise["clipping"]),
    )


class _Builder:
    def __init__(self, reference: Graph) -> None:
        self.graph = reference.clone()
        self.twins = {layer.name: layer for layer in layers(reference)}
        self.results: dict[tuple[str, str], Value] = {}
        self.made = 0

    def model(self) -> onnx.ModelProto:
        self.graph.set_outputs(list(self.results.values()))
        infer_types(self.graph)
        return to_model(self.graph, quantized=True)

    def add(self, layer: Layer) -> None:
        twin = self.twins.get(layer.name)
        output = self.graph.values.get(layer.output.name)
        known = all(value.name in self.graph.values for value in layer.inputs)
        if twin is None or output is None or output.type.dtype is not DType.FLOAT32 or not known:
            return
        reads = {value: self.graph.values[value.name] for value in layer.inputs}
        if any(value.type.quant is not None for value in layer.inputs):
            coded = {value.name: self._coded(value, source) for value, source in reads.items()}
            fed = {value: coded.get(value.name, self.graph.values[value.name]) for value in twin.inputs}
            self._compare(layer.name, "inputs", output, self._copy(twin, fed))
        self._constants(layer, twin, output, reads)
        quant = layer.output.type.quant
        if quant is not None:
            limits = [self._constant(np.array(edge, np.float32)) for edge in quant.range]
            clipped = self._node("Clip", [output, *limits], output.type)
            self._compare(layer.name, "clipping", output, clipped)
            self._compare(layer.name, "output", output, self._coded(layer.output, output))

    def _constants(self, layer: Layer, twin: Layer, output: Value, reads: dict[Value, Value]) -> None:
        """The layer with the codes of all its constants, and with those of its bias alone."""
        if not any(value.is_constant and value.type.quant for value in _read(layer)):
            return
        self._compare(layer.name, "weights", output, self._copy(layer, reads))
        operands, original = mac_operands(layer.nodes[0]), mac_operands(twin.nodes[0])
        if operands is None or operands.bias is None or original is None:
            return
        real = original.weights.constant
        if real is not None:
            fed = {**reads, operands.weights: self._constant(real)}
            self._compare(layer.name, "bias", output, self._copy(layer, fed))

    def _coded(self, value: Value, source: Value) -> Value:
        """A float tensor through the Q/DQ pair of a quantized one."""
        if value.type.quant is None:
            return source
        return self._node("Identity", [source], source.type.with_quant(value.type.quant))

    def _copy(self, layer: Layer, reads: Mapping[Value, Value]) -> Value:
        """The layer once more, reading other inputs; what it makes has no codes."""
        inside = dict(reads)
        for node in layer.nodes:
            operands = [self._operand(value, inside) for value in node.inputs]
            types = [value.type.with_quant(None) for value in node.outputs]
            made = self.graph.add_node(
                node.op, operands, [(self._name(), type_) for type_ in types], node.attributes
            )
            inside.update(zip(node.outputs, made.outputs, strict=True))
        return inside[layer.output]

    def _operand(self, value: Value | None, inside: dict[Value, Value]) -> Value | None:
        if value is None:
            return None
        if value not in inside and value.constant is not None:
            inside[value] = self._constant(value.constant, value.type)
        return inside[value]

    def _compare(self, layer: str, part: str, real: Value, other: Value) -> None:
        difference = self._node("Sub", [real, other], real.type.with_quant(None))
        self.results[layer, part] = self._node("ReduceSumSquare", [difference], SCALAR, {"keepdims": 0})

    def _node(
        self, op: str, reads: list[Value], type_: TensorType, attributes: Mapping[str, int] | None = None
    ) -> Value:
        return self.graph.add_node(op, reads, [(self._name(), type_)], attributes or {}).output

    def _name(self) -> str:
        self.made += 1
        return self.graph.fresh_name(f"parts/{self.made}")

    def _constant(self, data: object, type_: TensorType | None = None) -> Value:
        constant = data if isinstance(data, Constant) else Constant.of(np.asarray(data))
        return self.graph.add_constant(self._name(), constant, type_)


def _read(layer: Layer) -> list[Value]:
    return [value for node in layer.nodes for value in node.inputs if value is not None]
