"""Constant folding."""

from __future__ import annotations

from typing import ClassVar

import attrs
import numpy as np

from lowtide.errors import ModelError
from lowtide.ir import Array, Constant, Graph, Node, Value
from lowtide.passes import Pass, PassContext, PassOutcome
from lowtide.runtime import Session, to_model
from lowtide_plugins.passes.rewrite import Tally

RANDOM = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
"""Operators of ONNX that give another result every time."""

RETURNED = "the network returns its result, and a result has to come out of a node."


@attrs.frozen(kw_only=True)
class FoldConstants(Pass):
    """Evaluates nodes whose operands are all constants, and the sizes of tensors of a static shape.

    Precondition: shapes are inferred, else shapes of tensors do not fold. Effect: results become constants of
    the same name, computed by ONNX Runtime in the dtype of the node. It refuses random operators, results of
    more than `limit` bytes that are larger than what they are made of, constants whose data is not at hand,
    nodes that ONNX Runtime cannot execute, and results of the network. Quantized constants are left alone,
    also codes behind a DequantizeLinear.

    Attributes:
        limit: bytes.
    """

    name: ClassVar[str] = "fold-constants"
    limit: int = 64 << 20

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:  # noqa: ARG002 - the graph says it all
        """See `Pass.run`."""
        tally = Tally()
        for node in graph:
            if node.op in {"Shape", "Size"}:
                self._fold_shape(graph, node, tally)
            elif _is_foldable(node):
                self._fold(graph, node, tally)
        return tally.outcome()

    def _fold(self, graph: Graph, node: Node, tally: Tally) -> None:
        returned = any(graph.is_output(value) for value in node.outputs)
        reason = RETURNED if returned else self._objection(node)
        if reason is None:
            found = _evaluate(node)
            if isinstance(found, dict):
                reason = self._too_large(node, sum(data.nbytes for data in found.values()))
                if reason is None:
                    _replace(graph, node, found)
                    tally.count("folded")
                    return
            else:
                reason = found
        tally.refuse(node, reason)

    def _fold_shape(self, graph: Graph, node: Node, tally: Tally) -> None:
        source = node.value(0).type
        if not source.is_static:
            return
        if graph.is_output(node.output):
            tally.refuse(node, RETURNED)
            return
        dims = np.array(source.static_shape, np.int64)
        if node.op == "Size":
            data: Array = np.asarray(dims.prod(dtype=np.int64))
        else:
            data = dims[node.int_attribute("start", 0) :]
            if "end" in node.attributes:
                data = dims[node.int_attribute("start", 0) : node.int_attribute("end", 0)]
        _replace(graph, node, {node.output.name: data})
        tally.count("folded")

    def _objection(self, node: Node) -> str | None:
        if node.op in RANDOM or (node.op == "Dropout" and node.operand(2) is not None):
            return "it gives another result every time; it would have to be a deterministic operator."
        if node.op == "DequantizeLinear":
            return "it holds codes, which would be lost; they would have to be in the type of a constant."
        missing = [value.name for value in node.inputs if value is not None and _lacks_data(value)]
        if missing:
            return f"the data of {missing[0]} is not here; the graph would have to come from the model file."
        if all(value.type.is_static for value in node.outputs):
            sizes = [int(np.prod(v.type.static_shape)) * v.type.dtype.numpy.itemsize for v in node.outputs]
            return self._too_large(node, sum(sizes))
        return None

    def _too_large(self, node: Node, size: int) -> str | None:
        given = sum(value.constant.nbytes for value in node.inputs if value is not None and value.constant)
        if size <= self.limit or size <= given:
            return None
        return (
            f"its result has {size} bytes and is larger than its operands; the limit is {self.limit} bytes."
        )


def _is_foldable(node: Node) -> bool:
    known = all(value is None or (value.is_constant and value.type.quant is None) for value in node.inputs)
    return known and all(value.type.quant is None for value in node.outputs)


def _lacks_data(value: Value) -> bool:
    return value.constant is not None and not value.constant.has_data


def _evaluate(node: Node) -> dict[str, Array] | str:
    """The results by name, or why there are none; operands are fed, so large ones are never serialized."""
    small = Graph(node.name)
    feeds: dict[str, Array] = {}
    operands: list[Value | None] = []
    for value in node.inputs:
        if value is None or value.constant is None:
            operands.append(None)
            continue
        if value.name not in feeds:
            feeds[value.name] = np.asarray(value.constant.array())
            small.add_input(value.name, value.type)
        operands.append(small.values[value.name])
    outputs = [(value.name, attrs.evolve(value.type, shape=None)) for value in node.outputs]
    small.set_outputs(small.add_node(node.op, operands, outputs, node.attributes, name=node.name).outputs)
    try:
        return Session(to_model(small, quantized=False), optimize=False).run(feeds)
    except ModelError as error:
        return f"ONNX Runtime cannot evaluate it: {error.message}."


def _replace(graph: Graph, node: Node, found: dict[str, Array]) -> None:
    made: list[tuple[str, Value]] = []
    for value in node.outputs:
        constant = Constant.of(found[value.name])
        fresh = graph.add_constant(graph.fresh_name(f"{value.name}_folded"), constant)
        graph.replace_uses(value, fresh)
        made.append((value.name, fresh))
    graph.remove(node)
    for name, value in made:
        graph.rename(value, name)
