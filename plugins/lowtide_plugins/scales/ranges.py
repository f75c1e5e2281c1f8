"""Ranges by the error that reaches the outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import ClassVar

import attrs
import numpy as np

from lowtide.calibrate import Range
from lowtide.errors import PassError
from lowtide.ir import Graph, Layer, Value, layers
from lowtide.latency import work_shares
from lowtide.passes import Pass, PassContext, PassOutcome
from lowtide.quantize.operands import MAC_OPS
from lowtide.quantize.solve import SolveRequest
from lowtide_plugins.passes.checks import at_least
from lowtide_plugins.scales.groups import Group, fake_quantized, groups_of, params, request_of, union
from lowtide_plugins.scales.suffix import Suffix, Values

FEW = 4
"""Frames that a range is searched on; what is best there has to be better on all."""

PATIENCE = 2
"""How many narrower ranges in a row may be worse before the search ends."""

STEPS = 20
"""How many times a range is made narrower at most."""

SIGNED = 0.5
"""A negative end above this share of the positive one is tried without: unsigned codes are twice as fine."""

HOPELESS = 100.0
"""How many times the noise that finer codes take out of a tensor clipping may add to it.

No tensor of 11 real networks gained at the outputs beyond 75.
"""

LINEAR = MAC_OPS | {"Add", "AveragePool", "Concat", "GlobalAveragePool", "ReduceMean", "Sub"}
"""What does not hide what is clipped, as a function does that is flat there."""

Move = Callable[[Range, float], Range]
"""A range made narrower by a factor."""


class Trial:
    """What a range costs.

    Args:
        values: on which frames.
        group: whose range.
        whole: the calibrated range; it is asked for first.
        request: the rules.
        unseen: see `ChooseRanges`.
        frames: which of the frames to run; by default all.
    """

    def __init__(  # noqa: PLR0917 - all of them decide on the cost
        self,
        values: Values,
        group: Group,
        whole: Range,
        request: SolveRequest,
        unseen: float,
        frames: Sequence[int] | None = None,
    ) -> None:
        self.values = values
        self.frames = range(len(values.frames)) if frames is None else frames
        self.arrays = [values.frames[at][root.name] for at in self.frames for root in group.roots]
        self.elements = sum(array.size for array in self.arrays)
        self.group, self.whole, self.request, self.unseen = group, whole, request, unseen
        self.sensitivity = 0.0

    @cached_property
    def suffix(self) -> Suffix:
        """What is behind the group; made late, since that takes longer than a look at the group."""
        return self.values.behind(self.group.roots)

    def hopeless(self, span: Range) -> bool:
        """Whether what a range clips is so much that nothing behind it has to run."""
        readers = [node for value in self.group.members for node in value.users]
        if any(node.op not in LINEAR for node in readers):
            return False
        if self.values.clips:
            return False
        quant, whole = (params(self.group, each, self.request) for each in (span, self.whole))
        low, high = quant.range
        clipped = (array - np.clip(array, low, high) for array in self.arrays)
        lost = sum(float(np.vdot(part, part)) for part in clipped)
        return lost > HOPELESS * self.elements * (whole.scale[0] ** 2 - quant.scale[0] ** 2) / 12

    def cost(self, span: Range) -> float:
        """The error of the outputs, and what elements at the ends of the whole range would add to it."""
        quant = params(self.group, span, self.request)
        error = self.suffix.error(lambda array: fake_quantized(array, quant), self.frames)
        if not self.sensitivity:  # nothing is clipped yet, all noise is rounding
            self.sensitivity = error * 12 / quant.scale[0] ** 2
        low, high = quant.range
        cut = max(low - self.whole.min, 0.0) ** 2 + max(self.whole.max - high, 0.0) ** 2
        if not (cut and self.unseen):
            return error
        clipped = [array - np.clip(array, low, high) for array in self.arrays]
        seen = self.sensitivity * sum(float(np.vdot(part, part)) for part in clipped) / self.elements
        rounding = self.sensitivity * quant.scale[0] ** 2 / 12
        # Clipped elements may have cost little: then so would those that are missing.
        part = min(max(error - rounding, 0.0) / seen, 1.0) if seen > rounding else 1.0
        return error + part * self.sensitivity * self.unseen / self.elements * cut


@attrs.frozen(kw_only=True)
class ChooseRanges(Pass):
    """Narrow the range of every activation as long as the error that it alone causes at the outputs falls.

    What a clipped element costs depends on what is made of it: nothing where x * sigmoid(x) is about 0
    anyway, very much where the largest element decides on the class. So the error is measured: on some
    frames, the tensor, with those that share its parameters, is quantized, everything behind runs in float,
    and noise by signal of the outputs counts. Both ends of the calibrated range are moved by factors, one
    after the other where there is a zero point; under power-of-two scales they halve. A tensor that goes
    little below zero is also tried without its negative part, since unsigned codes are twice as fine. A range
    is replaced only if the error falls by more than `gain`; 16-bit tensors keep theirs.

    Tensors are gone through from the outputs to the input. What the layers that read a tensor cut off, by
    ranges that have been narrowed already, is no error of that one: so what x * sigmoid(x) reads is not kept
    wider than what it gives. A search on some of the frames finds a range, and all frames widen or narrow it
    further. Under another plan of widths, a tensor keeps what was found where the layers behind it cut off
    the same; elsewhere what was found with 8 bits everywhere, where that is known, is only widened or
    narrowed. Other plans give no such start, so that the result does not depend on which came first.

    Precondition: the pipeline ``scales``; calibration frames are given.

    Attributes:
        frames: how many frames are run at most.
        memory: how many MiB their activations may take; there are fewer frames where that is not enough, but
            up to 4 frames may take as many times of it.
        step: the factor from one range to the next where scales are free, above 0 and below 1.
        gain: the least relative gain for which a range is changed.
        unseen: how many elements at each end of the calibrated range are taken to have been missed on the
            frames that are run; more keep the search from clipping what is rare.
    """

    name: ClassVar[str] = "choose-ranges"
    frames: int = 16
    memory: int = 64
    step: float = 0.84
    gain: float = 0.03
    unseen: float = 1.0

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        """See `Pass.run`.

        Raises:
            PassError: elsewhere than between calibrating and solving, when no data was given, or when an
                option is out of range.
        """
        request = request_of(ctx, self.name)
        if ctx.frames is None or ctx.ranges is None:
            raise PassError("needs calibration frames", place=self.name)
        at_least(self, frames=1, memory=0, gain=0, unseen=0)
        if not 0 < self.step < 1:
            raise PassError(f"expected above 0 and below 1, found {self.step}", place=f"{self.name}, step")
        shares = work_shares(graph, request.target, request.placement)
        values = Values(graph, ctx.frames, self.frames, self.memory << 20, shares)
        readers = _readers(graph)
        clips: dict[Value, Range] = {}
        narrowed = 0
        # From the outputs on, so that a range is not kept wide for what is cut off behind it anyway.
        groups = groups_of(graph, request)
        everywhere = all(group.bits == 8 for group in groups)
        for group in reversed(groups):
            before = union(group, ctx.ranges)
            if before.min == before.max or group.bits != 8:
                continue
            behind = {
                value: clips[value]
                for member in group.members
                for layer in readers.get(member, ())
                for value in layer.outputs
                if value in clips
            }
            limits = tuple((value.name, span) for value, span in behind.items())
            anywhere = (self, request.rule, ctx.frames.positions, group.key, before)
            key = (*anywhere, limits)
            after = ctx.known.get(key)
            if not isinstance(after, Range):
                values.clips = behind
                guess = None if everywhere else ctx.known.get(anywhere)
                after = self._chosen(
                    values, group, before, guess if isinstance(guess, Range) else None, request
                )
                ctx.known[key] = after
                if everywhere:
                    ctx.known[anywhere] = after
            if after != before:
                narrowed += 1
                ctx.ranges.update({value.name: after for value in group.members})
                held = Range(*params(group, after, request).range)
                clips.update(dict.fromkeys(group.roots, held))
        return PassOutcome(False, {"narrowed": narrowed}, runs=values.runs)

    def _chosen(
        self, values: Values, group: Group, before: Range, guess: Range | None, request: SolveRequest
    ) -> Range:
        """The range that a group is given instead of its calibrated one.

        Args:
            values: of the frames.
            group: which.
            before: the calibrated one.
            guess: what was best with 8 bits everywhere.
            request: the rules.
        """
        power = request.rule.activation_scale == "power-of-two"
        if guess is None:
            few = range(0, len(values.frames), -(-len(values.frames) // FEW))
            glance = Trial(values, group, before, request, 0.0, few)
            if all(map(glance.hopeless, self._nearest(before, group, power=power))):
                return before
            guess = self._search(before, group, glance.cost, power=power)
        if guess == before:
            return before
        trial = Trial(values, group, before, request, self.unseen)
        after = self._refine(before, guess, trial.cost, power=power)
        if after == before:
            return before
        # Files that carry ranges hold them in single precision.
        return Range(float(np.float32(after.min)), float(np.float32(after.max)))

    def _nearest(self, before: Range, group: Group, *, power: bool) -> Iterable[Range]:
        """The ranges that a search begins with, and ends with where none of them is better."""
        step = 0.5 if power else self.step
        for move in _moves(before, group):
            yield from (move(before, step**count) for count in range(1, PATIENCE + 1))
        if _may_be_unsigned(before, group):
            yield Range(0.0, before.max)

    def _search(self, before: Range, group: Group, cost: Callable[[Range], float], *, power: bool) -> Range:
        step = 0.5 if power else self.step
        first = best = cost(before)
        chosen = before
        for move in _moves(before, group):
            start, failed = chosen, 0
            for count in range(1, STEPS + 1):
                span = move(start, step**count)
                error = cost(span)
                if error < best:
                    chosen, best, failed = span, error, 0
                else:
                    failed += 1
                if failed >= PATIENCE:
                    break
        if _may_be_unsigned(before, group):
            for count in range(STEPS):
                span = Range(0.0, before.max * step**count)
                error = cost(span)
                if error >= best:
                    break
                chosen, best = span, error
        return chosen if best < first * (1 - self.gain) else before

    def _refine(self, before: Range, found: Range, cost: Callable[[Range], float], *, power: bool) -> Range:
        """Widen what a glance found, or narrow it, as long as that is better; it has to beat `before`."""
        step = 0.5 if power else self.step
        first = cost(before)
        chosen, best = found, cost(found)
        for factor in (1 / step, step):
            start, moved = chosen, chosen
            while True:
                moved = Range(max(moved.min * factor, before.min), min(moved.max * factor, before.max))
                error = cost(moved) if moved not in {start, before} else math.inf
                if error >= best:
                    break
                chosen, best = moved, error
            if chosen != start:
                break
        return chosen if best < first * (1 - self.gain) else before


def _moves(before: Range, group: Group) -> tuple[Move, ...]:
    """Both ends, one after the other where there is a zero point between them."""
    if group.asymmetric and before.min < 0 < before.max:
        return (lambda r, f: Range(r.min * f, r.max)), (lambda r, f: Range(r.min, r.max * f))
    return (lambda r, f: Range(r.min * f, r.max * f),)


def _may_be_unsigned(before: Range, group: Group) -> bool:
    return not group.asymmetric and before.min < 0 and -before.min < SIGNED * before.max


def _readers(graph: Graph) -> dict[Value, list[Layer]]:
    found: dict[Value, list[Layer]] = {}
    for layer in layers(graph):
        for value in layer.inputs:
            found.setdefault(value, []).append(layer)
    return found
