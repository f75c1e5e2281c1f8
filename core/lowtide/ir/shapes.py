"""Shape inference by ONNX, on a model that shows the data of small constants only."""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from lowtide.errors import GraphError
from lowtide.ir.dtypes import DType
from lowtide.ir.graph import Graph
from lowtide.ir.node import Value
from lowtide.ir.proto import dims, node_proto
from lowtide.ir.schema import OPSET
from lowtide.ir.types import TensorType

SMALL_CONSTANT = 4096
"""Bytes up to which a constant's data is shown to shape inference; shapes, axes and so on need far less."""


def infer_types(graph: Graph) -> int:
    """Set dtype and shape of every node's outputs as far as ONNX can tell; quantization stays.

    A dimension that ONNX leaves open keeps what was known of it.

    Returns:
        How many types changed.

    Raises:
        GraphError: when ONNX finds a contradiction.
    """
    try:
        inferred = onnx.shape_inference.infer_shapes(_light_model(graph), strict_mode=True, data_prop=True)
    except Exception as error:
        raise GraphError(f"shape inference failed: {error}", place=graph.name) from error
    found = {
        info.name: info.type.tensor_type for info in (*inferred.graph.value_info, *inferred.graph.output)
    }
    changed = 0
    for node in graph:
        for value in node.outputs:
            if value.name not in found:
                continue
            made = _type(found[value.name], value.type)
            if made != value.type:
                graph.retype(value, made)
                changed += 1
    return changed


def _light_model(graph: Graph) -> onnx.ModelProto:
    shown = [value for value in graph.constants if _is_small(value)]
    hidden = [value for value in graph.constants if not _is_small(value)]
    fed = [*graph.inputs, *hidden]
    proto = helper.make_graph(
        [node_proto(node, ["" if value is None else value.name for value in node.inputs]) for node in graph],
        graph.name or "graph",
        [helper.make_tensor_value_info(value.name, value.type.dtype.onnx, dims(value.type)) for value in fed],
        [
            helper.make_empty_tensor_value_info(value.name)
            for value in graph.outputs
            if value.producer is not None
        ],
        [numpy_helper.from_array(value.constant.array(), value.name) for value in shown if value.constant],
    )
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)])


def _is_small(value: Value) -> bool:
    constant = value.constant
    quantized = value.type.quant is not None
    return constant is not None and constant.has_data and not quantized and constant.nbytes <= SMALL_CONSTANT


def _type(info: onnx.TypeProto.Tensor, known: TensorType) -> TensorType:
    try:
        dtype = DType.from_onnx(info.elem_type) if info.elem_type else known.dtype
    except ValueError:
        dtype = known.dtype
    if not info.HasField("shape"):
        return TensorType(dtype, known.shape, known.quant)
    told = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in info.shape.dim)
    before = known.shape if known.rank == len(told) and known.shape is not None else told
    shape = tuple(old if new is None else new for new, old in zip(told, before, strict=True))
    return TensorType(dtype, shape, known.quant)
