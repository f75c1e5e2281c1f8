"""The weights of products as one row for each output."""

from __future__ import annotations

import numpy as np

from lowtide.ir import Array, Graph, Node, QuantParams
from lowtide.quantize.operands import MacOperands, mac_operands

NO_TWIN = "the float network has no layer of this name."
"""Why a layer is left alone when its real weights are not known."""


def original(node: Node, reference: Graph) -> MacOperands | None:
    """The operands of the same layer in the float network."""
    twin = reference.values.get(node.output.name)
    found = mac_operands(twin.producer) if twin is not None and twin.producer is not None else None
    return found if found is not None and found.weights.constant is not None else None


def original_weights(node: Node, reference: Graph) -> Array | None:
    """The weights of the same layer in the float network, in the layout of the node."""
    found = original(node, reference)
    return found.weights.constant.array() if found is not None and found.weights.constant else None


def original_bias(node: Node, reference: Graph, outputs: int) -> Array:
    """The bias of the same layer in the float network, float64 ``[outputs]``; zeros where it has none."""
    found = original(node, reference)
    constant = found.bias.constant if found is not None and found.bias is not None else None
    data = np.zeros(1) if constant is None else constant.array().reshape(-1)
    return np.broadcast_to(data, (outputs,)).astype(np.float64)


def rows_objection(node: Node, *, sampled: bool = True) -> str | None:
    """Why weights have no row for each output that can be chosen by itself, ``None`` where they have.

    Args:
        node: a multiply-accumulate node.
        sampled: whether what a row multiplies is looked at, as `sample` does for convolutions of pictures.
    """
    rank = node.value(1).type.rank
    if node.op == "ConvTranspose":
        return f"{node.op} with weights of {rank} dimensions; it would have to be a Conv or a product."
    wanted = (4 if sampled else rank) if node.op == "Conv" else 2
    return None if rank == wanted else f"{node.op} with weights of {rank} dimensions; expected {wanted}."


def as_rows(node: Node, weights: Array) -> Array:
    """One row for each output of a Conv, Gemm or MatMul, ``[C_out, K]``."""
    if node.op == "Conv":
        return weights.reshape(weights.shape[0], -1)
    return weights if node.op == "Gemm" and node.int_attribute("transB", 0) else weights.T


def from_rows(node: Node, rows: Array, shape: tuple[int, ...]) -> Array:
    """Rows in the layout of the node."""
    turned = node.op == "MatMul" or (node.op == "Gemm" and not node.int_attribute("transB", 0))
    return rows.T if turned else rows.reshape(shape)


def row_scales(quant: QuantParams, outputs: int) -> Array:
    """The scale of every row, float64 ``[outputs]``."""
    return np.broadcast_to(np.array(quant.scale, np.float64), (outputs,))


def is_plain_product(node: Node) -> bool:
    """Whether a Gemm is x W + b."""
    factors = (node.float_attribute("alpha", 1.0), node.float_attribute("beta", 1.0))
    return factors == (1.0, 1.0) and not node.int_attribute("transA", 0)
