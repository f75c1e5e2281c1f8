"""QuantizeLinear and DequantizeLinear into types."""

from __future__ import annotations

from typing import ClassVar

import attrs
import numpy as np

from lowtide.errors import ModelError
from lowtide.ir import Array, Constant, DType, Graph, Node, QuantParams, TensorType, Value
from lowtide.ir.types import QUANTIZED_DTYPES
from lowtide.passes import Pass, PassContext, PassOutcome
from lowtide.quantize.codes import same_numbers
from lowtide.quantize.numbers import quantize
from lowtide_plugins.passes.rewrite import Tally, array_of, bypass, rename, sole_reader

MOVING_CODES = frozenset(
    {
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "MaxPool",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators whose results hold codes of their first operand and no others: they mean the same numbers."""


@attrs.frozen(kw_only=True)
class FoldQdq(Pass):
    """Folds pairs of QuantizeLinear and DequantizeLinear into the types of values.

    Precondition: shapes are inferred. Effect: what a QuantizeLinear reads gets its parameters as type, unless
    somebody reads it unquantized, or with other parameters, or the network returns it: then an Identity with
    these parameters stands for the pair. Codes behind a DequantizeLinear, and constants behind a pair, become
    constants with a type. Operators that move codes between the two work on the value itself. Nodes at the
    ends of a network that takes or returns integers stay. It refuses those whose scale is computed.

    Source: ONNX operators QuantizeLinear and DequantizeLinear, opset 21.
    """

    name: ClassVar[str] = "fold-qdq"

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        """See `Pass.run`.

        Raises:
            ModelError: for scales and zero points that cannot be, and a DequantizeLinear with other
                parameters than the QuantizeLinear before it.
        """
        return _Folder(graph, ctx).run()


class _Folder:
    def __init__(self, graph: Graph, ctx: PassContext) -> None:
        self.graph = graph
        self.ctx = ctx
        self.tally = Tally()
        self.real: dict[Value, Value] = {}
        """The quantized float value that a value of codes stands for."""

    def run(self) -> PassOutcome:
        for node in self.graph:
            match node.op:
                case "QuantizeLinear":
                    self.quantize(node)
                case "DequantizeLinear":
                    self.dequantize(node)
                case op if op in MOVING_CODES and node.value(0) in self.real:
                    self.move(node)
                case op if op in _LAYOUTS and node.value(0).is_constant and node.value(0).type.quant:
                    self.layout(node)
                case _:
                    pass
        self.graph.prune()
        return self.tally.outcome()

    # --- QuantizeLinear ---

    def quantize(self, node: Node) -> None:
        source, quant = node.value(0), self.parameters(node)
        if quant is None:
            return
        if source.is_constant:
            self.codes(node, source, quant)
        elif not self.graph.is_output(node.output):
            self.real[node.output] = self.with_type(node, source, quant)
            self.tally.count("quantize")

    def codes(self, node: Node, source: Value, quant: QuantParams) -> None:
        data = array_of(source)
        if data is None or self.graph.is_output(node.output):
            return
        if not np.isfinite(data).all():
            raise ModelError("the weights hold NaN or infinity", place=f"{node.place}, {source.name}")
        codes = quantize(data.astype(np.float32), quant)
        self.real[node.output] = self.constant(source.name, codes, quant)
        self.tally.count("weights")

    def with_type(self, node: Node, source: Value, quant: QuantParams) -> Value:
        """The value with these parameters: `source` itself when all that is seen of it are these codes."""
        if source.type.quant == quant:
            return source
        only = all(
            use.node.op == "QuantizeLinear" and use.operand == 0 and self.parameters(use.node) == quant
            for use in source.uses
        )
        if source.type.quant is None and only and not self.graph.is_output(source):
            self.graph.retype(source, source.type.with_quant(quant))
            return source
        name = self.graph.fresh_name(f"{source.name}_requantized")
        made = TensorType(DType.FLOAT32, source.type.shape, quant)
        copy = self.graph.add_node("Identity", [source], [(name, made)], location=node.location, before=node)
        return copy.output

    # --- DequantizeLinear ---

    def dequantize(self, node: Node) -> None:
        source, quant = node.value(0), self.parameters(node)
        if quant is None:
            return
        known = self.real.get(source)
        if known is not None:
            self.pair(node, known, quant)
        elif source.is_constant:
            data = array_of(source)
            if data is not None:
                self.replace(node, self.constant(source.name, data, quant))
                self.tally.count("weights")
        elif source in self.graph.inputs:
            self.graph.retype(node.output, TensorType(DType.FLOAT32, source.type.shape, quant))
        else:
            self.ctx.diagnostics.warning(
                "LT454",
                node.place,
                f"{source.name} holds codes that no QuantizeLinear made, so that it runs as an operator",
                "quantize the operators between them too, or export them as QDQ",
            )

    def pair(self, node: Node, known: Value, quant: QuantParams) -> None:
        assert known.type.quant is not None  # noqa: S101 - `real` holds quantized values only
        if known.type.quant != quant:
            raise ModelError(
                f"it reads the codes of {known.name} with {_shown(quant)}; they were made with "
                f"{_shown(known.type.quant)}",
                place=node.place,
                hint="a QuantizeLinear and its DequantizeLinear have one scale and zero point",
            )
        self.replace(node, known)
        self.tally.count("dequantize")

    def replace(self, node: Node, value: Value) -> None:
        """Let all that read the result of a node read a value; a result of the network keeps its name."""
        name, returned = node.output.name, self.graph.is_output(node.output)
        if returned and (value.producer is None or self.graph.is_output(value)):
            copy = TensorType(DType.FLOAT32, value.type.shape, value.type.quant)
            value = self.graph.add_node(
                "Identity", [value], [(self.graph.fresh_name(f"{name}_copy"), copy)], before=node
            ).output
        self.graph.replace_uses(node.output, value)
        self.graph.remove(node)
        if returned:
            rename(self.graph, value, name)

    # --- operators in between ---

    def move(self, node: Node) -> None:
        """Let an operator on codes work on the numbers that they stand for."""
        source = self.real[node.value(0)]
        quant = source.type.quant
        assert quant is not None  # noqa: S101 - `real` holds quantized values only
        if quant.axis is not None or any(self.graph.is_output(value) for value in node.outputs):
            return
        self.graph.set_input(node, 0, source)
        for value in node.outputs:
            if value.type.dtype is quant.dtype:
                self.graph.retype(value, TensorType(DType.FLOAT32, value.type.shape, quant))
                self.real[value] = value

    def layout(self, node: Node) -> None:
        """Turn or reshape constant codes."""
        source = node.value(0)
        data = source.constant.array() if source.constant is not None else None
        quant = source.type.quant
        assert data is not None  # noqa: S101 - the caller checks
        assert quant is not None  # noqa: S101 - the caller checks
        if node.op == "Transpose":
            perm = node.ints_attribute("perm", tuple(reversed(range(data.ndim))))
            moved = attrs.evolve(quant, axis=None if quant.axis is None else perm.index(quant.axis))
            self.replace(node, self.constant(node.output.name, np.transpose(data, perm), moved))
        elif quant.axis is None and node.output.type.is_static:
            shaped = data.reshape(node.output.type.static_shape)
            self.replace(node, self.constant(node.output.name, shaped, quant))

    # --- parameters ---

    def parameters(self, node: Node) -> QuantParams | None:
        """The parameters of a node; ``None`` when they are computed or of a type that no value has."""
        scale, zero = array_of(node.value(1)), array_of(node.operand(2))
        if scale is None or (node.operand(2) is not None and zero is None):
            self.note(node, "its scale or zero point is computed")
            return None
        if node.int_attribute("block_size", 0):
            self.note(node, "it has a scale per block")
            return None
        dtype = self.dtype(node, zero)
        if dtype not in QUANTIZED_DTYPES:
            self.note(node, f"its codes are {dtype}")
            return None
        return self.made(node, scale, np.zeros(scale.shape, np.int64) if zero is None else zero, dtype)

    def made(self, node: Node, scale: Array, zero: Array, dtype: DType) -> QuantParams:
        axis: int | None = None
        if scale.size != 1:
            rank = node.value(0).type.rank
            axis = node.int_attribute("axis", 1)
            if scale.ndim != 1 or zero.shape != scale.shape:
                raise ModelError(
                    f"the shapes of scale {list(scale.shape)} and zero point {list(zero.shape)} differ",
                    place=node.place,
                )
            if rank is not None and not -rank <= axis < rank:
                raise ModelError(f"axis {axis} of a tensor of {rank} dimensions", place=node.place)
            axis = axis % rank if rank is not None else axis
        try:
            return QuantParams(dtype, scale.reshape(-1), zero.reshape(-1).astype(np.int64), axis)
        except ValueError as error:
            raise ModelError(
                str(error), place=node.place, hint="quantize the model anew; these parameters cannot be"
            ) from error

    def dtype(self, node: Node, zero: Array | None) -> DType:
        if zero is not None:
            return DType.from_numpy(zero.dtype)
        if node.op == "DequantizeLinear":
            return node.value(0).type.storage
        number = node.int_attribute("output_dtype", 0)
        return DType.from_onnx(number) if number else DType.UINT8

    def note(self, node: Node, what: str) -> None:
        self.tally.refuse(node, f"{what}; it runs as an operator.")

    def constant(self, name: str, codes: Array, quant: QuantParams) -> Value:
        made = TensorType(DType.FLOAT32, codes.shape, quant)
        return self.graph.add_constant(self.graph.fresh_name(name), Constant.of(codes), made)


_LAYOUTS = frozenset({"Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


def _shown(quant: QuantParams) -> str:
    scales = f"{quant.scale[0]:.6g}" if len(quant.scale) == 1 else f"{len(quant.scale)} scales"
    return f"{quant.dtype} codes, scale {scales}, zero point {quant.zero_point[0]}"


@attrs.frozen(kw_only=True)
class DropInnerCodes(Pass):
    """Takes out quantization that changes nothing and would keep layers from being fused.

    Precondition: Q/DQ pairs are folded. Effect: codes between an operator and the Relu behind it go when the
    result has the same ones, or move to it when it has none; an Identity between codes for the same numbers
    goes, be they signed or unsigned; all results keep their codes. It refuses what would round differently.

    Source: a clamp at the zero point and rounding to the same codes commute, since both keep order.
    """

    name: ClassVar[str] = "drop-inner-codes"

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        """See `Pass.run`."""
        tally = Tally()
        for node in graph:
            match node.op:
                case "Relu":
                    self._relu(graph, node, tally)
                case "Identity":
                    self._identity(graph, node, tally)
                case _:
                    pass
        moved = tally.counters.get("relu", 0)
        if moved:
            text = f"the codes in front of {moved} Relu are taken out: those behind are the same without them"
            ctx.diagnostics.info("LT861", graph.name, text)
        return tally.outcome()

    def _relu(self, graph: Graph, node: Node, tally: Tally) -> None:
        before, after = node.value(0), node.output
        quant = before.type.quant
        if quant is None or before.producer is None or sole_reader(graph, before) is not node:
            return
        if after.type.quant not in {None, quant}:
            tally.refuse(
                node, f"{before.name} has other codes than {after.name}; they would have to be equal."
            )
            return
        graph.retype(before, before.type.with_quant(None))
        graph.retype(after, after.type.with_quant(quant))
        tally.count("relu")

    def _identity(self, graph: Graph, node: Node, tally: Tally) -> None:
        before, after = node.value(0).type.quant, node.output.type.quant
        if before is None or not (after is None or same_numbers(before, after)):
            return
        graph.retype(node.output, node.output.type.with_quant(before))
        if bypass(graph, node, node.value(0), tally):
            tally.count("copy")
        else:
            graph.retype(node.output, node.output.type.with_quant(after))
