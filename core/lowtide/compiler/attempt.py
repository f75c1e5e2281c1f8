"""One way from the prepared network to a quantized one, measured on frames that no pass has learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np

from lowtide.calibrate import Calibrator, Collected, NumberFormat, Range, Statistic, calibrate, collect
from lowtide.compiler.held_out import HeldOut
from lowtide.compiler.recipe import Settings
from lowtide.compiler.run import Device
from lowtide.data import DataSource
from lowtide.diagnostics import Diagnostics
from lowtide.errors import PassError
from lowtide.ir import Graph
from lowtide.passes import PassContext, PassRun, parse_configured, parse_pipeline, run_pipeline
from lowtide.plugin import CalibratorSpec, StatisticSpec
from lowtide.precision import PrecisionPlan
from lowtide.quantize.codes import remove_codes
from lowtide.quantize.solve import SolveRequest, solve
from lowtide.runtime import Session, in_flight, to_model
from lowtide.target import Placement, place

if TYPE_CHECKING:
    from lowtide.compiler.stages import Compilation

SAME = 1e-3
"""How much the conditioned network may differ from the prepared one, relative to the largest output."""

Runs = tuple[tuple[str, PassRun], ...]


@attrs.frozen(kw_only=True, eq=False)
class Conditioned:
    """The network as it will be quantized, and what frames told of it.

    Attributes:
        graph: weights that brought codes keep them.
        reference: the same in float.
        known: what passes keep between attempts that are made of it.
    """

    text: str
    graph: Graph
    reference: Graph
    placement: Placement
    collected: Collected | None
    runs: Runs
    diagnostics: Diagnostics
    known: dict[object, object] = attrs.field(factory=dict[object, object])


@attrs.frozen(kw_only=True, eq=False)
class Attempt:
    """A quantized network.

    Attributes:
        base: what it was made from.
        settings: how.
        ranges: as calibrated, before the pipeline ``scales``, and known ones.
        solved: what the solver was given, ranges and weight scales after that pipeline included.
        changed: whether the passes that were run last changed anything.
    """

    base: Conditioned
    settings: Settings
    plan: PrecisionPlan
    ranges: Mapping[str, Range]
    solved: SolveRequest
    graph: Graph
    runs: Runs
    diagnostics: Diagnostics
    changed: bool = True


@attrs.define(kw_only=True)
class Workbench:
    """Makes attempts for a compilation.

    Attributes:
        tensors: the activations that are calibrated.
        known: ranges of the others.
        calibrators: all that may be asked; their statistics are collected at once.
        train: the frames that passes learn from; ``None`` when there are none. Statistics are of all frames.
        held_out: the frames to measure with.
        runs: of the network on one frame that passes took to learn, pass by pass.
    """

    compilation: Compilation
    tensors: Sequence[str]
    known: Mapping[str, Range]
    calibrators: Sequence[str]
    train: DataSource | None
    held_out: HeldOut | None
    runs: list[float] = attrs.field(factory=list[float])

    def condition(self, text: str) -> Conditioned:
        """Run the pipeline ``condition`` and collect statistics.

        Raises:
            PassError: when the pipeline changes what the network computes.
        """
        c, diagnostics = self.compilation, Diagnostics()
        graph = c.graph.clone()
        context = attrs.evolve(c.context(), diagnostics=diagnostics, frames=self.train)
        runs = self.run("condition", text, graph, context)
        placement = place(graph, c.target, c.options, Diagnostics()) if text else c.placement
        reference = graph.clone()
        remove_codes(reference)
        if text and self.train is not None:
            check_same(c.prepared, reference, self.train, f"condition: {text}")
        collected = self._collect(reference, diagnostics)
        return Conditioned(
            text=text,
            graph=graph,
            reference=reference,
            placement=placement,
            collected=collected,
            runs=runs,
            diagnostics=diagnostics,
        )

    def _collect(self, graph: Graph, diagnostics: Diagnostics) -> Collected | None:
        c = self.compilation
        if not self.tensors or c.source is None:
            return None
        registry = c.request.registry
        names = [name for text in self.calibrators for name in self._calibrator(text).statistics]
        kinds: list[type[Statistic]] = [registry.load(StatisticSpec, name) for name in dict.fromkeys(names)]
        with c.clock.stage("collect") as stage:
            collected = collect(
                graph,
                c.source,
                kinds,
                tensors=self.tensors,
                array_frames=c.options.statistics_frames,
                progress=c.clock.progress.advance,
                cache=c.request.cache,
                diagnostics=diagnostics,
            )
            stage.cached = collected.cached_frames == collected.frames
        return collected

    def quantize(
        self, base: Conditioned, settings: Settings, plan: PrecisionPlan, *, remember: bool = True
    ) -> Attempt:
        """Calibrate, run the pipeline ``scales``, solve, run the pipeline ``weights``.

        Args:
            base: what is quantized.
            settings: how.
            plan: with what widths.
            remember: whether later attempts may take over what passes on scales keep. Without, what this
                attempt costs says nothing of what another one will.
        """
        ranges = {**self.known, **self.calibrate(base, settings, plan)}
        return self._solve(base, settings, plan, ranges, known=base.known if remember else dict(base.known))

    def rescale(self, attempt: Attempt, text: str) -> Attempt:
        """Run more passes on the ranges and scales that an attempt was solved with."""
        settings = attempt.settings.with_step("scales", text)
        base = attempt.base
        return self._solve(base, settings, attempt.plan, attempt.ranges, known=base.known, begun=attempt)

    def solve(
        self, base: Conditioned, settings: Settings, plan: PrecisionPlan, ranges: Mapping[str, Range]
    ) -> Attempt:
        """The same from given ranges on."""
        return self._solve(base, settings, plan, ranges, known=base.known)

    def _solve(
        self,
        base: Conditioned,
        settings: Settings,
        plan: PrecisionPlan,
        ranges: Mapping[str, Range],
        *,
        known: dict[object, object],
        begun: Attempt | None = None,
    ) -> Attempt:
        c, diagnostics = self.compilation, Diagnostics()
        graph = base.graph.clone()
        chosen, scales = dict(ranges), dict(c.encodings.weight_scales)
        text: str = settings.scales
        before: Runs = ()
        if begun is not None:
            chosen, scales = dict(begun.solved.ranges), dict(begun.solved.weight_scales)
            text = settings.scales.removeprefix(begun.settings.scales).removeprefix(",")
            before = tuple(run for run in begun.runs if run[0] == "scales")
        start = dict(chosen), dict(scales)
        context = attrs.evolve(
            c.context(),
            diagnostics=diagnostics,
            frames=self.train,
            placement=base.placement,
            statistics=base.collected,
            plan=plan,
            ranges=chosen,
            weight_scales=scales,
            known=known,
        )
        runs = before + self.run("scales", text, graph, context)
        if begun is not None and start == (chosen, scales):
            return attrs.evolve(begun, changed=False)
        solved = SolveRequest(
            target=c.target,
            rule=c.rule,
            placement=base.placement,
            plan=plan,
            ranges=chosen,
            weight_scales=scales,
            channel_wise=bool(c.options.channel_wise_quantization),
            clip_bias=c.options.bias_clipping,
            diagnostics=diagnostics,
        )
        with c.clock.stage("solve"):
            solve(graph, solved)
        plain = attrs.evolve(settings, weights="")
        made = Attempt(
            base=base,
            settings=plain,
            plan=plan,
            ranges=ranges,
            solved=solved,
            graph=graph,
            runs=runs,
            diagnostics=diagnostics,
        )
        if not settings.weights:
            return made
        return attrs.evolve(self.extend(made, settings.weights), changed=True)

    def extend(self, attempt: Attempt, text: str) -> Attempt:
        """Run more passes on the quantized weights; the attempt itself stays as it is."""
        c, diagnostics = self.compilation, Diagnostics()
        for entry in attempt.diagnostics:
            diagnostics.add(entry)
        graph = attempt.graph.clone()
        request = attrs.evolve(attempt.solved, diagnostics=diagnostics)
        context = attrs.evolve(
            c.context(),
            diagnostics=diagnostics,
            reference=attempt.base.reference,
            frames=self.train,
            placement=attempt.base.placement,
            statistics=attempt.base.collected,
            plan=attempt.plan,
            request=request,
            device=self.device(attempt.base),
            known=attempt.base.known,
        )
        runs = self.run("weights", text, graph, context)
        return attrs.evolve(
            attempt,
            settings=attempt.settings.with_step("weights", text),
            solved=request,
            graph=graph,
            runs=attempt.runs + runs,
            diagnostics=diagnostics,
            changed=any(run.outcome.changed for _, run in runs),
        )

    def device(self, base: Conditioned) -> Device:
        """How the device rounds, and what runs on the host."""
        return self.compilation.device_of(base.placement)

    def error(self, attempt: Attempt) -> float:
        """Noise by signal over the held-out frames in exact execution, the geometric mean over outputs.

        Raises:
            DataError: when there are no frames.
        """
        assert self.held_out is not None  # noqa: S101 - the caller tries nothing without frames
        return self.held_out.error(attempt.graph, self.device(attempt.base))

    def calibrate(self, base: Conditioned, settings: Settings, plan: PrecisionPlan) -> dict[str, Range]:
        """The range of every tensor that is calibrated."""
        c = self.compilation
        if base.collected is None:
            return {}
        calibrator = self._calibrator(settings.calibrator)
        registry = c.request.registry
        provider = str(registry.provider(registry.get(CalibratorSpec, calibrator.name)))
        with c.clock.stage("calibrate"):
            return calibrate(base.collected, calibrator, self._formats(plan), provider=provider)

    def _formats(self, plan: PrecisionPlan) -> dict[str, NumberFormat]:
        """What numbers each tensor will be stored in, for calibrators that care."""
        rule = self.compilation.rule
        return {
            tensor: NumberFormat(
                bits=plan.activations[tensor],
                symmetric=rule.activation == "symmetric",
                power_of_two=rule.activation_scale == "power-of-two",
                shift_only=rule.activation_scale == "accumulator",
            )
            for tensor in self.tensors
        }

    def _calibrator(self, text: str) -> Calibrator:
        found: Calibrator = parse_configured(text, self.compilation.request.registry, CalibratorSpec)
        return found

    def run(self, stage: str, text: str, graph: Graph, context: PassContext) -> Runs:
        """Run a pipeline of a stage on a graph, in place."""
        if not text:
            return ()
        c = self.compilation
        with c.clock.stage(stage):
            runs = run_pipeline(
                graph,
                parse_pipeline(text, c.request.registry),
                context,
                registry=c.request.registry,
                after_each=c.request.after_pass,
            )
        self.runs += [run.outcome.runs for run in runs]
        return tuple((stage, run) for run in runs)


def check_same(before: Graph, after: Graph, frames: DataSource, text: str) -> None:
    """Run one frame through both networks.

    Raises:
        PassError: naming the passes `text`, when an output differs by more than `SAME`.
    """
    one = frames.select(1)
    sessions = [Session(to_model(graph, quantized=False)) for graph in (before, after)]
    results = [
        [
            found
            for _, outputs in in_flight(session, one.frames(), lambda f: f.feeds)
            for found in outputs.values()
        ]
        for session in sessions
    ]
    for value, real, made in zip(before.outputs, *results, strict=True):
        scale = float(np.abs(real.astype(np.float64)).max(initial=0.0))
        difference = float(np.abs(real.astype(np.float64) - made.astype(np.float64)).max(initial=0.0))
        if not difference <= SAME * max(scale, 1e-30):
            raise PassError(
                f"the network computes something else after these passes: {value.name} differs by "
                f"{difference:.3g}, its largest element is {scale:.3g}",
                place=text,
                hint="passes before calibration must keep what the float network computes",
            )
