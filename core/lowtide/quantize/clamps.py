"""Clamps that are in the codes of a network alone.

Codes saturate. Where those of a tensor begin at 0, quantizers leave out the Relu or Clip in front, which the
saturation does as well; a network that gives up such codes gets it back.

Source: ONNX Runtime's quantizer removes Relu and Clip in front of asymmetric QuantizeLinear.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lowtide.calibrate.nonnegative import provably_nonnegative
from lowtide.ir import Constant, Graph, Node, QuantParams, Value

SUFFIX = "_unclamped"


def clamps_in_codes(graph: Graph) -> dict[str, QuantParams]:
    """The activations whose codes clamp at 0 what nothing else does, in executable order.

    Args:
        graph: with codes; it stays as it is.
    """
    trial = graph.clone()
    found = {
        value.name: quant
        for node in trial
        for value in node.outputs
        if (quant := value.type.quant) is not None and _begins_at_zero(quant)
    }
    for name, quant in found.items():
        add_clamp(trial, name, quant)
    known = provably_nonnegative(trial)
    clamped = {
        name: node.value(0).name for name in found if (node := trial.values[name].producer) is not None
    }
    return {name: quant for name, quant in found.items() if clamped[name] not in known}


def add_clamps(graph: Graph, clamps: Mapping[str, QuantParams], *, fused: bool = False) -> None:
    """Put a Clip behind what makes each of these tensors.

    Args:
        graph: changed in place; the tensors keep their names.
        clamps: from `clamps_in_codes`.
        fused: let the Clip be part of the layer, as in a prepared graph.
    """
    for name, quant in clamps.items():
        node = add_clamp(graph, name, quant)
        maker = node.value(0).producer
        if fused and maker is not None:
            maker.layer = node.layer = maker.layer or name


def add_clamp(graph: Graph, name: str, quant: QuantParams) -> Node:
    """Clip a tensor to the range of codes; the result has its name and type."""
    value = graph.values[name]
    maker = value.producer
    assert maker is not None  # noqa: S101 - inputs are not among those found
    readers = value.uses
    returned = graph.is_output(value)
    limits = [
        _limit(graph, f"{name}_{end}", limit) for end, limit in zip(("low", "high"), quant.range, strict=True)
    ]
    graph.rename(value, graph.fresh_name(f"{name}{SUFFIX}"))
    after = graph.nodes[graph.nodes.index(maker) + 1 :]
    made = graph.add_node(
        "Clip",
        [value, *limits],
        [(name, value.type)],
        location=maker.location,
        layer=maker.layer,
        before=after[0] if after else None,
    )
    for use in readers:
        graph.set_input(use.node, use.operand, made.output)
    if returned:
        outputs = [made.output if output is value else output for output in graph.outputs]
        graph.set_outputs(outputs)
    graph.retype(value, value.type.with_quant(None))
    return made


def _begins_at_zero(quant: QuantParams) -> bool:
    return quant.axis is None and quant.zero_point[0] == quant.dtype.min


def _limit(graph: Graph, name: str, number: float) -> Value:
    return graph.add_constant(graph.fresh_name(name), Constant.of(np.array(number, np.float32)))
