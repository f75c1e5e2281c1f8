"""Scales of weights and activations, chosen together."""

from __future__ import annotations

import math
from typing import ClassVar

import attrs
import numpy as np

from lowtide.calibrate import Range
from lowtide.errors import PassError
from lowtide.ir import Graph, Layer, QuantParams, layers
from lowtide.passes import Pass, PassContext, PassOutcome, Refusal
from lowtide.quantize import numbers
from lowtide.quantize.operands import MacOperands, mac_operands
from lowtide.quantize.solve import SolveRequest
from lowtide.quantize.weights import most_bias_steps
from lowtide_plugins.scales.curves import Curve, activation_curve, weight_curve
from lowtide_plugins.scales.groups import Group, groups_of, params, request_of, union
from lowtide_plugins.scales.suffix import Values

PER_OCTAVE = 8
"""Scales that are tried between one power of two and the next, where scales are free."""

SWEEPS = 20
"""Rounds over all tensors at most; each lowers the predicted error or ends the search."""

FINER, COARSER = 2, 1
"""Octaves around the scale of the range that are searched."""

ACTIVATION_STEPS = (1.0, 2**-0.5, 0.5, 0.25)
WEIGHT_STEPS = (2.0, 1.0, 2**-0.5, 0.5, 0.25, 0.125)
"""Multiples of the scales of the whole range at which errors are measured."""


@attrs.frozen(eq=False)
class Mac:
    """A layer whose weight scale is chosen.

    Attributes:
        source: the group that it reads.
        made: the group that it makes, where its scale follows from the accumulator.
        curve: what weight scales cost.
        largest_bias: the largest magnitude of its bias.
        most_steps: what the format of the bias holds, in units of the accumulator.
    """

    layer: Layer
    source: Group
    made: Group
    curve: Curve
    largest_bias: float
    most_steps: float


@attrs.define
class Plan:
    """Scales under way, as whole numbers of steps of log2.

    Attributes:
        per_octave: steps from a power of two to the next.
        chosen: by name of the group.
        curves: what activation scales cost, by name of the group.
        macs: the layers.
        tied: whether output scales follow from accumulators.
    """

    per_octave: int
    chosen: dict[str, int]
    curves: dict[str, Curve]
    macs: tuple[Mac, ...]
    tied: bool

    def weight_scale(self, mac: Mac) -> tuple[int, float]:
        """The best weight scale between the scales chosen around a layer, and its cost."""
        source, made = self.chosen[mac.source.name], self.chosen[mac.made.name]
        octave = self.per_octave
        needed = mac.largest_bias / mac.most_steps
        least = math.ceil(octave * math.log2(needed) - source - 1e-9) if needed > 0 else -(10**6)
        # Requantization shifts to the right only, so the accumulator is no coarser than the output.
        most = made - source
        residue = most % octave if self.tied else 0
        first, last = (round(octave * mac.curve.points[at][0]) for at in (0, -1))
        choices = [
            step
            for step in range(first - octave, max(last, least) + 2 * octave)
            if least <= step <= most and (not self.tied or step % octave == residue)
        ]
        if not choices:
            return most, math.inf
        found = min(choices, key=lambda step: mac.curve.at(step / octave))
        return found, mac.curve.at(found / octave)

    def cost(self, name: str, around: tuple[Mac, ...]) -> float:
        """The part of the predicted error that the scale of a group decides on."""
        own = self.curves[name].at(self.chosen[name] / self.per_octave)
        return own + math.fsum(self.weight_scale(mac)[1] for mac in around)

    def total(self) -> float:
        """The predicted error of the outputs."""
        own = [curve.at(self.chosen[name] / self.per_octave) for name, curve in self.curves.items()]
        return math.fsum([*own, *(self.weight_scale(mac)[1] for mac in self.macs)])

    def descend(self) -> None:
        """Change one scale after the other as long as the predicted error falls."""
        around = {
            name: tuple(mac for mac in self.macs if name in {mac.source.name, mac.made.name})
            for name in self.chosen
        }
        start = dict(self.chosen)
        for _ in range(SWEEPS):
            moved = False
            for name, first in start.items():
                best, cost = self.chosen[name], self.cost(name, around[name])
                for step in range(first - FINER * self.per_octave, first + COARSER * self.per_octave + 1):
                    self.chosen[name] = step
                    found = self.cost(name, around[name])
                    if found < cost * (1 - 1e-9):
                        best, cost, moved = step, found, True
                self.chosen[name] = best
            if not moved:
                return


