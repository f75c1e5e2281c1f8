"""Pipelines and their text determine each other."""

from __future__ import annotations

from hypothesis import given, settings

from lowtide.passes import Pass, parse_pipeline, print_pipeline
from lowtide.plugin import PassSpec, Provider, Registry
from strategies import pipelines


def registry() -> Registry:
    found = Registry()
    spec = PassSpec(
        name="everything", summary="options of every type", implementation="strategies:Everything"
    )
    found.add(spec, Provider("tests", "0", "tests"))
    return found


@settings(max_examples=200, derandomize=True)
@given(pipelines)
def test_the_text_of_a_pipeline_reads_back_to_equal_passes(passes: tuple[Pass, ...]) -> None:
    text = print_pipeline(passes)
    again = parse_pipeline(text, registry())
    assert again == passes
    assert print_pipeline(again) == text
