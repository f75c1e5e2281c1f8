"""Nodes that multiply by and add a constant, and their way into a linear node before or behind them."""

from __future__ import annotations

import attrs
import numpy as np

from lowtide.ir import Array, Graph, Node
from lowtide_plugins.passes.linear import Linear, channel_vector, linear
from lowtide_plugins.passes.rewrite import absorb, absorb_before, array_of, obstacle


@attrs.frozen(eq=False)
class Affine:
    """result = operand * scale + shift, in float64.

    Attributes:
        node: the node that does it.
        operand: which of its operands is scaled.
        scale: broadcasts to the result, as numpy and ONNX broadcast.
        shift: likewise.
        axis: the axis along which scale and shift lie when they are vectors, ``None`` when they broadcast.
    """

    node: Node
    operand: int
    scale: Array
    shift: Array
    axis: int | None = None

    def along(self, rank: int, axis: int, channels: int) -> tuple[Array, Array] | None:
        """Scale and shift as `[channels]` each, ``None`` when they differ along another axis."""
        if self.axis is not None:
            fits = self.axis == axis and self.scale.size == channels
            return (self.scale, self.shift) if fits else None
        scale = channel_vector(self.scale, rank, axis, channels)
        shift = channel_vector(self.shift, rank, axis, channels)
        return None if scale is None or shift is None else (scale, shift)


def normalization(node: Node) -> Affine | str:
    """What a BatchNormalization does in inference, or why that is not known.

    Source: ONNX operator BatchNormalization, opset 15.
    """
    if node.int_attribute("training_mode", 0) or len(node.outputs) > 1:
        return "it is in training mode; the model would have to be exported for inference."
    parts = [array_of(node.operand(position)) for position in range(1, 5)]
    found = [part.astype(np.float64) for part in parts if part is not None]
    if len(found) != len(parts):
        return "its scale, bias, mean and variance would have to be float constants."
    gamma, beta, mean, variance = found
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = gamma / np.sqrt(variance + node.float_attribute("epsilon", 1e-5))
    return Affine(node, 0, scale, beta - mean * scale, 1)


def elementwise(node: Node) -> Affine | None:
    """What an Add, Sub, Mul or Div with one float constant does, ``None`` for any other node."""
    if node.op not in {"Add", "Sub", "Mul", "Div"} or len(node.inputs) != 2:
        return None
    datas = [array_of(node.operand(0)), array_of(node.operand(1))]
    operand = 0 if datas[0] is None else 1
    data = datas[1 - operand]
    if data is None or datas[operand] is not None or data.dtype.kind != "f":
        return None
    constant, one, zero = data.astype(np.float64), np.ones(()), np.zeros(())
    match node.op, operand:
        case "Add", _:
            return Affine(node, operand, one, constant)
        case "Sub", 0:
            return Affine(node, operand, one, -constant)
        case "Sub", 1:
            return Affine(node, operand, -one, constant)
        case "Mul", _:
            return Affine(node, operand, constant, zero)
        case "Div", 0 if np.all(constant):
            return Affine(node, operand, 1.0 / constant, zero)
        case _:
            return None


def fold_behind(graph: Graph, affine: Affine) -> str | None:
    """Fold into the linear node that makes the operand. Returns why not, ``None`` when it is done."""
    node = affine.node
    maker = node.value(affine.operand).producer
    if maker is None:
        return "no convolution or matrix product stands before it."
    found = _joined(graph, maker, maker, node)
    if isinstance(found, str):
        return found
    vectors = affine.along(found.rank, found.axis, found.outputs)
    if vectors is None:
        return f"its constants would have to be one number for each output channel of {maker.place}."
    reason = _finish(graph, found.after(*vectors))
    if reason is None:
        absorb(graph, maker, node)
    return reason


def fold_ahead(graph: Graph, affine: Affine) -> str | None:
    """Fold into the linear node that reads the result. Returns why not, ``None`` when it is done."""
    node = affine.node
    if not node.output.uses:
        return "no convolution or matrix product stands behind it."
    reader, operand = node.output.uses[0]
    found = _joined(graph, reader, node, reader)
    if isinstance(found, str):
        return found
    if operand != 0 or reader.int_attribute("transA", 0):
        return f"it would have to be the first operand of {reader.place}, and not transposed there."
    vectors = affine.along(found.rank, found.axis, found.inputs)
    if vectors is None:
        return f"its constants would have to be one number for each input channel of {reader.place}."
    reason = _finish(graph, found.before(*vectors))
    if reason is None:
        absorb_before(graph, node, affine.operand, reader)
    return reason


def _joined(graph: Graph, weighted: Node, first: Node, second: Node) -> Linear | str:
    found = linear(weighted)
    if isinstance(found, str):
        return found
    return obstacle(graph, first, second) or found


def _finish(graph: Graph, changed: Linear | str) -> str | None:
    if isinstance(changed, str):
        return changed
    if not changed.is_finite:
        return "the folded weights would overflow; its constants would have to be smaller."
    changed.write(graph)
    return None
