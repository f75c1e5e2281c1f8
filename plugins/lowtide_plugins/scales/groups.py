"""Tensors that share their parameters, as the unit of every choice of a range."""

from __future__ import annotations

import attrs
import numpy as np

from lowtide.calibrate import Range
from lowtide.errors import PassError
from lowtide.ir import Array, Graph, Layer, QuantParams, Value, layers
from lowtide.passes import PassContext
from lowtide.precision import quantized_values
from lowtide.quantize import numbers
from lowtide.quantize.solve import SolveRequest, may_be_asymmetric, tied_tensors


@attrs.frozen(eq=False)
class Group:
    """Tensors with the same parameters.

    Attributes:
        members: in executable order.
        roots: those that are not copies of other members.
        bits: their width.
        asymmetric: whether they may have a zero point.
    """

    members: tuple[Value, ...]
    roots: tuple[Value, ...]
    bits: int
    asymmetric: bool

    @property
    def name(self) -> str:
        """That of the first member."""
        return self.members[0].name

    @property
    def key(self) -> tuple[object, ...]:
        """All of it by name, to be found again in another copy of the graph."""
        names = (tuple(value.name for value in values) for values in (self.members, self.roots))
        return (*names, self.bits, self.asymmetric)


def request_of(ctx: PassContext, name: str) -> SolveRequest:
    """The rules that the solver will follow.

    Raises:
        PassError: when the pass runs elsewhere than between calibrating and solving.
    """
    if (
        ctx.target is None
        or ctx.rule is None
        or ctx.placement is None
        or ctx.plan is None
        or ctx.ranges is None
    ):
        raise PassError("chooses scales, so it belongs into the pipeline scales", place=name)
    return SolveRequest(
        target=ctx.target,
        rule=ctx.rule,
        placement=ctx.placement,
        plan=ctx.plan,
        ranges=ctx.ranges,
        weight_scales=ctx.weight_scales or {},
        channel_wise=bool(ctx.options and ctx.options.channel_wise_quantization),
        clip_bias=bool(ctx.options and ctx.options.bias_clipping),
    )


def groups_of(graph: Graph, request: SolveRequest) -> tuple[Group, ...]:
    """All groups in the order of their first members."""
    values = quantized_values(graph, request.target, request.placement)
    around: dict[Value, list[Layer]] = {}
    makers: dict[Value, Layer] = {}
    for layer in layers(graph):
        makers.update((value, layer) for value in layer.outputs)
        for value in (*layer.inputs, *layer.outputs):
            around.setdefault(value, []).append(layer)
    found: list[Group] = []
    for names in tied_tensors(graph, request, values).sets().values():
        members = tuple(graph.values[name] for name in names)
        same = set(members)
        roots = tuple(
            value for value in members if value not in makers or same.isdisjoint(makers[value].inputs)
        )
        asymmetric = all(may_be_asymmetric(value, around.get(value, ()), request) for value in members)
        bits = request.plan.activations[members[0].name]
        found.append(Group(members, roots, bits, asymmetric))
    return tuple(found)


def params(group: Group, span: Range, request: SolveRequest) -> QuantParams:
    """What the solver makes of a range, where nothing but the range decides."""
    if group.asymmetric:
        signed = request.rule.activation_dtype.signed
        dtype = numbers.signed_dtype(group.bits) if signed else numbers.unsigned_dtype(group.bits)
        return numbers.asymmetric(span.min, span.max, dtype)
    if request.rule.activation_scale == "power-of-two":
        return numbers.power_of_two(span.min, span.max, group.bits)
    return numbers.symmetric(span.min, span.max, group.bits)


def union(group: Group, ranges: dict[str, Range]) -> Range:
    """The range of a group, 0 included."""
    known = [ranges[value.name] for value in group.members]
    return Range(min(0.0, *(span.min for span in known)), max(0.0, *(span.max for span in known)))


def fake_quantized(array: Array, quant: QuantParams) -> Array:
    """The float32 numbers that the codes of an array stand for."""
    scale, zero = np.float32(quant.scale[0]), np.float32(quant.zero_point[0])
    steps = np.rint(array.astype(np.float32) / scale) + zero
    made: Array = (np.clip(steps, quant.dtype.min, quant.dtype.max) - zero) * scale
    return made.astype(array.dtype)