@attrs.frozen(kw_only=True)
class JointScales(Pass):
    """Choose the scales of weights and activations together, where requantization can only shift.

    With scales that are free but tied, s_out = s_in * s_w * 2^n, every scale is a power of 2^(1/8), and a
    layer takes the weight scale that costs least among those that its two activations leave, an octave apart.
    Under power-of-two scales the exponents are chosen. What a scale costs is measured: the tensor, or the
    weights, alone are quantized on some frames, and noise by signal of the outputs counts; costs are taken to
    add up. Scales start at those of the ranges and change one by one (coordinate descent) until none lowers
    the sum. A weight scale that the format of the bias, n >= 0 or float32 forbids is not considered.

    Layers with a weight scale per channel are left to the solver.

    Precondition: the pipeline ``scales``, symmetric activations and shifts; calibration frames are given.

    Attributes:
        frames: how many frames are run at most.
        memory: how many MiB their activations may take; there are fewer frames where that is not enough.
        unseen: see ``choose-ranges``.
    """

    name: ClassVar[str] = "joint-scales"
    frames: int = 32
    memory: int = 256
    unseen: float = 0.5

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        """See `Pass.run`.

        Raises:
            PassError: elsewhere than between calibrating and solving, or when no data was given.
        """
        request = request_of(ctx, self.name)
        if ctx.frames is None or ctx.ranges is None or ctx.weight_scales is None:
            raise PassError("needs calibration frames", place=self.name)
        rule = request.rule
        if rule.requantize != "shift":
            return PassOutcome(False, {}, (Refusal(self.name, f"the rule {rule.name} does not shift."),))
        values = Values(graph, ctx.frames, self.frames, self.memory << 20)
        groups = {group.name: group for group in groups_of(graph, request) if not group.asymmetric}
        per_octave = 1 if rule.activation_scale == "power-of-two" else PER_OCTAVE
        chosen: dict[str, int] = {}
        curves: dict[str, Curve] = {}
        for name, group in groups.items():
            quant = params(group, union(group, ctx.ranges), request)
            chosen[name] = math.ceil(per_octave * math.log2(quant.scale[0]) - 1e-6)
            curves[name] = activation_curve(
                values, group, quant, _steps(ACTIVATION_STEPS, per_octave), self.unseen
            )
        refusals: list[Refusal] = []
        macs = tuple(self._macs(graph, request, values, groups, refusals, ctx))
        plan = Plan(per_octave, chosen, curves, macs, tied=rule.activation_scale == "accumulator")
        plan.descend()
        changed = _apply(graph, plan, groups, request, ctx)
        return PassOutcome(changed > 0, {"chosen": changed}, tuple(refusals))

    def _macs(
        self,
        graph: Graph,
        request: SolveRequest,
        values: Values,
        groups: dict[str, Group],
        refusals: list[Refusal],
        ctx: PassContext,
    ) -> list[Mac]:
        member = {value: group for group in groups.values() for value in group.members}
        per_octave = 1 if request.rule.weight_scale == "power-of-two" else PER_OCTAVE
        found: list[Mac] = []
        for layer in layers(graph):
            node = layer.nodes[0]
            operands = mac_operands(node)
            if operands is None or not request.placement.on_accelerator(layer.name):
                continue
            source, made = member.get(operands.activation), member.get(layer.output)
            why = _objection(layer, operands, request, ctx)
            if why or source is None or made is None:
                refusals.append(Refusal(layer.place, why or "its activations have no symmetric codes."))
                continue
            assert operands.weights.constant is not None  # noqa: S101 - mac_operands checked it
            real, bits = operands.weights.constant.array(), request.plan.weights[layer.name]
            base = numbers.weight_params(
                real, bits, axis=None, power=per_octave == 1, narrow=request.rule.weight_codes == "narrow"
            ).scale[0]
            scales = [base * step for step in _steps(WEIGHT_STEPS, per_octave)]
            curve = weight_curve(values, node, operands, scales, bits)
            bias = operands.bias.constant.array() if operands.bias and operands.bias.constant else np.zeros(1)
            largest = float(np.abs(bias).max(initial=0.0))
            if curve is None:
                refusals.append(Refusal(layer.place, "its input is not kept."))
                continue
            most = most_bias_steps(request, wide=max(bits, source.bits) > 8)
            found.append(Mac(layer, source, made, curve, largest, most))
        return found


def _steps(steps: tuple[float, ...], per_octave: int) -> list[float]:
    return [step for step in steps if per_octave > 1 or math.log2(step).is_integer()]


def _objection(layer: Layer, operands: MacOperands, request: SolveRequest, ctx: PassContext) -> str:
    if ctx.weight_scales is not None and layer.name in ctx.weight_scales:
        return "its weight scale is known."
    if request.channel_wise and operands.depthwise:
        return "its weights have a scale per channel."
    weights = operands.weights.constant
    if weights is None or not np.any(weights.array()):
        return "its weights are zero."
    return ""


def _apply(
    graph: Graph, plan: Plan, groups: dict[str, Group], request: SolveRequest, ctx: PassContext
) -> int:
    """Write ranges and weight scales so that the solver finds what was chosen; how many there are."""
    assert ctx.ranges is not None  # noqa: S101 - run checked it
    assert ctx.weight_scales is not None  # noqa: S101 - run checked it
    weights = {mac.layer.name: plan.weight_scale(mac)[0] for mac in plan.macs}
    by_layer = {mac.layer.name: mac for mac in plan.macs}
    scales: dict[str, float] = {}

    def settle(group: Group, scale: float) -> None:
        before = union(group, ctx.ranges or {})
        dtype = numbers.symmetric_dtype(before.min, group.bits)
        quant = QuantParams(dtype, scale)
        scales[group.name] = quant.scale[0]
        low, high = quant.range
        ctx.ranges.update({value.name: Range(low, high) for value in group.members})  # type: ignore[union-attr]

    made_by_mac = {mac.made.name: mac for mac in plan.macs} if plan.tied else {}
    for name, group in groups.items():
        if name not in made_by_mac:
            settle(group, 2.0 ** (plan.chosen[name] / plan.per_octave))
    for layer in layers(graph):
        mac = by_layer.get(layer.name)
        if mac is None:
            continue
        step = weights[layer.name]
        scale = float(np.float32(2.0 ** (step / plan.per_octave)))
        ctx.weight_scales[layer.name] = (scale,)
        if plan.tied:
            shift = (plan.chosen[mac.made.name] - plan.chosen[mac.source.name] - step) // plan.per_octave
            settle(mac.made, math.ldexp(scales[mac.source.name] * scale, shift))
    return len(groups) + len(weights)
