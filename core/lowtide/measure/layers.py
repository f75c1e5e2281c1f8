"""The error of every layer in one executed graph.

The float network, the quantized network and, for every layer, the layer alone in quantized form fed with
float inputs run side by side; only sums of squares leave the run, so no activation is kept and no layer needs
a run of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs
import numpy as np

from lowtide.data import DataSource, Frame
from lowtide.ir import Array, Constant, DType, Graph, Layer, Node, TensorType, Value, layers
from lowtide.ir.shapes import infer_types
from lowtide.measure.histogram import Histogram, sample_step
from lowtide.measure.judged import is_comparable
from lowtide.measure.signal import ErrorSum
from lowtide.runtime import Nothing, Runner, Session, in_flight, to_model

SCALAR = TensorType(DType.FLOAT32, ())


@attrs.frozen
class LayerError:
    """Errors at the output of one layer against the float network.

    Attributes:
        layer: the name of the layer.
        isolated: with this layer alone quantized, its inputs included; ``None`` for a layer without codes.
        cumulative: with everything up to here quantized.
    """

    layer: str
    isolated: ErrorSum | None
    cumulative: ErrorSum


@attrs.frozen
class Measurement:
    """What was measured, on how many frames.

    Attributes:
        layers: in executable order.
        outputs: by name of the network output.
        histograms: of float tensors, by name.
    """

    frames: int
    layers: tuple[LayerError, ...]
    outputs: Mapping[str, ErrorSum]
    histograms: Mapping[str, Histogram] = attrs.field(factory=dict[str, Histogram])


def measure_layers(
    reference: Graph,
    quantized: Graph,
    frames: DataSource,
    *,
    judge: Graph | None = None,
    spans: Mapping[str, tuple[float, float]] | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Measurement:
    """Run all frames through both networks.

    Args:
        reference: the float graph that the other was made from.
        quantized: the graph made from it; tensors of both are matched by name.
        frames: what to run, one at a time.
        judge: the float graph whose outputs are the right ones; by default the reference.
        spans: tensors of the float network to make histograms of, and between which numbers.
        progress: told how many of how many frames are done.
    """
    probe = _Probe(reference, quantized, spans or {})
    measurable = bool(probe.graph.outputs)
    session: Runner = Session(to_model(probe.graph, quantized=True)) if measurable else Nothing()
    if judge is not None and judge is not reference:
        names = {probe.named("output", "f", name): value.name for name, value in probe.outputs.items()}
        session = Judged(session, judge, names)
    sums: dict[tuple[str, str], ErrorSum] = {key: ErrorSum() for key in probe.measured}
    outputs = {name: ErrorSum() for name in probe.outputs}
    histograms = {name: Histogram(*span) for name, span in (spans or {}).items() if name in probe.sampled}
    count = 0
    for _, results in in_flight(session, frames.frames(), _feeds):
        for (value, kind), total in sums.items():
            total.add_sums(
                float(results[probe.named("signal", value)]),
                float(results[probe.named("noise", kind, value)]),
                float(results[probe.named("largest", kind, value)]),
            )
        for name, total in outputs.items():
            total.add(results[probe.named("output", "f", name)], results[probe.named("output", "q", name)])
        for name, histogram in histograms.items():
            histogram.add(results[probe.named("sample", name)])
        count += 1
        if progress is not None:
            progress(count, frames.count)
    errors = [
        LayerError(layer, sums.get((layer, "i")), sums[layer, "q"])
        for layer in (layer.name for layer in layers(quantized))
        if (layer, "q") in sums
    ]
    return Measurement(count, tuple(errors), outputs, histograms)


class Judged:
    """A network that measures, with outputs of another float network in the place of those of its own.

    Args:
        session: what measures.
        judge: the float network.
        names: the tensor of the judge by the name that its numbers have among the results.
    """

    def __init__(self, session: Runner, judge: Graph, names: Mapping[str, str]) -> None:
        self._session = session
        self._names = dict(names)
        self._judge = Session(to_model(judge, quantized=False, outputs=list(dict.fromkeys(names.values()))))

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `Runner.run`."""
        results = self._session.run(feeds)
        judged = dict(zip(dict.fromkeys(self._names.values()), self._judge.run(feeds).values(), strict=True))
        return results | {name: judged[source] for name, source in self._names.items()}


def _feeds(frame: Frame) -> Mapping[str, Array]:
    return frame.feeds


