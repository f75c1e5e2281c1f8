"""Quality gates: what they say, what they let pass."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.errors import OptionError
from lowtide.measure.gates import FIGURES, RELATIONS, Gate, missed, parse_gate, report_figures

KNOWN = ("sqnr", "top1", "latency_ms")


@given(
    st.sampled_from(KNOWN),
    st.sampled_from(sorted(RELATIONS)),
    st.floats(-1e6, 1e6, allow_nan=False),
    st.sampled_from(["", " ", "  "]),
)
def test_a_gate_reads_back_what_was_written(name: str, relation: str, limit: float, space: str) -> None:
    assert parse_gate(f"{space}{name}{space}{relation}{space}{limit!r}", KNOWN) == Gate(name, relation, limit)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sqnr", "expected NAME>=NUMBER"),
        ("sqnr=30", "expected NAME>=NUMBER"),
        ("sqnr==30", "expected NAME>=NUMBER"),
        (">=30", "expected NAME>=NUMBER"),
        ("sqnr>=", "expected NAME>=NUMBER"),
        ("sqnr>=thirty", "expected a number after >=, found 'thirty'"),
        ("sqnr>=nan", "expected a number"),
        ("sqnr<inf", "expected a number"),
        ("snr>=30", "did you mean sqnr?"),
        ("zebra>=30", "known: latency_ms, sqnr, top1"),
    ],
)
def test_what_is_no_gate_is_refused_with_the_way_to_write_one(text: str, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_gate(text, KNOWN)
    assert words in str(caught.value)
    assert "--require" in caught.value.place


@pytest.mark.parametrize(
    ("text", "value", "met"),
    [
        ("sqnr>=30", 30.0, True),
        ("sqnr>30", 30.0, False),
        ("sqnr<=30", 30.0, True),
        ("sqnr<30", 30.0, False),
        ("sqnr>=30", math.inf, True),
        ("sqnr>=30", math.nan, False),
        ("sqnr<=30", math.nan, False),
        ("sqnr>=30", None, False),
    ],
)
def test_limits_belong_to_the_figure_or_not_and_what_was_not_measured_never_passes(
    text: str, value: float | None, *, met: bool
) -> None:
    assert parse_gate(text, KNOWN).met(value) is met


def test_each_missed_gate_has_a_line_with_what_was_found() -> None:
    gates = [parse_gate(text, KNOWN) for text in ("sqnr>=30", "top1>=0.7", "latency_ms<=5")]
    assert missed(gates, {"sqnr": 29.5, "top1": 0.75}) == (
        "sqnr>=30 is missed: found 29.5",
        "latency_ms<=5 is missed: it was not measured",
    )


def report(**fields: Any) -> dict[str, Any]:
    layer = {"placement": "accelerator", "bits": 8, "weight_bits": 8}
    made: dict[str, Any] = {
        "outputs": [
            {"sqnr_db": "inf", "cosine": 1.0, "max_error": 0.0},
            {"sqnr_db": 31.5, "cosine": 0.99, "max_error": 0.25},
        ],
        "layers": [
            layer,
            layer | {"bits": 16},
            layer | {"weight_bits": 16},
            {"placement": "host", "bits": None, "weight_bits": None},
            {"placement": "host", "bits": 16, "weight_bits": None},
        ],
        "device": {"host_layers": 2, "subgraphs": 3},
        "diagnostics": [{"severity": "warning"}, {"severity": "info"}],
    }
    return made | fields


def test_figures_of_several_outputs_are_those_of_the_worst() -> None:
    assert report_figures(report(latency_ms=4.5), tuple(FIGURES)) == {
        "sqnr": 31.5,
        "cosine": 0.99,
        "max_error": 0.25,
        "latency_ms": 4.5,
        "layers_16bit": 2,
        "host_layers": 2.0,
        "subgraphs": 3.0,
        "warnings": 1.0,
    }


def test_an_output_without_a_figure_misses_every_gate() -> None:
    undefined = report(outputs=[{"sqnr_db": None, "cosine": None, "max_error": 0.0}])
    found = report_figures(undefined, ("sqnr",))["sqnr"]
    assert not Gate("sqnr", ">=", -1e9).met(found)
    assert report_figures(report(outputs=[]), ("sqnr", "cosine", "max_error", "latency_ms")) == dict.fromkeys(
        ("sqnr", "cosine", "max_error", "latency_ms")
    )
