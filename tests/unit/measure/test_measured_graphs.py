from __future__ import annotations

import math

import numpy as np
import pytest

from lowtide.compiler.run import input_specs
from lowtide.data import DataSource, open_data
from lowtide.ir import Graph, parse_graph
from lowtide.measure import Measurement, evaluate, measure_layers
from lowtide.plugin import MetricSpec, discover
from lowtide.runtime import Session, to_model
from unit.quantize.solving import Options, solved

TEXT = """graph "g" {
  input %x: float32[1, 2, 4, 4]
  const %w: float32[2, 2, 1, 1] = [1, -0.37, 0.21, 2.2]
  const %b: float32[2] = [0.3, -0.1]
  %c: float32[1, 2, 4, 4] = Conv(%x, %w, %b) layer "r"
  %r: float32[1, 2, 4, 4] = Relu(%c) layer "r"
  %q/x: float32[1, 2, 4, 4] = Conv(%r, %w)
  %measure/q/x: float32[1, 2, 4, 4] = Add(%q/x, %r)
  %t: float32[1, 2, 4, 4] = Tanh(%measure/q/x)
  %i: int64[1, 1, 4, 4] = ArgMax(%t) {axis=1}
  return %t, %t, %i, %q/x
}"""


def frames(graph: Graph, count: int = 4) -> DataSource:
    arrays = np.random.default_rng(3).standard_normal((count, 1, 2, 4, 4)).astype(np.float32)
    return open_data(arrays, input_specs(graph))


def measured(fixed: Graph, reference: Graph, count: int = 4) -> Measurement:
    return measure_layers(reference, fixed, frames(reference, count))


@pytest.fixture(scope="module")
def reference() -> Graph:
    return parse_graph(TEXT)


@pytest.fixture(scope="module")
def fixed(reference: Graph) -> Graph:
    return solved(reference, "generic", 4)[0]


def test_every_float_layer_is_measured_once_in_executable_order(reference: Graph, fixed: Graph) -> None:
    found = measured(fixed, reference)
    assert [error.layer for error in found.layers] == ["r", "q/x", "measure/q/x", "t"]
    assert list(found.outputs) == ["t", "q/x"]
    assert all(0 < error.cumulative.noise < error.cumulative.signal for error in found.layers)


def test_names_of_the_network_do_not_meet_those_that_measure(reference: Graph, fixed: Graph) -> None:
    errors = {error.layer: error for error in measured(fixed, reference).layers}
    one = Session(to_model(reference, quantized=False, outputs=["q/x"]))
    two = Session(to_model(fixed, quantized=True, outputs=["q/x"]))
    signal = noise = largest = 0.0
    for frame in frames(reference).frames():
        a, b = one.run(frame.feeds)["q/x"], two.run(frame.feeds)["q/x"]
        signal += float((a.astype(float) ** 2).sum())
        noise += float(((a.astype(float) - b) ** 2).sum())
        largest = max(largest, float(np.abs(a - b).max()))
    assert errors["q/x"].cumulative.signal == pytest.approx(signal, rel=1e-5)
    assert errors["q/x"].cumulative.noise == pytest.approx(noise, rel=1e-4)
    assert errors["q/x"].cumulative.largest == pytest.approx(largest, rel=1e-4)


def test_a_fused_layer_alone_reads_float_numbers_through_its_input_codes(
    reference: Graph, fixed: Graph
) -> None:
    alone = fixed.clone()
    for value in (alone.values["q/x"], alone.values["measure/q/x"], alone.values["t"]):
        alone.retype(value, value.type.with_quant(None))
    alone.set_outputs([alone.values["r"]])
    alone.prune()
    errors = {error.layer: error for error in measured(fixed, reference).layers}
    one = Session(to_model(reference, quantized=False, outputs=["r"]))
    two = Session(to_model(alone, quantized=True, outputs=["r"]))
    noise = 0.0
    for frame in frames(reference).frames():
        noise += float(((one.run(frame.feeds)["r"] - two.run(frame.feeds)["r"]) ** 2).sum())
    isolated = errors["r"].isolated
    assert isolated is not None
    assert isolated.noise == pytest.approx(noise, rel=1e-4)
    # The first layer has float inputs in both readings.
    assert isolated.noise == pytest.approx(errors["r"].cumulative.noise, rel=1e-4)


def test_a_later_layer_has_a_smaller_error_alone_than_behind_all_others(
    reference: Graph, fixed: Graph
) -> None:
    last = measured(fixed, reference).layers[-1]
    assert last.isolated is not None
    assert last.isolated.noise < last.cumulative.noise


def test_a_layer_without_codes_has_no_error_of_its_own(reference: Graph) -> None:
    options = Options(deny_list_layer_name=("t", "i"))
    partly = solved(reference, "generic", 4, options=options)[0]
    errors = {error.layer: error for error in measured(partly, reference).layers}
    # Tanh runs on the host, but what it reads has codes.
    assert partly.values["t"].type.quant is None
    assert errors["t"].isolated is not None
    everything = Options(deny_list_layer_name=("r", "q/x", "measure/q/x", "t", "i"))
    nothing = solved(reference, "generic", 4, options=everything)[0]
    found = measured(nothing, reference)
    assert all(error.isolated is None for error in found.layers)
    assert all(error.cumulative.sqnr_db == math.inf for error in found.layers)
    assert all(error.sqnr_db == math.inf for error in found.outputs.values())


def test_sums_add_up_over_frames(reference: Graph, fixed: Graph) -> None:
    source = frames(reference, 3)
    together = measure_layers(reference, fixed, source)
    arrays = [frame.feeds["x"] for frame in source.frames()]
    single = [
        measure_layers(reference, fixed, open_data(array[np.newaxis], input_specs(reference)))
        for array in arrays
    ]
    assert [one.frames for one in single] == [1, 1, 1]
    for position, error in enumerate(together.layers):
        noise = sum(one.layers[position].cumulative.noise for one in single)
        assert error.cumulative.noise == pytest.approx(noise, rel=1e-9)


def test_progress_counts_the_frames(reference: Graph, fixed: Graph) -> None:
    seen: list[tuple[int, int | None]] = []
    measure_layers(reference, fixed, frames(reference, 3), progress=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_evaluation_judges_both_networks_on_every_frame(fixed: Graph, reference: Graph) -> None:
    one, two = reference.clone(), fixed.clone()
    for graph in (one, two):
        graph.set_outputs([graph.values["t"]])
    registry = discover()
    judges = [registry.load(MetricSpec, name) for name in ("sqnr", "agreement")]
    seen: list[tuple[int, int | None]] = []
    found = evaluate(
        one,
        Session(to_model(two, quantized=True)),
        frames(one, 3),
        judges,
        progress=lambda done, of: seen.append((done, of)),
    )
    output = measured(two, one, 3).outputs["t"]
    assert found.frames == 3
    assert found.figures["sqnr"][0] == math.inf
    assert found.figures["sqnr"][1] == pytest.approx(output.sqnr_db, abs=1e-3)
    assert found.figures["agreement"][0] == 1
    assert seen == [(1, 3), (2, 3), (3, 3)]
