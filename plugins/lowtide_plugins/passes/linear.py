"""Convolutions and matrix products with constant weights: read, scale and write back weights and bias.

Everything in between is float64; only what is written is rounded to the element type of the weights.
"""

from __future__ import annotations

import attrs
import numpy as np

from lowtide.ir import Array, DType, Graph, Node, Value
from lowtide_plugins.passes.rewrite import array_of, float_like, write_constant

LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that are linear in their first operand once the second is constant."""


@attrs.frozen(eq=False)
class Linear:
    """Weights and bias of a linear node.

    Attributes:
        weights: `[O, I/g, …]` for Conv, `[I, O/g, …]` for ConvTranspose, `[N, K]` for Gemm, `[K, N]` for
            MatMul.
        bias: `[O]`; zeros where there is none.
        rank: the rank of operand and result.
        dtype: the element type that weights and bias are stored in.
        biased: whether the operator can add a bias at all.
    """

    node: Node
    weights: Array
    bias: Array
    rank: int
    dtype: DType
    biased: bool = True

    @property
    def group(self) -> int:
        """Number of groups."""
        return self.node.int_attribute("group", 1) if self.node.op in {"Conv", "ConvTranspose"} else 1

    @property
    def axis(self) -> int:
        """The axis of operand and result that counts channels."""
        return 1 if self.node.op in {"Conv", "ConvTranspose"} else self.rank - 1

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return self.bias.size

    @property
    def inputs(self) -> int:
        """Number of input channels."""
        if self.node.op == "Conv":
            return int(self.weights.shape[1]) * self.group
        return int(self.weights.shape[1 if self.node.op == "Gemm" else 0])

    @property
    def is_padded(self) -> bool:
        """Whether zeros are added around the operand."""
        pads = any(self.node.ints_attribute("pads"))
        return pads or self.node.str_attribute("auto_pad", "NOTSET") not in {"NOTSET", "VALID"}

    def after(self, scale: Array, shift: Array) -> Linear | str:
        """The node with its result times `scale` plus `shift`, both `[O]`; or why not."""
        if np.any(shift) and not self.biased:
            return "a MatMul of this rank has no bias; the offset would have to be zero."
        tail = (1,) * (self.weights.ndim - 2)
        if self.node.op in {"Conv", "Gemm"}:
            weights = self.weights * scale.reshape(-1, 1, *tail)
        elif self.node.op == "MatMul":
            weights = self.weights * scale
        else:
            grouped = self._grouped() * scale.reshape(self.group, 1, -1, *tail)
            weights = grouped.reshape(self.weights.shape)
        return attrs.evolve(self, weights=weights, bias=self.bias * scale + shift)

    def before(self, scale: Array, shift: Array) -> Linear | str:
        """The node with its operand times `scale` plus `shift`, both `[I]`; or why not."""
        op = self.node.op
        if np.any(shift):
            reason = self._shift_objection()
            if reason:
                return reason
        if op == "Conv":
            tail = (1,) * (self.weights.ndim - 2)
            grouped = self._grouped()
            per_input = (self.group, 1, -1, *tail)
            weights = (grouped * scale.reshape(per_input)).reshape(self.weights.shape)
            added = (grouped * shift.reshape(per_input)).reshape(self.outputs, -1).sum(axis=1)
        elif op == "ConvTranspose":
            weights, added = self.weights * scale.reshape(-1, *(1,) * (self.weights.ndim - 1)), 0.0
        elif op == "Gemm":
            weights, added = self.weights * scale, self.weights @ shift
        else:
            weights, added = self.weights * scale[:, np.newaxis], shift @ self.weights
        return attrs.evolve(self, weights=weights, bias=self.bias + added)

    def _shift_objection(self) -> str | None:
        if self.is_padded:
            return (
                f"{self.node.place} pads with zeros, which the offset does not reach; the padding or "
                "the offset would have to be zero."
            )
        if self.node.op == "ConvTranspose":
            return f"the borders of {self.node.place} see fewer terms; the offset would have to be zero."
        if not self.biased:
            return "a MatMul of this rank has no bias; the offset would have to be zero."
        return None

    def _grouped(self) -> Array:
        first, second, *kernel = self.weights.shape
        return self.weights.reshape(self.group, first // self.group, second, *kernel)

    @property
    def is_finite(self) -> bool:
        """Whether weights and bias still are numbers of their element type."""
        parts = (float_like(self.weights, self.dtype), float_like(self.bias, self.dtype))
        return all(bool(np.isfinite(part).all()) for part in parts)

    def write(self, graph: Graph) -> None:
        """Put weights and bias into the graph; a MatMul that gets a bias becomes a Gemm."""
        node = self.node
        needs_bias = bool(np.any(self.bias)) or node.operand(2) is not None
        weights = self.weights
        if node.op == "MatMul" and needs_bias:
            node.op, weights = "Gemm", weights.T
        if node.op == "Gemm":
            graph.set_attribute(node, "transB", 1)
            graph.set_attribute(node, "alpha", None)
            graph.set_attribute(node, "beta", None)
            if not node.int_attribute("transA", 0):
                graph.set_attribute(node, "transA", None)
        write_constant(graph, node, 1, float_like(weights, self.dtype), f"{node.output.name}_weight")
        if needs_bias:
            write_constant(graph, node, 2, float_like(self.bias, self.dtype), f"{node.output.name}_bias")


def linear(node: Node) -> Linear | str:
    """Read a node, or say why it is not linear with constant weights."""
    if node.op not in LINEAR:
        return f"{node.op} is no convolution or matrix product."
    weights = array_of(node.operand(1))
    if weights is None or weights.dtype.kind != "f":
        return f"the weights of {node.place} would have to be float constants."
    dtype, exact = DType.from_numpy(weights.dtype), weights.astype(np.float64)
    if node.op == "MatMul":
        return _matmul(node, exact, dtype)
    if node.op == "Gemm":
        exact = exact * node.float_attribute("alpha", 1.0)
        exact = exact if node.int_attribute("transB", 0) else exact.T
        outputs = exact.shape[0]
    elif node.op == "Conv":
        outputs = exact.shape[0]
    else:
        outputs = exact.shape[1] * node.int_attribute("group", 1)
    bias = _bias(node, node.operand(2), outputs)
    if isinstance(bias, str):
        return bias
    return Linear(node, exact, bias, exact.ndim, dtype)


def _matmul(node: Node, weights: Array, dtype: DType) -> Linear | str:
    rank = node.value(0).type.rank
    if weights.ndim != 2 or rank is None or rank < 2:
        return f"the weights of {node.place} would have to be a matrix and the rank of its operand known."
    bias = np.zeros(int(weights.shape[1]))
    return Linear(node, weights, bias, rank, dtype, biased=rank == 2)


def _bias(node: Node, value: Value | None, outputs: int) -> Array | str:
    if value is None:
        return np.zeros(outputs)
    data = array_of(value)
    if data is None:
        return f"the bias of {node.place} would have to be a float constant."
    bias = channel_vector(data.astype(np.float64), 2 if node.op == "Gemm" else 1, -1, outputs)
    if bias is None:
        return f"the bias of {node.place} would have to be the same for every row."
    return bias * node.float_attribute("beta", 1.0) if node.op == "Gemm" else bias


def channel_vector(data: Array, rank: int, axis: int, channels: int) -> Array | None:
    """`[channels]` when the array broadcasts to a tensor of this rank along `axis` alone, else ``None``."""
    if data.ndim > rank:
        return None
    shape = (1,) * (rank - data.ndim) + data.shape
    axis %= rank
    others = [dim for position, dim in enumerate(shape) if position != axis]
    if any(dim != 1 for dim in others) or shape[axis] not in {1, channels}:
        return None
    return np.broadcast_to(data.ravel(), (channels,)).copy()
