"""When tuning is done: ``top1>=0.70``, ``sqnr>=30``, or beside the float network ``top1>=float-0.01``."""

from __future__ import annotations

import re
from collections.abc import Collection

import attrs

from lowtide.errors import OptionError
from lowtide.measure.gates import Gate, parse_gate

PLACE = "--goal"
_RELATIVE = re.compile(r"(?P<head>.*[<>]=?)\s*float\s*(?P<difference>[+-]\s*\S+)?\s*")


@attrs.frozen
class Goal:
    """A condition on one metric.

    Attributes:
        gate: the condition; of a relative goal the limit is the difference to the float network.
        relative: whether it is.
    """

    gate: Gate
    relative: bool

    @property
    def metric(self) -> str:
        """The name of the metric."""
        return self.gate.name

    def met(self, value: float, float_value: float) -> bool:
        """Whether a figure of the quantized network reaches it, beside that of the float one."""
        limit = self.gate.limit + (float_value if self.relative else 0.0)
        # A figure of one frame in a hundred must not fail by the last bit of a sum.
        slack = 1e-9 * max(1.0, abs(limit)) * (1 if self.gate.relation.startswith(">") else -1)
        return attrs.evolve(self.gate, limit=limit - slack).met(value)

    def __str__(self) -> str:
        if not self.relative:
            return str(self.gate)
        difference = f"{self.gate.limit:+g}" if self.gate.limit else ""
        return f"{self.gate.name}{self.gate.relation}float{difference}"


def parse_goal(text: str, metrics: Collection[str], *, place: str = PLACE) -> Goal:
    """Read a goal.

    Args:
        text: the condition.
        metrics: names of metrics.
        place: where it is given, for messages.

    Raises:
        OptionError: when it is something else, or names a metric that nobody provides.
    """
    found = _RELATIVE.fullmatch(text)
    if found is None:
        return Goal(parse_gate(text, metrics, place=place), relative=False)
    written = (found["difference"] or "0").replace(" ", "")
    try:
        return Goal(parse_gate(f"{found['head']}{written}", metrics, place=place), relative=True)
    except OptionError as error:
        error.hint = error.hint or "for instance top1>=float-0.01"
        raise
