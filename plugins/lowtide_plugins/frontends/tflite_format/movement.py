"""Operators that move elements: changes of shape and order, slices, joins, padding, resizing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np

from lowtide.errors import ModelError, UnsupportedModelError
from lowtide.ir import AttributeValue, DType, TensorType, Value
from lowtide_plugins.frontends.tflite_format.builder import AXIS_IN_NCHW, Builder, Layout
from lowtide_plugins.frontends.tflite_format.elementwise import layout_of

FAR = 2**31 - 1
"""An end beyond every dimension, for slices."""


def axis_of(b: Builder, axis: int, rank: int) -> int:
    """An axis of the file, counted from 0.

    Raises:
        ModelError: when there is no such axis.
    """
    if not -rank <= axis < rank:
        raise ModelError(f"axis {axis} of {rank} dimensions", place=b.operator.place)
    return axis % rank


def _placed(axis: int, layout: Layout) -> int:
    return AXIS_IN_NCHW[axis] if layout == "nchw" else axis


def reshape(b: Builder) -> None:
    """The shape of the result is what the file says it is."""
    shape = b.shape(b.operator.outputs[0])
    b.emit("Reshape", [b.read(b.operand(0)), b.indices(shape, "shape")])


def transpose(b: Builder) -> None:
    """Constant order of the axes."""
    b.emit("Transpose", [b.read(b.operand(0))], {"perm": b.ints(b.operand(1))})


def concatenation(b: Builder) -> None:
    """Any number of operands along one axis."""
    layout = layout_of(b, *b.operator.inputs)
    axis = axis_of(b, b.option("axis", 0), len(b.shape(b.operand(0))))
    operands = [b.read(index, layout) for index in b.operator.inputs]
    b.emit("Concat", operands, {"axis": _placed(axis, layout)}, layout=layout, activation=True)


def split(b: Builder) -> None:
    """Equal parts; the axis comes first."""
    _split(b, b.operand(1), b.ints(b.operand(0))[0])


def split_v(b: Builder) -> None:
    """Parts of given sizes, which are what the results say they are."""
    _split(b, b.operand(0), b.ints(b.operand(2))[0])


def _split(b: Builder, index: int, axis: int) -> None:
    layout = layout_of(b, index)
    axis = axis_of(b, axis, len(b.shape(index)))
    sizes = [b.shape(result)[axis] for result in b.operator.outputs]
    operands = [b.read(index, layout), b.indices(sizes, "sizes")]
    b.emit("Split", operands, {"axis": _placed(axis, layout)}, layout=layout)


def slice_(b: Builder) -> None:
    """First elements and sizes, of which -1 means all that follow."""
    begins, sizes = b.ints(b.operand(1)), b.ints(b.operand(2))
    ends = [FAR if size < 0 else begin + size for begin, size in zip(begins, sizes, strict=True)]
    _slice(b, begins, ends, [1] * len(begins), layout_of(b, b.operand(0)))


def _slice(
    b: Builder, begins: Sequence[int], ends: Sequence[int], steps: Sequence[int], layout: Layout
) -> None:
    axes = [_placed(axis, layout) for axis in range(len(begins))]
    lists = [b.indices(numbers, name) for numbers, name in _named(begins, ends, axes, steps)]
    b.emit("Slice", [b.read(b.operand(0), layout), *lists], layout=layout)


def _named(*lists: Sequence[int]) -> list[tuple[Sequence[int], str]]:
    return list(zip(lists, ("starts", "ends", "axes", "steps"), strict=True))


def strided_slice(b: Builder) -> None:
    """Masks leave out begins, ends and dimensions.

    Source: TensorFlow's definition of tf.strided_slice.
    """
    source, shape = b.operand(0), b.shape(b.operand(0))
    entries = list(zip(*(b.ints(b.operand(at)) for at in (1, 2, 3)), strict=True))
    if b.option("new_axis_mask", 0) or b.option("ellipsis_mask", 0):
        raise UnsupportedModelError(
            "new axes and ellipses in slices are not supported", place=b.operator.place
        )
    begins: list[int] = []
    ends: list[int] = []
    steps: list[int] = []
    for axis, (begin, end, step) in enumerate(entries):
        if step == 0 or axis >= len(shape):
            raise ModelError(f"a slice with step {step} at axis {axis}", place=b.operator.place)
        masked = 1 << axis
        if b.option("shrink_axis_mask", 0) & masked:
            first = begin + shape[axis] if begin < 0 else begin
            begins.append(first)
            ends.append(first + 1)
            steps.append(1)
            continue
        begins.append((0 if step > 0 else FAR) if b.option("begin_mask", 0) & masked else begin)
        ends.append((FAR if step > 0 else -FAR) if b.option("end_mask", 0) & masked else end)
        steps.append(step)
    if not b.option("shrink_axis_mask", 0):
        _slice(b, begins, ends, steps, layout_of(b, source))
        return
    value = b.read(source)
    lists = [b.indices(numbers, name) for numbers, name in _named(begins, ends, range(len(begins)), steps)]
    part = b.step("Slice", [value, *lists], made=attrs.evolve(value.type, shape=None))
    b.emit("Reshape", [part, b.indices(b.shape(b.operator.outputs[0]), "shape")])


def pack(b: Builder) -> None:
    """Join along a new axis."""
    axis = axis_of(b, b.option("axis", 0), len(b.shape(b.operator.outputs[0])))
    where = b.indices([axis], "axes")
    parts: list[Value] = []
    for index in b.operator.inputs:
        value = b.read(index)
        parts.append(b.step("Unsqueeze", [value, where], made=attrs.evolve(value.type, shape=None)))
    b.emit("Concat", parts, {"axis": axis})


def unpack(b: Builder) -> None:
    """Split along an axis that goes."""
    source = b.read(b.operand(0))
    axis = axis_of(b, b.option("axis", 0), len(b.shape(b.operand(0))))
    results = b.operator.outputs
    for position, index in enumerate(results):
        at = b.constant(np.array(position, np.int64), f"{b.tensor(index).name}_index")
        value = b.graph.add_node(
            "Gather",
            [source, at],
            [(b.graph.fresh_name(b.tensor(index).name), b.type_of(index, "file"))],
            {"axis": axis},
            location=b.location,
        ).output
        b.values[index, "file"] = value


def gather(b: Builder) -> None:
    """Indices along one axis."""
    if b.option("batch_dims", 0):
        raise UnsupportedModelError("batch dimensions of a gather are not supported", place=b.operator.place)
    axis = axis_of(b, b.option("axis", 0), len(b.shape(b.operand(0))))
    b.emit("Gather", [b.read(b.operand(0)), b.read(b.operand(1))], {"axis": axis})


def gather_nd(b: Builder) -> None:
    """Indices of any depth."""
    wide = b.step(
        "Cast", [b.read(b.operand(1))], {"to": DType.INT64.onnx}, made=TensorType(DType.INT64, None)
    )
    b.emit("GatherND", [b.read(b.operand(0)), wide])


def pad(b: Builder) -> None:
    """By zeros, or by the number of the third operand."""
    layout = layout_of(b, b.operand(0))
    source = b.read(b.operand(0), layout)
    number = b.real(b.operand(2)).reshape(()) if b.operand(2) >= 0 else np.zeros((), source.type.dtype.numpy)
    b.emit("Pad", [source, _paddings(b, layout), b.constant(number, "padding")], layout=layout)


def mirror_pad(b: Builder) -> None:
    """Without or with the element at the edge."""
    if b.option("mode", 0):
        raise UnsupportedModelError("symmetric mirror padding is not supported", place=b.operator.place)
    layout = layout_of(b, b.operand(0))
    b.emit("Pad", [b.read(b.operand(0), layout), _paddings(b, layout)], {"mode": "reflect"}, layout=layout)


def _paddings(b: Builder, layout: Layout) -> Value:
    pairs = b.array(b.operand(1)).reshape(-1, 2)
    order = [AXIS_IN_NCHW.index(at) for at in range(4)] if layout == "nchw" else range(len(pairs))
    ordered = [[int(entry) for entry in pairs[at]] for at in order]
    return b.indices([pair[0] for pair in ordered] + [pair[1] for pair in ordered], "pads")


def resize_bilinear(b: Builder) -> None:
    """Coordinates by the corners, by half pixels, or neither."""
    if b.operator.options.get("align_corners"):
        mode = "align_corners"
    else:
        mode = "half_pixel" if b.operator.options.get("half_pixel_centers") else "asymmetric"
    _resize(b, {"mode": "linear", "coordinate_transformation_mode": mode})


def resize_nearest_neighbor(b: Builder) -> None:
    """Rounded down; with corners aligned or half pixels to the nearest, ties up.

    Source: the reference kernel of TensorFlow Lite.
    """
    options = b.operator.options
    if options.get("align_corners"):
        mode, nearest = "align_corners", "round_prefer_ceil"
    elif options.get("half_pixel_centers"):
        mode, nearest = "half_pixel", "round_prefer_ceil"
    else:
        mode, nearest = "asymmetric", "floor"
    _resize(b, {"mode": "nearest", "coordinate_transformation_mode": mode, "nearest_mode": nearest})


def _resize(b: Builder, attributes: Mapping[str, str]) -> None:
    batch, height, width, channels = b.shape(b.operator.outputs[0])
    sizes = b.indices((batch, channels, height, width), "sizes")
    b.emit("Resize", [b.read(b.operand(0), "nchw"), None, None, sizes], attributes, layout="nchw")


def space_to_depth(b: Builder) -> None:
    """Blocks to channels; the block counts slower than the channel, as in ONNX."""
    b.emit(
        "SpaceToDepth",
        [b.read(b.operand(0), "nchw")],
        {"blocksize": b.option("block_size", 1)},
        layout="nchw",
    )


def depth_to_space(b: Builder) -> None:
    """Channels to blocks; the block counts slower than the channel."""
    attributes: dict[str, AttributeValue] = {"blocksize": b.option("block_size", 1), "mode": "DCR"}
    b.emit("DepthToSpace", [b.read(b.operand(0), "nchw")], attributes, layout="nchw")


def space_to_batch_nd(b: Builder) -> None:
    """Blocks to the batch, for dilated convolutions.

    Source: TensorFlow's definition of tf.space_to_batch_nd, for two spatial dimensions.
    """
    blocks, pads = _blocks(b)
    source, made = b.read(b.operand(0)), b.shape(b.operator.outputs[0])
    batch, _, _, channels = b.shape(b.operand(0))
    (top, bottom), (left, right) = pads
    value = source
    if any((top, bottom, left, right)):
        wide = attrs.evolve(source.type, shape=None)
        amounts = b.indices([0, top, left, 0, 0, bottom, right, 0], "pads")
        value = b.step("Pad", [source, amounts, b.constant(0.0, "padding")], made=wide)
    rows, columns = made[1], made[2]
    split_up = (batch, rows, blocks[0], columns, blocks[1], channels)
    value = _turned(b, value, split_up, (2, 4, 0, 1, 3, 5))
    b.emit("Reshape", [value, b.indices(made, "shape")])


def batch_to_space_nd(b: Builder) -> None:
    """The batch back to blocks, with the edges cut off.

    Source: TensorFlow's definition of tf.batch_to_space_nd, for two spatial dimensions.
    """
    blocks, crops = _blocks(b)
    source = b.read(b.operand(0))
    batch, height, width, channels = b.shape(b.operand(0))
    count = batch // (blocks[0] * blocks[1])
    value = _turned(b, source, (blocks[0], blocks[1], count, height, width, channels), (2, 3, 0, 4, 1, 5))
    whole = (count, height * blocks[0], width * blocks[1], channels)
    joined = b.step(
        "Reshape", [value, b.indices(whole, "whole")], made=attrs.evolve(source.type, shape=whole)
    )
    (top, bottom), (left, right) = crops
    starts, ends = [top, left], [whole[1] - bottom, whole[2] - right]
    lists = [b.indices(numbers, name) for numbers, name in _named(starts, ends, [1, 2], [1, 1])]
    b.emit("Slice", [joined, *lists])


def _blocks(b: Builder) -> tuple[tuple[int, ...], list[list[int]]]:
    blocks, edges = b.ints(b.operand(1)), b.array(b.operand(2)).reshape(-1, 2).tolist()
    if len(blocks) != 2 or len(edges) != 2 or len(b.shape(b.operand(0))) != 4 or min(blocks) < 1:
        raise UnsupportedModelError(
            f"expected two spatial dimensions, found blocks {list(blocks)}", place=b.operator.place
        )
    return blocks, [[int(entry) for entry in pair] for pair in edges]


def _turned(b: Builder, value: Value, shape: Sequence[int], perm: Sequence[int]) -> Value:
    made = attrs.evolve(value.type, shape=tuple(shape))
    apart = b.step("Reshape", [value, b.indices(shape, "apart")], made=made)
    turned = attrs.evolve(made, shape=tuple(shape[at] for at in perm))
    return b.step("Transpose", [apart], {"perm": tuple(perm)}, made=turned)


def tile(b: Builder) -> None:
    """Repeated along every axis."""
    b.emit("Tile", [b.read(b.operand(0)), b.indices(b.ints(b.operand(1)), "repeats")])


def broadcast_to(b: Builder) -> None:
    """To the shape of the result."""
    b.emit("Expand", [b.read(b.operand(0)), b.indices(b.shape(b.operator.outputs[0]), "shape")])


def shape_of(b: Builder) -> None:
    """The shape of an operand is known, since all shapes are."""
    dtype = b.type_of(b.operator.outputs[0], "file").dtype.numpy
    b.alias(b.constant(np.array(b.shape(b.operand(0)), dtype), b.result_name))


def fill(b: Builder) -> None:
    """One number in the shape of the result."""
    b.emit("Expand", [b.read(b.operand(1)), b.indices(b.shape(b.operator.outputs[0]), "shape")])


def reverse_v2(b: Builder) -> None:
    """Backwards along some axes."""
    source = b.operand(0)
    axes = [axis_of(b, axis, len(b.shape(source))) for axis in b.ints(b.operand(1))]
    backwards = _named([-1] * len(axes), [-FAR] * len(axes), axes, [-1] * len(axes))
    b.emit("Slice", [b.read(source), *(b.indices(numbers, name) for numbers, name in backwards)])


HANDLERS: Mapping[str, Callable[[Builder], None]] = {
    "RESHAPE": reshape,
    "SQUEEZE": reshape,
    "EXPAND_DIMS": reshape,
    "TRANSPOSE": transpose,
    "CONCATENATION": concatenation,
    "SPLIT": split,
    "SPLIT_V": split_v,
    "SLICE": slice_,
    "STRIDED_SLICE": strided_slice,
    "PACK": pack,
    "UNPACK": unpack,
    "GATHER": gather,
    "GATHER_ND": gather_nd,
    "PAD": pad,
    "PADV2": pad,
    "MIRROR_PAD": mirror_pad,
    "RESIZE_BILINEAR": resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest_neighbor,
    "SPACE_TO_DEPTH": space_to_depth,
    "DEPTH_TO_SPACE": depth_to_space,
    "SPACE_TO_BATCH_ND": space_to_batch_nd,
    "BATCH_TO_SPACE_ND": batch_to_space_nd,
    "TILE": tile,
    "BROADCAST_TO": broadcast_to,
    "SHAPE": shape_of,
    "FILL": fill,
    "REVERSE_V2": reverse_v2,
}
"""What translates each operator."""
