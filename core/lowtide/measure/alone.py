"""Every layer of a quantized network by itself."""

from __future__ import annotations

import numpy as np
import onnx

from lowtide.ir import Array, Graph, Layer, QuantParams, Value, layers
from lowtide.ir.shapes import infer_types
from lowtide.runtime import to_model


class LayersAlone:
    """A graph in which every layer stands by itself and reads inputs of the graph.

    Args:
        graph: a quantized network.
        on_host: names of the layers to leave out.

    Attributes:
        graph: the layers side by side; each gives its result as an output.
        fed: the input that stands for each value that a layer reads.
        layers: by name, the result of each layer in the network and here; only layers whose inputs and result
            all have codes, and shapes that do not depend on data.
        needed: names of the values that are fed or made.
    """

    def __init__(self, graph: Graph, on_host: frozenset[str]) -> None:
        self.graph = Graph("layers")
        self.fed: dict[Value, Value] = {}
        self.layers: dict[str, tuple[Value, Value]] = {}
        constants: dict[Value, Value] = {}
        for layer in layers(graph):
            if layer.name not in on_host and _has_codes(layer):
                self._add(layer, constants)
        self.needed = [value.name for value in self.fed] + [value.name for value, _ in self.layers.values()]
        self.graph.set_outputs([twin for _, twin in self.layers.values()])
        infer_types(self.graph)

    def _add(self, layer: Layer, constants: dict[Value, Value]) -> None:
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
            # Without the name of its group a fused layer would be several, with float numbers between them.
            made = self.graph.add_node(node.op, operands, results, node.attributes, layer=node.layer)
            inside.update(zip(node.outputs, made.outputs, strict=True))
        self.layers[layer.name] = (layer.output, inside[layer.output])

    def model(self) -> onnx.ModelProto:
        """The layers as ONNX Runtime emulates them."""
        return to_model(self.graph, quantized=True)


def codes_of(real: Array, value: Value) -> Array:
    """Numbers that a value's codes stand for as these codes, int64."""
    quant = quant_of(value)
    return np.rint(real.astype(np.float64) / quant.scale[0]).astype(np.int64) + quant.zero_point[0]


def _has_codes(layer: Layer) -> bool:
    around = (*layer.inputs, layer.output)
    quantized = all(value.type.quant is not None and value.type.is_static for value in around)
    return quantized and bool(layer.inputs) and len(layer.outputs) == 1


def quant_of(value: Value) -> QuantParams:
    """The parameters of a value that has codes."""
    assert value.type.quant is not None  # noqa: S101 - only quantized values are asked for
    return value.type.quant
