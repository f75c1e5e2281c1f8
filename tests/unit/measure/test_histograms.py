from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lowtide
from lowtide.calibrate import Range
from lowtide.compiler.result import CompileResult
from lowtide.compiler.run import input_specs
from lowtide.data import open_data
from lowtide.ir import DType, Graph, QuantParams, TensorType, Value
from lowtide.measure import Histogram, measure_layers, spans
from lowtide.measure.histogram import BINS, SAMPLES, sample_step
from lowtide.report import report_json
from lowtide.runtime import Session, to_model
from support import CALIBRATION, MODEL


@pytest.fixture(scope="module")
def compiled() -> CompileResult:
    return lowtide.compile(MODEL, target="am68a", data=str(CALIBRATION), frames=6)


@given(st.lists(st.floats(-20, 20, width=32) | st.just(math.nan) | st.just(math.inf), max_size=50))
def test_every_number_is_counted_once_inside_or_outside(values: list[float]) -> None:
    histogram = Histogram(-4.0, 8.0)
    histogram.add(np.array(values, np.float32))
    below, above = histogram.outside.tolist()
    assert below == sum(value < -4 for value in values)
    assert above == sum(value > 8 for value in values)
    assert histogram.counts.sum() == sum(-4 <= value <= 8 for value in values)
    numbers = [value for value in values if not math.isnan(value)]
    assert histogram.extremes.tolist() == [min(numbers, default=math.inf), max(numbers, default=-math.inf)]


def test_an_element_falls_into_the_bin_that_holds_it() -> None:
    histogram = Histogram(0.0, 64.0)
    histogram.add(np.array([0.0, 0.5, 3.0, 63.5, 64.0]))
    assert np.flatnonzero(histogram.counts).tolist() == [0, 3, 63]
    assert histogram.counts[[0, 3, 63]].tolist() == [2, 1, 2]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=4))
def test_samples_reach_every_channel_and_are_few(shape: list[int]) -> None:
    step = sample_step(Value("x", TensorType(DType.FLOAT32, shape)))
    size = math.prod(shape)
    assert step is not None
    assert len(range(0, size, step)) <= SAMPLES
    assert math.gcd(step, size) == 1


@pytest.mark.parametrize("shape", [None, (1, None), (3, 0)])
def test_a_tensor_of_unknown_size_or_without_elements_is_not_sampled(
    shape: tuple[int | None, ...] | None,
) -> None:
    assert sample_step(Value("x", TensorType(DType.FLOAT32, shape))) is None


def test_spans_hold_codes_and_calibrated_ranges() -> None:
    graph = Graph("small")
    quant = QuantParams("uint8", 0.5, 0)
    x = graph.add_input("x", TensorType("float32", [2], quant))
    plain = graph.add_node("Relu", [x], [("plain", TensorType("float32", [2]))])
    coded = graph.add_node("Neg", [plain.output], [("coded", TensorType("float32", [2], quant))])
    graph.set_outputs([coded.output])
    assert spans(graph, {"x": Range(-3.0, 5.0)}) == {"x": (-3.0, 127.5), "coded": (0.0, 127.5)}


def test_histograms_of_a_compile_are_those_of_the_float_network(compiled: CompileResult) -> None:
    frames = open_data(str(CALIBRATION), input_specs(compiled.reference)).select(6)
    found = {layer.name: layer.histogram for layer in compiled.report.layers}
    name = "block1/depthwise/relu6"
    session = Session(to_model(compiled.reference, quantized=False, outputs=[name]))
    values = np.concatenate([session.run(frame.feeds)[name].ravel() for frame in frames.frames()])
    assert values.size <= 6 * SAMPLES  # all of it is counted
    histogram = found[name]
    assert histogram is not None
    expected, _ = np.histogram(values.astype(float), BINS, (histogram.low, histogram.high))
    assert list(histogram.counts) == expected.tolist()
    assert (histogram.below, histogram.above) == (
        int((values < histogram.low).sum()),
        int((values > histogram.high).sum()),
    )


def test_every_tensor_with_codes_has_a_histogram(compiled: CompileResult) -> None:
    report = compiled.report
    assert all(entry.histogram for entry in report.inputs)
    assert {layer.name for layer in report.layers if layer.histogram} == {
        layer.name for layer in report.layers if layer.dtype
    }


def test_of_a_large_tensor_a_sample_is_counted() -> None:
    graph = Graph("large")
    x = graph.add_input("x", TensorType("float32", [1, 3, 100, 100]))
    graph.set_outputs([graph.add_node("Relu", [x], [("y", x.type)]).output])
    frames = np.random.default_rng(0).standard_normal((2, 3, 100, 100)).astype(np.float32)
    source = open_data(frames, input_specs(graph))
    found = measure_layers(graph, graph, source, spans={"y": (0.0, 5.0), "unknown": (0.0, 1.0)}).histograms
    assert list(found) == ["y"]
    step = sample_step(graph.values["y"])
    expected = np.concatenate([np.maximum(frame, 0).ravel()[::step] for frame in frames])
    assert SAMPLES < expected.size <= 2 * SAMPLES
    assert found["y"].counts.tolist() == np.histogram(expected.astype(float), BINS, (0, 5))[0].tolist()


def test_the_report_is_the_same_for_equal_compiles(compiled: CompileResult) -> None:
    again = lowtide.compile(MODEL, target="am68a", data=str(CALIBRATION), frames=6)
    first, second = (report_json(result.report, volatile=False) for result in (compiled, again))
    assert first == second
    assert json.loads(first)["layers"][0]["histogram"] is not None
