"""What constraints may ask about a node: one table of facts, and how each is read from the graph."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from lowtide.ir import Node, Value
from lowtide.target.expressions import FactValue

FACTS: Mapping[str, tuple[str, str]] = {
    "op": ("text", "the operator, as ONNX spells it"),
    "inputs": ("number", "how many operands are given"),
    "outputs": ("number", "how many results there are"),
    "layer_size": (
        "number",
        "how many nodes the fused layer has that the node belongs to; 1 for a node by itself",
    ),
    "constant_inputs": ("truth*", "for each given operand, whether it is known at compile time"),
    "weights_constant": ("truth", "whether the second operand is known at compile time"),
    "input_dtype": ("text", "element type of the first operand, as float32"),
    "output_dtype": ("text", "element type of the first result"),
    "requantizes": ("truth", "whether the first result has other codes than the first operand"),
    "rank": ("number", "number of dimensions of the first operand"),
    "shape": ("number*", "shape of the first operand"),
    "elements": ("number", "number of elements of the first operand"),
    "batch": ("number", "first dimension of a first operand with four or more dimensions"),
    "channels_in": ("number", "C of a first operand [N, C, …]; the last dimension for Gemm and MatMul"),
    "channels_out": ("number", "the same of the first result"),
    "height": ("number", "H of a first operand [N, C, H, W]"),
    "width": ("number", "W of a first operand [N, C, H, W] or [N, C, W]"),
    "out_height": ("number", "H of a first result [N, C, H, W]"),
    "out_width": ("number", "W of a first result [N, C, H, W] or [N, C, W]"),
    "non_singleton": ("number", "most dimensions above 1 that an operand or result has, constants aside"),
    "kernel_h": ("number", "height of a two-dimensional kernel"),
    "kernel_w": ("number", "width of a one- or two-dimensional kernel"),
    "stride_h": ("number", "vertical step of the kernel"),
    "stride_w": ("number", "horizontal step of the kernel"),
    "dilation_h": ("number", "vertical distance of the kernel's entries"),
    "dilation_w": ("number", "horizontal distance of the kernel's entries"),
    "pad_top": ("number", "rows that the operator adds above; unknown under auto_pad"),
    "pad_left": ("number", "columns that the operator adds on the left"),
    "pad_bottom": ("number", "rows that the operator adds below"),
    "pad_right": ("number", "columns that the operator adds on the right"),
    "group": ("number", "number of groups of a convolution"),
    "depthwise": ("truth", "whether every output channel of a convolution sees one input channel of several"),
    "axis": ("number", "the axis it works along, counted from the end: -1 is the last"),
    "keepdims": ("truth", "whether a reduction keeps the reduced dimensions"),
    "mode": ("text", "how Resize, GridSample, Pad or DepthToSpace work, in ONNX's words"),
    "perm": ("number*", "the order of dimensions that Transpose makes"),
    "clip_min": ("number", "lower bound of Clip, -inf without one"),
    "clip_max": ("number", "upper bound of Clip, inf without one"),
    "scales": ("number*", "factors by which Resize enlarges each dimension"),
    "scale_h": ("number", "vertical factor of a Resize of [N, C, H, W]"),
    "scale_w": ("number", "horizontal factor of a Resize of [N, C, H, W] or [N, C, W]"),
}
"""Every fact by name: its kind for `compile_expression`, and its meaning; ``None`` where it has none."""

FACT_KINDS: Mapping[str, str] = {name: kind for name, (kind, _) in FACTS.items()}
"""The kind of every fact."""

_WINDOWED = frozenset({"Conv", "ConvTranspose", "DeformConv", "MaxPool", "AveragePool"})
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "DeformConv"})
_DEFAULT_AXIS: Mapping[str, int] = {
    "ArgMax": 0,
    "ArgMin": 0,
    "Flatten": 1,
    "Gather": 0,
    "LayerNormalization": -1,
    "LogSoftmax": -1,
    "ScatterElements": 0,
    "Softmax": -1,
    "Split": 0,
    "TopK": -1,
}
_MODES: Mapping[str, str] = {
    "DepthToSpace": "DCR",
    "GridSample": "linear",
    "Pad": "constant",
    "Resize": "nearest",
}
_REDUCTIONS = ("Reduce", "ArgM")

_Dims = tuple[int | None, ...]


def node_facts(node: Node, *, layer_size: int = 1) -> dict[str, FactValue]:
    """All facts of a node; `layer_size` is the number of nodes in its fused layer."""
    facts: dict[str, FactValue] = dict.fromkeys(FACTS)
    given = [value for value in node.inputs if value is not None]
    facts.update(
        op=node.op,
        inputs=len(given),
        outputs=len(node.outputs),
        layer_size=layer_size,
        constant_inputs=tuple(value.is_constant for value in given),
        output_dtype=node.output.type.dtype.value,
        requantizes=bool(given) and node.output.type.quant not in {None, given[0].type.quant},
    )
    facts.update(_shape_facts(node))
    if node.op in _WINDOWED:
        facts.update(_window_facts(node))
    if node.op in _CONVOLUTIONS:
        facts.update(_group_facts(node))
    facts.update(_attribute_facts(node))
    return facts


def _dims(value: Value | None) -> _Dims:
    return () if value is None or value.type.shape is None else value.type.shape


def _shape_facts(node: Node) -> dict[str, FactValue]:
    first, second = node.operand(0), node.operand(1)
    facts: dict[str, FactValue] = {"non_singleton": _non_singleton(node)}
    if second is not None:
        facts["weights_constant"] = second.is_constant
    if first is None:
        return facts
    dims = _dims(first)
    facts.update(input_dtype=first.type.dtype.value, rank=first.type.rank)
    if first.type.is_static:
        facts.update(shape=first.type.static_shape, elements=math.prod(first.type.static_shape))
    channel = -1 if node.op in {"Gemm", "MatMul"} else 1
    facts.update(
        batch=_dim(dims, 0) if len(dims) >= 4 else None,
        channels_in=_dim(dims, channel),
        channels_out=_dim(_dims(node.output), channel),
    )
    facts["height"], facts["width"] = _plane(dims)
    facts["out_height"], facts["out_width"] = _plane(_dims(node.output))
    return facts


def _dim(dims: _Dims, index: int) -> int | None:
    return dims[index] if -len(dims) <= index < len(dims) else None


def _plane(dims: _Dims) -> tuple[int | None, int | None]:
    if len(dims) == 4:
        return dims[2], dims[3]
    return (None, dims[2]) if len(dims) == 3 else (None, None)


def _non_singleton(node: Node) -> int | None:
    values = [value for value in (*node.inputs, *node.outputs) if value is not None and not value.is_constant]
    if not all(value.type.is_static for value in values):
        return None
    return max((sum(dim > 1 for dim in value.type.static_shape) for value in values), default=None)


def _pair(entries: tuple[int, ...]) -> tuple[int | None, int | None]:
    if len(entries) == 2:
        return entries
    return (None, entries[0]) if len(entries) == 1 else (None, None)


def _window_facts(node: Node) -> dict[str, FactValue]:
    weights = _dims(node.operand(1))[2:] if node.op in _CONVOLUTIONS else ()
    fixed = tuple(dim for dim in weights if dim is not None)
    kernel = node.ints_attribute("kernel_shape", fixed if len(fixed) == len(weights) else ())
    ones = (1,) * len(kernel)
    facts: dict[str, FactValue] = {}
    facts["kernel_h"], facts["kernel_w"] = _pair(kernel)
    facts["stride_h"], facts["stride_w"] = _pair(node.ints_attribute("strides", ones))
    facts["dilation_h"], facts["dilation_w"] = _pair(node.ints_attribute("dilations", ones))
    if node.str_attribute("auto_pad", "NOTSET") in {"NOTSET", "VALID"}:
        pads = node.ints_attribute("pads", (0,) * (2 * len(kernel)))
        half = len(pads) // 2
        facts["pad_top"], facts["pad_left"] = _pair(pads[:half])
        facts["pad_bottom"], facts["pad_right"] = _pair(pads[half:])
    return facts


def _group_facts(node: Node) -> dict[str, FactValue]:
    group, channels = node.int_attribute("group", 1), _dim(_dims(node.operand(0)), 1)
    return {"group": group, "depthwise": None if channels is None else group > 1 and group == channels}


def _attribute_facts(node: Node) -> dict[str, FactValue]:
    facts: dict[str, FactValue] = {}
    rank = len(_dims(node.operand(0)))
    if ("axis" in node.attributes or node.op in _DEFAULT_AXIS) and rank:
        axis = node.int_attribute("axis", _DEFAULT_AXIS.get(node.op, 0))
        facts["axis"] = axis - rank if axis >= 0 else axis
    if node.op.startswith(_REDUCTIONS):
        facts["keepdims"] = bool(node.int_attribute("keepdims", 1))
    if node.op in _MODES:
        facts["mode"] = node.str_attribute("mode", _MODES[node.op])
    if node.op == "Transpose" and rank:
        facts["perm"] = node.ints_attribute("perm", tuple(reversed(range(rank))))
    if node.op == "Clip":
        facts.update(clip_min=_bound(node, 1, -math.inf), clip_max=_bound(node, 2, math.inf))
    if node.op == "Resize":
        facts.update(_resize_facts(node))
    return facts


def _bound(node: Node, operand: int, absent: float) -> float | None:
    value = node.operand(operand)
    if value is None:
        return absent
    found = _known(value)
    return found[0] if found else None


def _known(value: Value | None) -> tuple[float, ...]:
    if value is None or value.constant is None or not value.constant.has_data:
        return ()
    return tuple(float(entry) for entry in np.ravel(value.constant.array()))


def _resize_facts(node: Node) -> dict[str, FactValue]:
    scales = _resize_scales(node)
    if not scales:
        return {}
    facts: dict[str, FactValue] = {"scales": scales, "scale_w": scales[-1] if len(scales) in {3, 4} else None}
    facts["scale_h"] = scales[-2] if len(scales) == 4 else None
    return facts


def _resize_scales(node: Node) -> tuple[float, ...]:
    source, made = node.operand(0), node.output
    rank = len(_dims(source))
    given = _known(node.operand(2))
    axes = tuple(axis % rank for axis in node.ints_attribute("axes", tuple(range(rank)))) if rank else ()
    if given and len(given) == len(axes):
        factors = dict(zip(axes, given, strict=True))
        return tuple(factors.get(axis, 1.0) for axis in range(rank))
    if source is None or not (source.type.is_static and made.type.is_static):
        return ()
    before, after = source.type.static_shape, made.type.static_shape
    if len(before) != len(after) or 0 in before:
        return ()
    return tuple(new / old for new, old in zip(after, before, strict=True))
