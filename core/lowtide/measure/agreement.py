"""How far the emulation of a quantized network by Q/DQ pairs is from what the device computes.

Layer by layer, on the same input codes, the two differ by one code where rounding decides, or one of them is
wrong. From end to end such differences multiply, and only their share and size can be stated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np
import onnx

from lowtide.data import DataSource
from lowtide.exact import ExactSession, Profile
from lowtide.ir import Array, Graph, Layer, QuantParams, Value, layers
from lowtide.ir.shapes import infer_types
from lowtide.measure.signal import ErrorSum
from lowtide.runtime import Session, dequantize, to_model

MOST_FRAMES = 2
"""Frames that layers are compared on one by one; outputs are compared on all that are given."""

TOLERATED = 1
"""The largest difference in codes that rounding explains."""


@attrs.define
class CodeDifference:
    """Codes that were compared.

    Attributes:
        compared: how many.
        differing: how many of them differ.
        largest: by how much at most.
    """

    compared: int = 0
    differing: int = 0
    largest: int = 0

    def add(self, first: Array, second: Array) -> None:
        """Take in two arrays of codes."""
        distance = np.abs(first.astype(np.int64) - second.astype(np.int64))
        self.compared += distance.size
        self.differing += int(np.count_nonzero(distance))
        self.largest = max(self.largest, int(distance.max(initial=0)))

    @property
    def share(self) -> float:
        """The share of codes that differ, 0 to 1."""
        return self.differing / self.compared if self.compared else 0.0


@attrs.frozen
class Agreement:
    """Exact execution beside the Q/DQ emulation.

    Attributes:
        frames: how many frames the outputs were compared on.
        layers: on the same input codes, by layer.
        codes: from end to end, by the tensor whose codes an output has.
        outputs: the error of exact execution against the float network, by output.
    """

    frames: int
    layers: Mapping[str, CodeDifference]
    codes: Mapping[str, CodeDifference]
    outputs: Mapping[str, ErrorSum]

    @property
    def suspicious(self) -> tuple[str, ...]:
        """Layers that differ by more than rounding explains."""
        return tuple(name for name, found in self.layers.items() if found.largest > TOLERATED)


def measure_agreement(
    reference: Graph,
    quantized: Graph,
    profile: Profile,
    on_host: Sequence[str],
    frames: DataSource,
    *,
    progress: Callable[[int, int | None], None] | None = None,
) -> Agreement:
    """Run frames through the float network, the emulation and the integer pipeline.

    Args:
        reference: the prepared float network.
        quantized: the network made from it.
        profile: how the device rounds.
        on_host: names of the layers that run in float.
        frames: what to run, one at a time.
        progress: told how many of how many frames are done.
    """
    probe = _LayerProbe(quantized, frozenset(on_host))
    ends = _ends(quantized)
    exact = ExactSession(
        quantized, profile, on_host=on_host, codes=dict.fromkeys([*probe.needed, *ends.values()])
    )
    emulated = Session(to_model(quantized, quantized=True, outputs=list(dict.fromkeys(ends.values()))))
    plain = Session(to_model(reference, quantized=False))
    single = Session(probe.model()) if probe.compared else None
    found = Agreement(
        0,
        {layer: CodeDifference() for layer in probe.compared},
        {end: CodeDifference() for end in ends.values()},
        {value.name: ErrorSum() for value in quantized.outputs if value.type.dtype.is_float},
    )
    count = 0
    for frame in frames.frames():
        outputs, codes = exact.run_codes(frame.feeds)
        _outputs(found, reference, plain.run(frame.feeds), outputs)
        if ends:
            for name, real in zip(found.codes, emulated.run(frame.feeds).values(), strict=True):
                found.codes[name].add(codes[name], _codes(real, quantized.values[name]))
        if single is not None and count < MOST_FRAMES:
            probe.compare(single, codes, found.layers)
        count += 1
        if progress is not None:
            progress(count, frames.count)
    return attrs.evolve(found, frames=count)


def _outputs(
    found: Agreement, reference: Graph, plain: Mapping[str, Array], outputs: Mapping[str, Array]
) -> None:
    named = dict(zip((value.name for value in reference.outputs), plain.values(), strict=True))
    for name, total in found.outputs.items():
        total.add(named[name], outputs[name])


def _ends(graph: Graph) -> dict[str, str]:
    """The tensor whose codes an output has, by the name of the output."""
    found: dict[str, str] = {}
    for value in graph.outputs:
        maker = value.producer
        source = maker.value(0) if maker is not None and maker.op == "QuantizeLinear" else value
        if source.type.quant is not None and not source.is_constant:
            found[value.name] = source.name
    return found


def _codes(real: Array, value: Value) -> Array:
    quant = value.type.quant
    assert quant is not None  # noqa: S101 - only quantized values are compared
    return np.rint(real.astype(np.float64) / quant.scale[0]).astype(np.int64) + quant.zero_point[0]


class _LayerProbe:
    """Every layer by itself, fed with codes.

    Attributes:
        compared: the layers whose inputs and outputs all have codes.
        needed: the values whose codes are fed or compared.
    """

    def __init__(self, graph: Graph, on_host: frozenset[str]) -> None:
        self.graph = Graph("layers")
        self.fed: dict[Value, Value] = {}
        self.made: dict[str, tuple[Value, Value]] = {}
        constants: dict[Value, Value] = {}
        for layer in layers(graph):
            if layer.name not in on_host and _has_codes(layer):
                self.add(layer, constants)
        self.compared = tuple(self.made)
        self.needed = [value.name for value in self.fed] + [value.name for value, _ in self.made.values()]

    def add(self, layer: Layer, constants: dict[Value, Value]) -> None:
        inside: dict[Value, Value] = {}
        for value in layer.inputs:
            if value not in self.fed:
                self.fed[value] = self.graph.add_input(f"codes/{value.name}", value.type)
            inside[value] = self.fed[value]
        for node in layer.nodes:
            read = [value for value in node.inputs if value is not None]
            for value in read:
                if value.constant is not None and value not in constants:
                    name = f"constant/{value.name}"
                    constants[value] = self.graph.add_constant(name, value.constant, value.type)
            twins = {**constants, **inside}
            operands = [None if value is None else twins[value] for value in node.inputs]
            results = [(f"{layer.name}/{value.name}", value.type) for value in node.outputs]
            made = self.graph.add_node(node.op, operands, results, node.attributes)
            inside.update(zip(node.outputs, made.outputs, strict=True))
        self.made[layer.name] = (layer.output, inside[layer.output])

    def model(self) -> onnx.ModelProto:
        """All layers side by side."""
        self.graph.set_outputs([twin for _, twin in self.made.values()])
        infer_types(self.graph)
        return to_model(self.graph, quantized=True)

    def compare(
        self, session: Session, codes: Mapping[str, Array], layers: Mapping[str, CodeDifference]
    ) -> None:
        feeds = {twin.name: dequantize(codes[value.name], _params(value)) for value, twin in self.fed.items()}
        results = session.run(feeds)
        for (layer, (value, _)), real in zip(self.made.items(), results.values(), strict=True):
            layers[layer].add(codes[value.name], _codes(real, value))


def _has_codes(layer: Layer) -> bool:
    around = (*layer.inputs, layer.output)
    quantized = all(value.type.quant is not None for value in around)
    return quantized and bool(layer.inputs) and len(layer.outputs) == 1


def _params(value: Value) -> QuantParams:
    assert value.type.quant is not None  # noqa: S101 - only quantized values are fed
    return value.type.quant
