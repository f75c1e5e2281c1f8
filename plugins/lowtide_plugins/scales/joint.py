"""Scales of weights and activations, chosen together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import attrs
import numpy as np

from lowtide.calibrate import Range
from lowtide.errors import PassError
from lowtide.ir import Array, Graph, Layer, QuantParams, Value, layers
from lowtide.latency import work_shares
from lowtide.passes import Pass, PassContext, PassOutcome, Refusal
from lowtide.quantize import numbers
from lowtide.quantize.operands import MAC_OPS, mac_operands
from lowtide.quantize.solve import SolveRequest
from lowtide.quantize.weights import (
    SPLIT_BIAS_LIMIT,
    fine_scales,
    most_bias_steps,
    shifted_scales,
    split_room,
)
from lowtide_plugins.passes.checks import at_least
from lowtide_plugins.scales.groups import Group, groups_of, params, request_of, union
from lowtide_plugins.scales.measured import Curves
from lowtide_plugins.scales.plan import Curve, Mac, Plan
from lowtide_plugins.scales.suffix import Values

PER_OCTAVE = 8
"""Scales that are tried between one power of two and the next, where scales are free."""

ACTIVATION_STEPS = (1.0, 0.5, 0.25)
WEIGHT_STEPS = (1.0, 0.5, 0.25)
"""Multiples of the scales of the whole range at which errors are measured."""


@attrs.frozen(kw_only=True)
class JointScales(Pass):
    """Choose the scales of weights and activations together, where requantization can only shift.

    With scales that are free but tied, s_out = s_in * s_w * 2^n, every scale is a power of 2^(1/8), and a
    layer takes the weight scale that costs least among those that its two activations leave, an octave apart.
    Under power-of-two scales the exponents are chosen. What a scale costs is measured: the tensor, or the
    weights, alone are quantized on some frames, and noise by signal of the outputs counts; costs are taken to
    add up. 16-bit tensors keep their range. Scales start at those of the ranges and change one by one until
    none lowers the sum (coordinate descent). Accumulator scales at which the format of the bias does not hold
    it are not considered.

    Where depthwise weights have scales per channel, that of the tensor is chosen, and channels are finer by
    powers of two as far as they can. It refuses layers whose weight scale is known and those whose
    activations have a zero point; their scales are left to the solver. It refuses rules that do not shift,
    and tied scales where depthwise weights have some per channel: their costs do not add up (MobileNetV1 0.75
    lost 15 dB after weights were chosen anew).

    Precondition: the pipeline ``scales``; calibration frames are given.

    Attributes:
        frames: how many frames are run at most.
        memory: how many MiB their activations may take; there are fewer frames where that is not enough, but
            up to 4 frames may take as many times of it.
        unseen: see ``choose-ranges``.
    """

    name: ClassVar[str] = "joint-scales"
    frames: int = 4
    memory: int = 24
    unseen: float = 1.0

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        """See `Pass.run`.

        Raises:
            PassError: elsewhere than between calibrating and solving, when no data was given, or when an
                option is out of range.
        """
        request = request_of(ctx, self.name)
        if ctx.frames is None or ctx.ranges is None or ctx.weight_scales is None:
            raise PassError("needs calibration frames", place=self.name)
        at_least(self, frames=1, memory=0, unseen=0)
        if request.rule.requantize != "shift":
            refusal = Refusal(self.name, f"the rule {request.rule.name} has more than shifts.")
            return PassOutcome(False, {}, (refusal,))
        tied = request.rule.activation_scale == "accumulator"
        if tied and request.channel_wise and any(_is_depthwise(layer) for layer in layers(graph)):
            reason = "depthwise layers have scales per channel, which follow from the weights."
            return PassOutcome(False, {}, (Refusal(self.name, reason),))
        shares = work_shares(graph, request.target, request.placement)
        values = Values(graph, ctx.frames, self.frames, self.memory << 20, shares)
        key = (self, request.rule, ctx.frames.positions)
        measured = Curves(values, request, self.unseen, ctx.known, key)
        groups = {group.name: group for group in groups_of(graph, request) if not group.asymmetric}
        per_octave = PER_OCTAVE if tied else 1
        chosen: dict[str, int] = {}
        whole: dict[str, tuple[Range, QuantParams]] = {}
        for name, group in groups.items():
            span = union(group, ctx.ranges)
            whole[name] = span, params(group, span, request)
            chosen[name] = math.ceil(per_octave * math.log2(whole[name][1].scale[0]) - 1e-6)
        refusals: list[Refusal] = []
        member = {value: group for group in groups.values() for value in group.members}
        makers: dict[str, list[tuple[Layer, _Weights]]] = {}
        for layer in layers(graph):
            if layer.op not in MAC_OPS or not request.placement.on_accelerator(layer.name):
                continue
            own = _weights(layer, member, request)
            if isinstance(own, str):
                refusals.append(Refusal(layer.place, own))
            else:
                makers.setdefault(member[layer.output].name, []).append((layer, own))
        curves: dict[str, Curve] = {}
        macs: list[Mac] = []
        weights: dict[str, _Weights] = {}
        for name, group in groups.items():
            span, quant = whole[name]
            steps = _steps(ACTIVATION_STEPS, per_octave)
            curves[name] = measured.of_group(group, span, quant, steps if group.bits == 8 else steps[:1])
            if group.bits != 8:  # codes are plenty, and what clipping costs shows on other frames only
                curves[name] = curves[name].without_finer()
            for layer, own in makers.get(name, ()):
                source = 2.0 ** (chosen[member[layer.nodes[0].value(0)].name] / per_octave)
                mac = _mac(layer, own, member, source, measured)
                if mac is None:
                    refusals.append(Refusal(layer.place, "its input does not leave a layer."))
                    continue
                macs.append(mac)
                weights[layer.name] = own
        plan = Plan(per_octave, chosen, curves, tuple(macs), tied)
        plan.descend()
        changed = _write(graph, plan, groups, weights, ctx.ranges, ctx.weight_scales)
        return PassOutcome(False, {"chosen": changed}, tuple(refusals), values.runs)


def _is_depthwise(layer: Layer) -> bool:
    operands = mac_operands(layer.nodes[0])
    return operands is not None and operands.depthwise


def _steps(steps: tuple[float, ...], per_octave: int) -> list[float]:
    return [step for step in steps if per_octave > 1 or math.log2(step).is_integer()]


@attrs.frozen(eq=False)
class _Weights:
    """The weights of a layer whose scale is chosen.

    Attributes:
        axis: where there is a scale for each index; ``None`` for one scale.
        fine: what every channel needs itself, where there is a scale for each.
        bias: magnitudes, ``[C]`` or ``[1]``.
        most: how many steps of the accumulator a bias may be.
    """

    bits: int
    axis: int | None
    fine: tuple[float, ...]
    bias: Array
    most: int

    def params(self, scale: float, source: float) -> QuantParams:
        """The codes at a scale of the tensor and one of the input; channels may have finer ones."""
        if self.axis is None:
            return QuantParams(numbers.signed_dtype(self.bits), scale)
        most = float(self.most)
        if self.most == SPLIT_BIAS_LIMIT:
            most = split_room(float(self.bias.max()) / (source * scale))
        wanted = np.maximum(self.fine, self.bias / (source * most))
        return QuantParams(
            numbers.signed_dtype(self.bits), shifted_scales(scale, wanted.tolist()), 0, self.axis
        )


def _weights(layer: Layer, member: Mapping[Value, Group], request: SolveRequest) -> _Weights | str:
    """The weights of a layer, or why their scale is not chosen."""
    operands = mac_operands(layer.nodes[0])
    if operands is None or operands.weights.constant is None:
        return "its weights are no constants."
    source = member.get(operands.activation)
    if source is None or layer.output not in member:
        return "its activations have a zero point, or no codes."
    if layer.name in request.weight_scales:
        return "its weight scale is known."
    real, bits = operands.weights.constant.array(), request.plan.weights[layer.name]
    if not np.any(real):
        return "its weights are all zero."
    by_channel = request.channel_wise and operands.depthwise and operands.axis is not None
    known = operands.bias is not None and operands.bias.constant is not None
    bias = operands.bias.constant.array() if known else np.zeros(1)  # type: ignore[union-attr]
    return _Weights(
        bits,
        operands.axis if by_channel else None,
        fine_scales(real, operands, bits, request) if by_channel else (),
        np.abs(bias.reshape(-1).astype(np.float64)),
        most_bias_steps(request, wide=max(bits, source.bits) > 8),
    )


def _mac(
    layer: Layer,
    own: _Weights,
    member: Mapping[Value, Group],
    scale: float,
    measured: Curves,
) -> Mac | None:
    """What weight scales of a layer cost; ``None`` where its input is not kept."""
    operands = mac_operands(layer.nodes[0])
    assert operands is not None  # noqa: S101 - `_weights` checked it
    assert operands.weights.constant is not None  # noqa: S101 - the same
    rule = measured.request.rule
    power, narrow = rule.weight_scale == "power-of-two", rule.weight_codes == "narrow"
    real = operands.weights.constant.array()
    whole = numbers.weight_params(real, own.bits, axis=None, power=power, narrow=narrow).scale[0]
    steps = _steps(WEIGHT_STEPS, 1 if power else PER_OCTAVE)
    curve = measured.of_weights(layer, operands, {whole * at: own.params(whole * at, scale) for at in steps})
    largest = float(own.bias.max(initial=0.0))
    least = math.log2(largest / own.most) if largest and own.axis is None else -math.inf
    names = (member[operands.activation].name, member[layer.output].name)
    return None if curve is None else Mac(layer.name, *names, curve, least)


def _write(  # noqa: PLR0917 - all that was chosen, and where it goes
    graph: Graph,
    plan: Plan,
    groups: dict[str, Group],
    weights: dict[str, _Weights],
    ranges: dict[str, Range],
    weight_scales: dict[str, tuple[float, ...]],
) -> int:
    """Write ranges and weight scales such that the solver finds what was chosen; how many there are."""
    macs = {mac.layer: mac for mac in plan.macs if plan.weight_step(mac)[1] < math.inf}
    scales: dict[str, float] = {}

    def settle(name: str, scale: float) -> None:
        group = groups[name]
        quant = QuantParams(numbers.symmetric_dtype(union(group, ranges).min, group.bits), scale)
        scales[name] = quant.scale[0]
        ranges.update({value.name: Range(*quant.range) for value in group.members})

    follows = {mac.made for mac in macs.values()} if plan.tied else set[str]()
    for name, step in plan.chosen.items():
        if name not in follows:
            settle(name, 2.0 ** (step / plan.per_octave))
    for layer in layers(graph):
        mac = macs.get(layer.name)
        if mac is None:
            continue
        scale = float(np.float32(2.0 ** (plan.weight_step(mac)[0] / plan.per_octave)))
        weight_scales[layer.name] = weights[layer.name].params(scale, scales[mac.source]).scale
        if plan.tied:
            # As the solver does it: powers of 2^(1/8) are rounded to float32, and errors would add up.
            settle(mac.made, math.ldexp(scales[mac.source] * scale, plan.shift(mac)))
    return len(groups) + len(macs)
