"""When tuning is done: ``top1>=0.70``, or ``top1>=float-0.01 and sqnr>=15`` beside the float network."""

from __future__ import annotations

import re
from collections.abc import Collection

import attrs

from lowtide.errors import OptionError
from lowtide.measure.gates import Gate, parse_gate

PLACE = "--goal"
ERROR = "sqnr"
"""The figure that is measured beside every metric: SQNR of the outputs in dB."""

_RELATIVE = re.compile(r"(?P<head>.*[<>]=?)\s*float\s*(?P<difference>[+-]\s*\S+)?\s*")
_AND = re.compile(r"\s+and\s+")


@attrs.frozen
class Condition:
    """A condition on one figure.

    Attributes:
        gate: the condition; of a relative one the limit is the difference to the float network.
        relative: whether it is.
    """

    gate: Gate
    relative: bool = False

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


@attrs.frozen
class Goal:
    """Conditions on one metric, and on the error at the outputs.

    Attributes:
        metric: the metric that decides.
        conditions: all have to be met.
    """

    metric: str
    conditions: tuple[Condition, ...]

    def met(self, value: float, float_value: float, sqnr_db: float) -> bool:
        """Whether figures reach it.

        Args:
            value: the metric of the quantized network.
            float_value: that of the float network.
            sqnr_db: of the outputs.
        """
        return all(
            condition.met(value, float_value)
            if condition.gate.name == self.metric
            else condition.met(sqnr_db, float("inf"))
            for condition in self.conditions
        )

    def __str__(self) -> str:
        return " and ".join(map(str, self.conditions))


def parse_goal(text: str, metrics: Collection[str], *, place: str = PLACE) -> Goal:
    """Read a goal.

    Args:
        text: conditions, joined by ``and``: on one metric, and on ``sqnr``.
        metrics: names of metrics.
        place: where it is given, for messages.

    Raises:
        OptionError: when it is something else, or names a metric that nobody provides, or two beside sqnr.
    """
    conditions = tuple(_condition(part, metrics, place) for part in _AND.split(text.strip()))
    names = list(dict.fromkeys(condition.gate.name for condition in conditions))
    deciding = [name for name in names if name != ERROR] or names
    if len(deciding) > 1:
        raise OptionError(
            f"expected one metric, and {ERROR} beside it, found {' and '.join(deciding)}",
            place=f"{place} {text}",
            hint=f"for instance {deciding[0]}>=0.7 and {ERROR}>=20",
        )
    return Goal(deciding[0], conditions)


def _condition(text: str, metrics: Collection[str], place: str) -> Condition:
    found = _RELATIVE.fullmatch(text)
    if found is None:
        return Condition(parse_gate(text, metrics, place=place))
    written = (found["difference"] or "0").replace(" ", "")
    try:
        return Condition(parse_gate(f"{found['head']}{written}", metrics, place=place), relative=True)
    except OptionError as error:
        error.hint = error.hint or "for instance top1>=float-0.01"
        raise