class _Probe:
    """Builds the graph that measures.

    Attributes:
        measured: pairs of layer name and kind, ``q`` cumulative or ``i`` isolated.
        outputs: the tensor that is measured, by name of the network output: for integers that a
            QuantizeLinear makes, the numbers that they stand for.
        sampled: names of the float tensors of which samples are returned.
    """

    def __init__(self, reference: Graph, quantized: Graph, spans: Iterable[str]) -> None:
        self.reference = reference
        self.quantized = quantized
        self.graph = reference.clone()
        self.results: list[Value] = []
        self.measured: list[tuple[str, str]] = []
        self.outputs = {
            value.name: real for value in quantized.outputs if (real := numbers_of(value)) is not None
        }
        names = [node.name for graph in (reference, quantized) for node in graph]
        self.scope = _unused_scope({*reference.values, *quantized.values, *names})
        self.twins: dict[Value, Value] = {}
        self.borders: dict[Value, Value] = {}
        self.copy_quantized()
        for layer in layers(quantized):
            self.compare(layer)
        for name, value in self.outputs.items():
            self.expose(name, value)
        self.sampled = [name for name in spans if self.sample(name)]
        self.graph.set_outputs(self.results)
        infer_types(self.graph)

    def named(self, *parts: str) -> str:
        """The name of a tensor that measures; no tensor of the network has such a name."""
        return "/".join((self.scope, *parts))

    def copy_quantized(self) -> None:
        for value in self.quantized.inputs:
            source = self.graph.values[value.name]
            self.twins[value] = self.make("Identity", [source], self.named("q", value.name), value.type)
        for value in self.quantized.constants:
            if value.constant is not None:
                self.twins[value] = self.graph.add_constant(
                    self.named("q", value.name), value.constant, value.type
                )
        for node in self.quantized:
            made = self.add(node, "q", lambda value: self.twins[value])
            self.twins.update(zip(node.outputs, made.outputs, strict=True))

    def add(self, node: Node, prefix: str, twin: Callable[[Value], Value]) -> Node:
        return self.graph.add_node(
            node.op,
            [None if value is None else twin(value) for value in node.inputs],
            [(self.named(prefix, value.name), value.type) for value in node.outputs],
            node.attributes,
            name=self.named(prefix, node.output.name),
        )

    def make(
        self, op: str, inputs: Sequence[Value], name: str, type_: TensorType, keepdims: int | None = None
    ) -> Value:
        """A node and its result, which have the same name: nothing else has it, so no search is needed."""
        attributes = None if keepdims is None else {"keepdims": keepdims}
        return self.graph.add_node(op, inputs, [(name, type_)], attributes, name=name).output

    def compare(self, layer: Layer) -> None:
        name = layer.name
        float_value = self.graph.values.get(name)
        if float_value is None or float_value.type.dtype != DType.FLOAT32:
            return
        if not float_value.type.is_static:
            return
        self.results.append(
            self.make("ReduceSumSquare", [float_value], self.named("signal", name), SCALAR, keepdims=0)
        )
        self.difference(name, "q", float_value, self.twins[layer.output])
        alone = self.isolate(layer) if self.has_codes(layer) else None
        if alone is not None:
            self.difference(name, "i", float_value, alone)

    def has_codes(self, layer: Layer) -> bool:
        values: Iterable[Value | None] = (
            *layer.inputs,
            *layer.outputs,
            *(v for node in layer.nodes for v in node.inputs),
        )
        return any(value is not None and value.type.quant is not None for value in values)

    def isolate(self, layer: Layer) -> Value | None:
        """Add the layer alone, reading float tensors through their Q/DQ pairs; ``None`` if one is unknown."""
        inside: dict[Value, Value] = {}
        for value in layer.inputs:
            source = self.graph.values.get(value.name)
            if source is None:
                return None
            inside[value] = self.border(value, source)
        for node in layer.nodes:
            made = self.add(node, "i", lambda value: inside.get(value) or self.twins[value])
            inside.update(zip(node.outputs, made.outputs, strict=True))
        return inside[layer.output]

    def border(self, value: Value, source: Value) -> Value:
        if value.type.quant is None:
            return source
        if value not in self.borders:
            self.borders[value] = self.make(
                "Identity", [source], self.named("border", value.name), value.type
            )
        return self.borders[value]

    def difference(self, name: str, kind: str, float_value: Value, other: Value) -> None:
        plain = float_value.type.with_quant(None)
        difference = self.make("Sub", [float_value, other], self.named("difference", kind, name), plain)
        size = self.make("Abs", [difference], self.named("size", kind, name), plain)
        self.results += [
            self.make("ReduceSumSquare", [difference], self.named("noise", kind, name), SCALAR, keepdims=0),
            self.make("ReduceMax", [size], self.named("largest", kind, name), SCALAR, keepdims=0),
        ]
        self.measured.append((name, kind))

    def expose(self, name: str, measured: Value) -> None:
        pairs = (("f", self.graph.values[measured.name]), ("q", self.twins[measured]))
        for kind, value in pairs:
            plain = value.type.with_quant(None)
            self.results.append(self.make("Identity", [value], self.named("output", kind, name), plain))

    def sample(self, name: str) -> bool:
        """Return evenly spread elements of a float tensor, where its size is known."""
        value = self.graph.values.get(name)
        step = None if value is None or value.type.dtype != DType.FLOAT32 else sample_step(value)
        if value is None or step is None:
            return False
        size = math.prod(value.type.static_shape)
        numbers = {"shape": size, "start": 0, "end": size, "axis": 0, "step": step}
        shape, *cut = (
            self.graph.add_constant(self.named("cut", part, name), Constant.of(np.array([number], np.int64)))
            for part, number in numbers.items()
        )
        flat = TensorType(DType.FLOAT32, (size,))
        taken = TensorType(DType.FLOAT32, (math.ceil(size / step),))
        line = self.make("Reshape", [value, shape], self.named("flat", name), flat)
        self.results.append(self.make("Slice", [line, *cut], self.named("sample", name), taken))
        return True


def numbers_of(output: Value) -> Value | None:
    """The float tensor that a network output is or stands for.

    Returns:
        ``None`` for one that holds no numbers, and where the shape depends on data: two networks need not
        have as many elements then.
    """
    maker = output.producer
    real = maker.value(0) if maker is not None and maker.op == "QuantizeLinear" else output
    return real if is_comparable(real) else None


def _unused_scope(names: Iterable[str]) -> str:
    taken = {name.split("/", 1)[0] for name in names}
    scope = "measure"
    while scope in taken:
        scope += "_"
    return scope
