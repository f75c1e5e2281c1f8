"""A figure that a network is to reach with as little latency as possible."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lowtide.compiler.attempt import Workbench
from lowtide.compiler.oracle import MeasuringOracle
from lowtide.compiler.run import session_of
from lowtide.errors import OptionError
from lowtide.measure import ErrorSum, evaluate
from lowtide.measure.gates import Gate, parse_gate
from lowtide.measure.layers import numbers_of
from lowtide.plugin import MetricSpec
from lowtide.precision import Goal, PrecisionPlan
from lowtide.runtime import Session, in_flight, to_model

if TYPE_CHECKING:
    from lowtide.compiler.stages import Compilation

SQNR = "sqnr"


class FigureGoal(Goal):
    """The lowest SQNR of the outputs, as the report has it, or a metric on the calibration frames."""

    def __init__(self, gate: Gate, c: Compilation, bench: Workbench, oracle: MeasuringOracle) -> None:
        self.text = str(gate)
        self._gate = gate
        self._c = c
        self._bench = bench
        self._oracle = oracle

    @classmethod
    def of(cls, text: str, c: Compilation, bench: Workbench, oracle: MeasuringOracle) -> FigureGoal:
        """Read ``METRIC>=NUMBER``.

        Raises:
            OptionError: when it is something else, or nobody provides the metric.
        """
        known = {SQNR, *(spec.name for spec in c.request.registry.all(MetricSpec))}
        return cls(parse_gate(text, known, place="goal"), c, bench, oracle)

    def met(self, figure: float) -> bool:
        """See `Goal.met`."""
        return self._gate.met(figure)

    def figure(self, plan: PrecisionPlan) -> float:
        """See `Goal.figure`.

        Raises:
            DataError: when the metric needs labels that the frames do not have.
            OptionError: when SQNR is asked for and no output has one.
        """
        attempt, _ = self._oracle.finished(plan)
        c = self._c
        assert c.source is not None  # noqa: S101 - there is no oracle without frames
        fixed = session_of(attempt.graph, "exact", self._bench.device(attempt.base))
        if self._gate.name != SQNR:
            registry, progress = c.request.registry, c.clock.progress.advance
            metric = registry.load(MetricSpec, self._gate.name)
            found = evaluate(c.prepared, fixed, c.source, [metric], registry=registry, progress=progress)
            return found.figures[self._gate.name][1]
        frames = c.measured_frames()
        plain = Session(to_model(c.prepared, quantized=False))
        sums = [None if numbers_of(value) is None else ErrorSum() for value in c.prepared.outputs]
        if not any(sums):
            raise OptionError(
                "no output holds numbers whose error can be measured",
                place=f"goal {self.text}",
                hint="name a metric; see `lowtide metrics`",
            )
        pairs = zip(
            in_flight(plain, frames.frames(), lambda frame: frame.feeds),
            in_flight(fixed, frames.frames(), lambda frame: frame.feeds),
            strict=True,
        )
        for (_, real), (_, made) in pairs:
            for total, one, other in zip(sums, real.values(), made.values(), strict=True):
                if total is not None:
                    total.add(one, other)
        return min(total.sqnr_db for total in sums if total is not None)
