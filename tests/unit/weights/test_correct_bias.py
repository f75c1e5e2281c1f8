from __future__ import annotations

import pytest

import lowtide
from lowtide.compiler.result import CompileResult
from lowtide.errors import PassError
from lowtide.ir import Graph
from lowtide.passes import PassContext
from lowtide.plugin import discover
from lowtide_plugins.weights.bias import CorrectBias
from support import CALIBRATION, MODEL
from unit.weights.benches import Bench, separable

REGISTRY = discover()


def compiled(pipeline: str) -> CompileResult:
    # One scale for all channels rounds coarsely, so there is a mean error to correct.
    return lowtide.compile(
        MODEL,
        target="tda4vm",
        data=str(CALIBRATION),
        pipeline=pipeline,
        registry=REGISTRY,
        options={"measure_frames": 32, "recipe": "use calibrator minmax"},
    )


def test_the_mean_error_of_rounded_weights_is_taken_out() -> None:
    before, after = compiled(""), compiled("correct-bias")
    assert after.report.outputs[0].sqnr_db > before.report.outputs[0].sqnr_db
    counters = {item.text: item.counters for item in after.report.passes}
    assert counters["correct-bias"]["corrected"] > 0


def test_a_second_run_changes_nothing() -> None:
    once, twice = compiled("correct-bias"), compiled("correct-bias,correct-bias")
    assert once.graph == twice.graph
    assert twice.report.passes[-1].changed is False


def test_codes_of_weights_stay_as_they_are() -> None:
    before, after = compiled(""), compiled("correct-bias")
    for node in after.graph:
        weights = node.operand(1)
        if node.op == "Conv" and weights is not None:
            assert weights.constant == before.graph.values[weights.name].constant


def test_it_needs_a_quantized_graph_and_frames() -> None:
    with pytest.raises(PassError, match="calibration frames"):
        CorrectBias().run(Graph(), PassContext())


def test_frames_out_of_range_are_named() -> None:
    with pytest.raises(PassError, match="correct-bias, frames: expected at least 1, found 0"):
        Bench(separable(0)).run(CorrectBias(frames=0))
