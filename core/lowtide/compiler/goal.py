"""A figure that a network is to reach with as little latency as possible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from lowtide.compiler.attempt import Attempt, Workbench
from lowtide.compiler.oracle import MeasuringOracle, digest_of
from lowtide.compiler.recipe import Settings
from lowtide.compiler.run import session_of
from lowtide.errors import OptionError
from lowtide.measure import ErrorSum, Metric, evaluate
from lowtide.measure.gates import Gate, check_direction, parse_gate
from lowtide.measure.layers import numbers_of
from lowtide.plugin import MetricSpec, Registry
from lowtide.precision import Goal, PrecisionPlan
from lowtide.report.model import GoalReport
from lowtide.runtime import Runner, Session, in_flight, to_model

if TYPE_CHECKING:
    from lowtide.compiler.stages import Compilation

PLACE = "goal"
SQNR = "sqnr"


def read_goal(text: str, registry: Registry) -> Gate:
    """Read ``METRIC>=NUMBER``; ``<=`` where less is better.

    Raises:
        OptionError: when it is something else, nobody provides the metric, or the relation is the wrong way
            round.
    """
    gate = parse_gate(text, {SQNR, *(spec.name for spec in registry.all(MetricSpec))}, place=PLACE)
    better: Literal["higher", "lower"] = "higher"
    if gate.name != SQNR:
        metric: type[Metric] = registry.load(MetricSpec, gate.name)
        better = metric.better
    check_direction(gate, better, place=f"{PLACE} {gate}")
    return gate


class FigureGoal(Goal):
    """The lowest SQNR of the outputs, as the report has it, or a metric on the calibration frames."""

    def __init__(self, gate: Gate, c: Compilation, bench: Workbench, oracle: MeasuringOracle) -> None:
        self.text = str(gate)
        self._gate = gate
        self._c = c
        self._bench = bench
        self._oracle = oracle
        self._judged: dict[tuple[str, Settings], tuple[float, int]] = {}

    def met(self, figure: float) -> bool:
        """See `Goal.met`."""
        return self._gate.met(figure)

    def figure(self, plan: PrecisionPlan) -> float:
        """See `Goal.figure`.

        Raises:
            DataError: when the metric needs labels that the frames do not have.
            OptionError: when SQNR is asked for and no output has one.
        """
        return self._figure(self._oracle.finished(plan)[0])[0]

    def report(self, attempt: Attempt) -> GoalReport:
        """How a network stands to the goal; a miss is a warning, too."""
        figure, frames = self._figure(attempt)
        unit = "dB" if self._gate.name == SQNR else ""
        if not self.met(figure):
            self._c.diagnostics.warning(
                "LT889",
                PLACE,
                f"{self.text} is missed: the best that was found has {figure:.6g} {unit}".rstrip(),
                "lower the goal, raise the budget, or choose another recipe: see the accuracy levels",
            )
        return GoalReport(
            condition=self.text, reached=self.met(figure), figure=figure, unit=unit, frames=frames
        )

    def _figure(self, attempt: Attempt) -> tuple[float, int]:
        """The figure and how many frames it rests on."""
        key = digest_of(attempt.plan), attempt.settings
        if key not in self._judged:
            fixed = session_of(attempt.graph, "exact", self._bench.device(attempt.base))
            self._judged[key] = self._sqnr(fixed) if self._gate.name == SQNR else self._metric(fixed)
        return self._judged[key]

    def _metric(self, fixed: Runner) -> tuple[float, int]:
        c = self._c
        assert c.source is not None  # noqa: S101 - there is no oracle without frames
        registry, progress = c.request.registry, c.clock.progress.advance
        metric = registry.load(MetricSpec, self._gate.name)
        found = evaluate(c.prepared, fixed, c.source, [metric], registry=registry, progress=progress)
        return found.figures[self._gate.name][1], found.frames

    def _sqnr(self, fixed: Runner) -> tuple[float, int]:
        c = self._c
        frames = c.measured_frames()
        plain = Session(to_model(c.prepared, quantized=False))
        sums = [None if numbers_of(value) is None else ErrorSum() for value in c.prepared.outputs]
        if not any(sums):
            raise OptionError(
                "no output holds numbers whose error can be measured",
                place=f"{PLACE} {self.text}",
                hint="name a metric; see `lowtide metrics`",
            )
        pairs = zip(
            in_flight(plain, frames.frames(), lambda frame: frame.feeds),
            in_flight(fixed, frames.frames(), lambda frame: frame.feeds),
            strict=True,
        )
        count = 0
        for (_, real), (_, made) in pairs:
            count += 1
            for total, one, other in zip(sums, real.values(), made.values(), strict=True):
                if total is not None:
                    total.add(one, other)
        return min(total.sqnr_db for total in sums if total is not None), count
