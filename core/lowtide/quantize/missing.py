"""Scales that a quantized network leaves out, as far as arithmetic gives them.

Networks that were quantized for other devices have scales only where those devices need them, often at the
inputs of convolutions alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from lowtide.calibrate import Range
from lowtide.ir import Graph, Layer, Node, QuantParams, Value, layers
from lowtide.precision import layer_reads, quantized_values
from lowtide.quantize.solve import SolveRequest

BOUNDED = {"Sigmoid": (0.0, 1.0), "HardSigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "Tanh": (-1.0, 1.0)}
"""Operators whose results lie within known limits, whatever they read."""

WITHIN_INPUT = frozenset({"AveragePool", "GlobalAveragePool", "Relu"})
"""Operators whose results lie within the range of their operand, or are 0."""

LARGEST_LIMIT = 1e6
"""Clips beyond it are not meant to limit: exporters write the largest float where one side is open."""

AVERAGES = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean"})
"""Operators whose results have less spread than their operand."""


@attrs.define
class Inferred:
    """What was found.

    Attributes:
        from_others: the tensor that each tensor takes its parameters from.
        ranges: ranges that follow from an operator, for the solver.
        open: tensors that nothing is known of.
    """

    from_others: dict[str, str] = attrs.field(factory=dict[str, str])
    ranges: dict[str, Range] = attrs.field(factory=dict[str, Range])
    open: tuple[str, ...] = ()


def infer_missing(graph: Graph, request: SolveRequest) -> Inferred:
    """Give tensors without codes those of a neighbour where the values are the same or within its range.

    The operators that the device fuses into one layer count as one: the values between them have no codes.
    """
    found = Inferred()
    values = [v for v in quantized_values(graph, request.target, request.placement) if v.type.quant is None]
    neighbours = _Neighbours(graph, request)
    while True:
        before = len(found.from_others)
        for value in values:
            source = neighbours.source(value) if value.type.quant is None else None
            if source is not None:
                name, quant = source
                graph.retype(value, value.type.with_quant(quant))
                found.from_others[value.name] = name
        if len(found.from_others) == before:
            break
    left = [value for value in values if value.type.quant is None]
    for value in left:
        limits = neighbours.limits(value)
        if limits is not None:
            found.ranges[value.name] = Range(*limits)
    found.open = tuple(value.name for value in left if value.name not in found.ranges)
    return found


def borrowed_ranges(graph: Graph, ranges: Mapping[str, Range]) -> tuple[str, ...]:
    """The tensors whose range says nothing of their own: an average has that of what it averages.

    Some formats want the same codes on both sides of such an operator; what moves its codes has them too.

    Args:
        graph: whose tensors have ranges.
        ranges: as far as they are known, by tensor name.
    """
    found: dict[str, None] = {}
    for layer in layers(graph):
        reads, name = layer_reads(layer), layer.output.name
        if len(reads) != 1 or len(layer.nodes) != 1 or name not in ranges:
            continue
        if ranges.get(reads[0].name) == ranges[name] and (layer.op in AVERAGES or reads[0].name in found):
            found[name] = None
    return tuple(found)


class _Neighbours:
    def __init__(self, graph: Graph, request: SolveRequest) -> None:
        self.graph = graph
        self.request = request
        self.makers: dict[Value, Layer] = {}
        self.readers: dict[Value, list[Layer]] = {}
        for layer in layers(graph):
            self.makers.update(dict.fromkeys(layer.outputs, layer))
            for value in layer.inputs:
                self.readers.setdefault(value, []).append(layer)

    def source(self, value: Value) -> tuple[str, QuantParams] | None:
        """A tensor with codes that suit `value` too; ``None`` when there is none, or several that differ."""
        maker = self.makers.get(value)
        if maker is not None:
            head = maker.nodes[0]
            tied = self.moves_codes(maker) or (len(maker.nodes) == 1 and head.op in WITHIN_INPUT)
            reads = [v for v in layer_reads(maker) if v.type.quant is not None] if tied else []
            if reads and len(reads) == len(layer_reads(maker)) and (found := _agreed(reads)):
                return found
        return self.behind(value)

    def behind(self, value: Value) -> tuple[str, QuantParams] | None:
        """What all readers make of `value`, when that is all that anybody sees of it."""
        readers = self.readers.get(value, ())
        if not readers or self.graph.is_output(value):
            return None
        if all(layer.op == "QuantizeLinear" for layer in readers):
            made = {_parameters(layer.nodes[0]) for layer in readers}
            quant = made.pop()
            return None if made or quant is None else (readers[0].output.name, quant)
        if not all(self.moves_codes(layer) and len(layer_reads(layer)) == 1 for layer in readers):
            return None
        return _agreed([output for layer in readers for output in layer.outputs])

    def moves_codes(self, layer: Layer) -> bool:
        """Whether a layer writes the codes that it reads; a copy does, wherever it runs."""
        operator = self.request.target.operators.get(layer.op)
        return layer.op == "Identity" or (operator is not None and operator.kind == "same-codes")

    def limits(self, value: Value) -> tuple[float, float] | None:
        """The limits that the operator that makes `value` sets."""
        maker = self.makers.get(value)
        if maker is None or value is not maker.output:
            return None
        last = maker.nodes[-1]
        return BOUNDED.get(last.op) or (_clip_limits(last) if last.op == "Clip" else None)


def _agreed(values: list[Value]) -> tuple[str, QuantParams] | None:
    """The name of the first tensor and the parameters that all have."""
    quant = values[0].type.quant
    same = quant is not None and all(value.type.quant == quant for value in values)
    return (values[0].name, quant) if same and quant is not None else None


def _parameters(node: Node) -> QuantParams | None:
    """What a QuantizeLinear at an end of the network makes codes with."""
    scale, zero = node.value(1), node.operand(2)
    if scale.constant is None or scale.constant.size != 1 or (zero is not None and zero.constant is None):
        return None
    code = 0 if zero is None or zero.constant is None else int(zero.constant.array().reshape(()))
    try:
        return QuantParams(node.output.type.dtype, float(scale.constant.array().reshape(())), code)
    except ValueError:  # what is no number format here stays an operator
        return None


def _clip_limits(node: Node) -> tuple[float, float] | None:
    limits: list[float] = []
    for operand in node.inputs[1:]:
        if operand is None or operand.constant is None or operand.type.quant or operand.constant.size != 1:
            return None
        limits.append(float(operand.constant.array().reshape(())))
    if len(limits) != 2 or not limits[0] < limits[1] or max(map(abs, limits)) > LARGEST_LIMIT:
        return None
    return limits[0], limits[1]
