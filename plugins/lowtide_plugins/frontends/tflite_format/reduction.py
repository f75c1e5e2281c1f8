"""Operators that see a whole axis: sums and means, softmax, norms, the largest element."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import attrs

from lowtide.ir import DType, TensorType
from lowtide_plugins.frontends.tflite_format.builder import AXIS_IN_NCHW, Builder, Layout
from lowtide_plugins.frontends.tflite_format.elementwise import layout_of
from lowtide_plugins.frontends.tflite_format.movement import axis_of


def reduce(b: Builder, op: str) -> None:
    """Over constant axes, which stay with size 1 or go."""
    source = b.operand(0)
    rank = len(b.shape(source))
    axes = sorted({axis_of(b, axis, rank) for axis in b.ints(b.operand(1))})
    keep = bool(b.operator.options.get("keep_dims", False))
    taken: Layout = "nchw" if rank == 4 and b.nchw(source) and (keep or _same_order(axes)) else "file"
    where = b.indices([AXIS_IN_NCHW[axis] if taken == "nchw" else axis for axis in axes], "axes")
    made: Layout = "nchw" if taken == "nchw" and keep else "file"
    b.emit(op, [b.read(source, taken), where], {"keepdims": int(keep)}, layout=made)


def _same_order(axes: list[int]) -> bool:
    """Whether the dimensions that stay have the same order in both layouts."""
    left = [AXIS_IN_NCHW[axis] for axis in range(4) if axis not in axes]
    return left == sorted(left)


def softmax(b: Builder) -> None:
    """Along the last axis, of the operand times beta."""
    layout = layout_of(b, b.operand(0))
    value = b.read(b.operand(0), layout)
    beta = float(b.operator.options.get("beta", 1.0))
    if beta != 1.0:
        value = b.step("Mul", [value, b.constant(beta, "beta")])
    b.emit("Softmax", [value], {"axis": _last(layout)}, layout=layout)


def log_softmax(b: Builder) -> None:
    """Along the last axis."""
    layout = layout_of(b, b.operand(0))
    b.emit("LogSoftmax", [b.read(b.operand(0), layout)], {"axis": _last(layout)}, layout=layout)


def l2_normalization(b: Builder) -> None:
    """By the Euclidean length along the last axis."""
    layout = layout_of(b, b.operand(0))
    value = b.read(b.operand(0), layout)
    b.emit("LpNormalization", [value], {"axis": _last(layout), "p": 2}, layout=layout)


def _last(layout: Layout) -> int:
    return 1 if layout == "nchw" else -1


def local_response_normalization(b: Builder) -> None:
    """Over neighbouring channels; ONNX divides alpha by their number and TFLite does not."""
    options = b.operator.options
    size = 2 * int(options.get("radius", 0)) + 1
    attributes = {
        "size": size,
        "alpha": float(options.get("alpha", 0.0)) * size,
        "beta": float(options.get("beta", 0.0)),
        "bias": float(options.get("bias", 0.0)),
    }
    b.emit("LRN", [b.read(b.operand(0), "nchw")], attributes, layout="nchw")


def largest(b: Builder, op: str) -> None:
    """The index of the largest or smallest element along a constant axis, the first of several."""
    source = b.operand(0)
    rank = len(b.shape(source))
    axis = axis_of(b, b.ints(b.operand(1))[0], rank)
    # Without the axis the others keep their order only when it is that of the channels' last place.
    taken: Layout = "nchw" if rank == 4 and b.nchw(source) and _same_order([axis]) else "file"
    where = AXIS_IN_NCHW[axis] if taken == "nchw" else axis
    found = b.step(
        op,
        [b.read(source, taken)],
        {"axis": where, "keepdims": 0},
        made=TensorType(DType.INT64, None),
    )
    b.emit("Cast", [found], {"to": b.type_of(b.operator.outputs[0], "file").dtype.onnx})


def topk_v2(b: Builder) -> None:
    """The largest elements along the last axis, in order, and where they are."""
    count = b.indices(b.ints(b.operand(1))[:1], "k")
    values, indices = b.operator.outputs
    wide = b.graph.add_node(
        "TopK",
        [b.read(b.operand(0)), count],
        [
            (b.graph.fresh_name(b.tensor(values).name), b.type_of(values, "file")),
            (
                b.graph.fresh_name(f"{b.tensor(indices).name}_wide"),
                attrs.evolve(b.type_of(indices, "file"), dtype=DType.INT64),
            ),
        ],
        location=b.location,
    )
    b.values[values, "file"] = wide.outputs[0]
    narrow = b.type_of(indices, "file")
    cast = b.graph.add_node(
        "Cast",
        [wide.outputs[1]],
        [(b.graph.fresh_name(b.tensor(indices).name), narrow)],
        {"to": narrow.dtype.onnx},
        location=b.location,
    )
    b.values[indices, "file"] = cast.output


HANDLERS: Mapping[str, Callable[[Builder], None]] = {
    "MEAN": partial(reduce, op="ReduceMean"),
    "SUM": partial(reduce, op="ReduceSum"),
    "REDUCE_MAX": partial(reduce, op="ReduceMax"),
    "REDUCE_MIN": partial(reduce, op="ReduceMin"),
    "REDUCE_PROD": partial(reduce, op="ReduceProd"),
    "SOFTMAX": softmax,
    "LOG_SOFTMAX": log_softmax,
    "L2_NORMALIZATION": l2_normalization,
    "LOCAL_RESPONSE_NORMALIZATION": local_response_normalization,
    "ARG_MAX": partial(largest, op="ArgMax"),
    "ARG_MIN": partial(largest, op="ArgMin"),
    "TOPK_V2": topk_v2,
}
"""What translates each operator."""
