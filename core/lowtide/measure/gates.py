"""Quality gates: figures that a result must reach, as ``sqnr>=30``."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

import attrs

from lowtide.errors import OptionError, nearest

PLACE = "--require"
RELATIONS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_EXPRESSION = re.compile(r"\s*([A-Za-z][\w.-]*)\s*(>=|<=|>|<)\s*([^\s<>=]+)\s*")


@attrs.frozen
class Gate:
    """A condition on one figure.

    Attributes:
        name: of the figure.
        relation: one of `RELATIONS`.
        limit: finite.
    """

    name: str
    relation: str
    limit: float

    def met(self, value: float | None) -> bool:
        """Whether a figure passes; one that is NaN or was not measured does not."""
        return value is not None and RELATIONS[self.relation](value, self.limit)

    def __str__(self) -> str:
        return f"{self.name}{self.relation}{self.limit:g}"


def parse_gate(text: str, known: Collection[str], *, place: str = PLACE) -> Gate:
    """Read ``NAME>=NUMBER``; also with ``<=``, ``>`` and ``<``.

    Args:
        text: the condition.
        known: names of figures.
        place: where it is given, for messages.

    Raises:
        OptionError: when it is something else, or names a figure that is not `known`.
    """
    found = _EXPRESSION.fullmatch(text)
    hint = "for instance sqnr>=30, in quotes: the shell takes a bare > for itself"
    if found is None:
        raise OptionError(f"expected NAME>=NUMBER or NAME<=NUMBER, found {text!r}", place=place, hint=hint)
    name, relation, written = found.groups()
    if name not in known:
        close, listed = nearest(name, known), ", ".join(sorted(known))
        more = "" if close.startswith("known") else f" known: {listed}"
        raise OptionError(f"there is no figure {name!r}", place=f"{place} {text}", hint=close + more)
    try:
        limit = float(written)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        raise OptionError(f"expected a number after {relation}, found {written!r}", place=place, hint=hint)
    return Gate(name, relation, limit)


def check_direction(gate: Gate, better: Literal["higher", "lower"], *, place: str) -> None:
    """Refuse a condition as a goal that the worst network meets.

    Args:
        gate: what is asked for.
        better: which figures are the better ones.
        place: where it is given, for messages.

    Raises:
        OptionError: when it asks for less where more is better, or the other way round.
    """
    relation = ">=" if better == "higher" else "<="
    if gate.relation[0] != relation[0]:
        raise OptionError(
            f"a {better} {gate.name} is better, and {gate.relation} is reached by the worst network",
            place=place,
            hint=f"{gate.name}{relation}NUMBER",
        )


def missed(gates: Iterable[Gate], figures: Mapping[str, float | None]) -> tuple[str, ...]:
    """A line for each gate that is not met, in the order of the gates."""
    return tuple(
        f"{gate} is missed: {_found(figures.get(gate.name))}"
        for gate in gates
        if not gate.met(figures.get(gate.name))
    )


def _found(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "it was not measured"
    return f"found {value:.6g}"


# --- figures of a report ---


def _lowest(report: Mapping[str, Any], field: str) -> float | None:
    found = [_number(entry[field]) for entry in report["outputs"]]
    return min(found) if found else None


def _number(value: object) -> float:
    """A figure as it is in memory or in JSON, where infinity is text and NaN is ``None``."""
    return math.nan if value is None else float(str(value))


def _largest_error(report: Mapping[str, Any]) -> float | None:
    found = [_number(entry["max_error"]) for entry in report["outputs"]]
    return max(found) if found else None


def _wide_layers(report: Mapping[str, Any]) -> float:
    fast = [entry for entry in report["layers"] if entry["placement"] != "host"]
    return sum(16 in (entry["bits"], entry["weight_bits"]) for entry in fast)


def _latency(report: Mapping[str, Any]) -> float | None:
    found = report.get("latency_ms")
    return None if found is None else _number(found)


FIGURES: Mapping[str, Callable[[Mapping[str, Any]], float | None]] = {
    "sqnr": lambda report: _lowest(report, "sqnr_db"),
    "cosine": lambda report: _lowest(report, "cosine"),
    "max_error": _largest_error,
    "latency_ms": _latency,
    "layers_16bit": _wide_layers,
    "host_layers": lambda report: float(report["device"]["host_layers"]),
    "subgraphs": lambda report: float(report["device"]["subgraphs"]),
    "warnings": lambda report: float(sum(entry["severity"] == "warning" for entry in report["diagnostics"])),
}
"""Figures of a report by name: of its fields as in memory, or as JSON has them."""

MEASURED = frozenset({"sqnr", "cosine", "max_error"})
"""Those of `FIGURES` that need frames."""


def report_figures(report: Mapping[str, Any], names: Sequence[str]) -> dict[str, float | None]:
    """Some of `FIGURES`; ``None`` for one that was not measured."""
    return {name: FIGURES[name](report) for name in names}
