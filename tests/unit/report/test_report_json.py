from __future__ import annotations

import json
import math

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowtide.report import Report, report_json
from lowtide.report.json import json_text
from lowtide.report.model import SCHEMA_VERSION
from unit.report.reports import FULL, LONG


def refuse(literal: str) -> float:
    raise AssertionError(literal)


def strict(text: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(text, parse_constant=refuse)
    return found


def test_the_document_has_every_field_under_a_schema_version() -> None:
    found = strict(report_json(FULL))
    assert found["schema_version"] == SCHEMA_VERSION == 2
    assert list(found) == [field.name for field in attrs.fields(Report)]


def test_infinity_is_text_and_nan_is_null() -> None:
    report = json.loads(report_json(FULL), parse_constant=refuse)
    layers = {layer["name"]: layer for layer in report["layers"]}
    assert layers[LONG]["sqnr_isolated_db"] == "inf"
    assert layers[LONG]["sqnr_cumulative_db"] == "-inf"
    assert layers["[bold]gate[/]"]["sqnr_isolated_db"] is None
    assert report["outputs"][1]["cosine"] is None


def test_without_the_volatile_fields_there_are_no_times_and_no_memory() -> None:
    slow = attrs.evolve(
        FULL,
        times=(),
        peak_memory_mb=9.0,
        passes=tuple(attrs.evolve(item, seconds=item.seconds + 1) for item in FULL.passes),
    )
    assert report_json(slow, volatile=False) == report_json(FULL, volatile=False)
    found = strict(report_json(FULL, volatile=False))
    assert not {"times", "peak_memory_mb"} & found.keys()
    assert "seconds" not in report_json(FULL, volatile=False)


def test_numbers_keep_all_their_digits() -> None:
    report = json.loads(report_json(FULL))
    assert tuple(report["layers"][1]["range"]) == (-1.234567e-7, 9.87654321e12)


def test_names_of_any_script_survive() -> None:
    odd = attrs.evolve(FULL, model=attrs.evolve(FULL.model, file='ネット"\\.onnx'))
    assert json.loads(report_json(odd))["model"]["file"] == 'ネット"\\.onnx'


@given(
    st.recursive(
        st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_document_parses_strictly(value: object) -> None:
    json.loads(json_text(value), parse_constant=refuse)


@pytest.mark.parametrize(("value", "text"), [(math.inf, '"inf"'), (-math.inf, '"-inf"'), (math.nan, "null")])
def test_figures_that_json_lacks(value: float, text: str) -> None:
    assert json_text(value) == f"{text}\n"
