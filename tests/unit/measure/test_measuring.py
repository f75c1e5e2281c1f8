from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest
from numpy.typing import NDArray

import lowtide
from lowtide.compiler.result import CompileResult
from lowtide.compiler.run import input_specs
from lowtide.data import DataSource, Frame, open_data
from lowtide.errors import DataError, PluginError
from lowtide.ir import Array, Graph, layers
from lowtide.measure import ErrorSum, Evaluation, Metric, evaluate, measure_layers
from lowtide.plugin import MetricSpec, Provider, Registry, discover, hookimpl
from lowtide.runtime import Session, to_model
from support import CALIBRATION, MODEL, TEST

REGISTRY = discover()


@pytest.fixture(scope="module")
def compiled() -> CompileResult:
    return lowtide.compile(MODEL, target="tda4vm", data=str(CALIBRATION), registry=REGISTRY)


def source(result: CompileResult, count: int = 5) -> DataSource:
    return open_data(str(TEST), input_specs(result.reference)).select(count)


def db(pairs: list[tuple[NDArray[Any], NDArray[Any]]]) -> float:
    noise = sum(float(((f.astype(float) - q) ** 2).sum()) for f, q in pairs)
    return 10 * math.log10(sum(float((f.astype(float) ** 2).sum()) for f, _ in pairs) / noise)


def test_figures_follow_from_their_definitions() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.standard_normal((2, 3, 5)), generator.standard_normal((2, 3, 5))
    sums = ErrorSum()
    for f, q in zip(one, other, strict=True):
        sums.add(f, q)
    difference = one - other
    assert sums.sqnr_db == pytest.approx(10 * math.log10((one**2).sum() / (difference**2).sum()))
    assert sums.cosine == pytest.approx((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))
    assert sums.largest == pytest.approx(np.abs(difference).max())


def test_without_noise_the_ratio_is_infinite_and_without_signal_minus_infinite() -> None:
    same, lost = ErrorSum(), ErrorSum()
    same.add(np.ones(3), np.ones(3))
    lost.add(np.zeros(3), np.ones(3))
    assert (same.sqnr_db, lost.sqnr_db) == (math.inf, -math.inf)
    assert math.isnan(lost.cosine)


def test_cumulative_errors_are_those_of_both_networks_run_side_by_side(compiled: CompileResult) -> None:
    measured = measure_layers(compiled.reference, compiled.graph, source(compiled))
    names = [layer.name for layer in layers(compiled.graph)]
    plain = Session(to_model(compiled.reference, quantized=False, outputs=names))
    fixed = Session(to_model(compiled.graph, quantized=True, outputs=names))
    runs = [(plain.run(frame.feeds), fixed.run(frame.feeds)) for frame in source(compiled).frames()]
    assert measured.frames == 5
    assert [error.layer for error in measured.layers] == names
    for error in measured.layers:
        expected = db([(f[error.layer], q[error.layer]) for f, q in runs])
        assert error.cumulative.sqnr_db == pytest.approx(expected, abs=0.3)
    assert measured.outputs["logits"].sqnr_db == pytest.approx(
        db([(f["logits"], q["logits"]) for f, q in runs]), abs=0.3
    )


def test_an_isolated_error_is_that_of_the_layer_fed_with_float_inputs(compiled: CompileResult) -> None:
    measured = {
        e.layer: e for e in measure_layers(compiled.reference, compiled.graph, source(compiled)).layers
    }
    layer = next(layer for layer in layers(compiled.graph) if layer.op == "Gemm")
    alone = Graph("alone")
    node, entry = layer.nodes[0], layer.inputs[0]
    value = alone.add_input("in", entry.type)
    constants = [alone.add_constant(v.name, v.constant, v.type) for v in node.inputs[1:] if v and v.constant]
    made = alone.add_node(node.op, [value, *constants], [("out", node.output.type)], node.attributes)
    alone.set_outputs(made.outputs)
    session = Session(to_model(alone, quantized=True))
    plain = Session(to_model(compiled.reference, quantized=False, outputs=[entry.name, layer.name]))
    pairs = []
    for frame in source(compiled).frames():
        seen = plain.run(frame.feeds)
        pairs.append((seen[layer.name], session.run({"in": seen[entry.name]})["out"]))
    isolated = measured[layer.name].isolated
    assert isolated is not None
    assert isolated.sqnr_db == pytest.approx(db(pairs), abs=0.1)


def test_a_float_network_has_no_isolated_errors_and_no_noise(compiled: CompileResult) -> None:
    measured = measure_layers(compiled.reference, compiled.reference, source(compiled))
    assert all(error.isolated is None for error in measured.layers)
    assert all(error.cumulative.noise == 0 for error in measured.layers)


def test_measuring_leaves_both_graphs_as_they_were(compiled: CompileResult) -> None:
    before = compiled.graph.clone(), compiled.reference.clone()
    measure_layers(compiled.reference, compiled.graph, source(compiled, 1))
    assert (compiled.graph, compiled.reference) == before


def emulated(graph: Graph) -> Session:
    return Session(to_model(graph, quantized=True))


def metrics(*names: str) -> list[type[Metric]]:
    return [REGISTRY.load(MetricSpec, name) for name in names]


def test_metrics_compare_the_float_with_the_fixed_network(compiled: CompileResult) -> None:
    found = evaluate(
        compiled.reference,
        emulated(compiled.graph),
        source(compiled, 40),
        metrics("top1", "top5", "agreement", "sqnr"),
    )
    session = Session(to_model(compiled.reference, quantized=False))
    hits = [
        int(np.argmax(session.run(frame.feeds)["logits"])) == int(np.asarray(frame.label))
        for frame in source(compiled, 40).frames()
    ]
    assert found.figures["top1"][0] == np.mean(hits)
    assert found.figures["top5"][0] >= found.figures["top1"][0]
    assert found.figures["agreement"][0] == 1
    assert found.figures["sqnr"][0] == math.inf
    assert found.figures["sqnr"][1] < 60


def test_a_metric_that_needs_labels_names_the_frame_without_one(compiled: CompileResult) -> None:
    frames = open_data(np.ones((2, 1, 16, 16), np.float32), input_specs(compiled.reference))
    with pytest.raises(DataError, match=r"frame 0.*label"):
        evaluate(compiled.reference, emulated(compiled.graph), frames, metrics("top1"))


@attrs.define(kw_only=True)
class Judge(Metric):
    """Does and says what a test wants."""

    name: ClassVar[str] = "judge"
    answer: ClassVar[Any] = 1.0
    error: ClassVar[BaseException | None] = None

    def update(self, outputs: Mapping[str, Array], frame: Frame, reference: Mapping[str, Array]) -> None:
        del outputs, frame, reference
        if self.error is not None:
            raise self.error

    def value(self) -> float:
        found: float = self.answer
        return found


class JudgePlugin:
    """The package that it comes from."""

    @hookimpl
    def lowtide_register_metrics(self) -> list[MetricSpec]:
        return [MetricSpec(name="judge", summary="a judge", implementation=f"{__name__}:Judge")]


def judged_by(compiled: CompileResult, **facts: object) -> Evaluation:
    registry = Registry()
    registry.add_plugin(JudgePlugin(), Provider("acme", "1.0", "acme"))
    frames = open_data(np.ones((2, 1, 16, 16), np.float32), input_specs(compiled.reference))
    kinds = [attrs.define(kw_only=True)(type("Judge", (Judge,), facts))]
    return evaluate(compiled.reference, emulated(compiled.graph), frames, kinds, registry=registry)


def test_a_metric_that_fails_is_named_with_its_provider_and_the_frame(compiled: CompileResult) -> None:
    with pytest.raises(PluginError, match="failed with ZeroDivisionError: by 0") as caught:
        judged_by(compiled, error=ZeroDivisionError("by 0"))
    assert caught.value.place == "the metric judge of acme 1.0 (acme), frame 0"


@pytest.mark.parametrize("error", [DataError("a label of two numbers"), KeyboardInterrupt()])
def test_what_a_metric_raises_on_purpose_and_interruptions_pass(
    compiled: CompileResult, error: BaseException
) -> None:
    with pytest.raises(type(error)) as caught:
        judged_by(compiled, error=error)
    assert caught.value is error


@pytest.mark.parametrize("answer", [None, "0.5", np.ones(2)])
def test_a_metric_whose_value_is_no_number_is_named(compiled: CompileResult, answer: object) -> None:
    with pytest.raises(PluginError, match="value should return a number, found") as caught:
        judged_by(compiled, answer=answer)
    assert caught.value.place == "the metric judge of acme 1.0 (acme)"


@pytest.mark.parametrize("answer", [np.float32(0.5), np.array(0.5)])
def test_the_value_of_a_metric_may_be_a_number_of_numpy(compiled: CompileResult, answer: object) -> None:
    figures = judged_by(compiled, answer=answer).figures["judge"]
    assert figures == (0.5, 0.5)
    assert {type(figure) for figure in figures} == {float}


def test_a_metric_that_says_it_needs_labels_never_sees_a_frame_without_one(compiled: CompileResult) -> None:
    with pytest.raises(DataError, match=r"frame 0: the metric judge needs a label for every frame"):
        judged_by(compiled, needs_labels=True, error=ZeroDivisionError("it was asked"))


def test_a_label_outside_the_classes_is_refused(compiled: CompileResult) -> None:
    data = {"image": np.random.default_rng(0).random((1, 1, 16, 16)), "labels": np.array([10])}
    frames = open_data(data, input_specs(compiled.reference))
    with pytest.raises(DataError, match="label 10"):
        evaluate(compiled.reference, emulated(compiled.graph), frames, metrics("top1"))


def test_metrics_without_frames_are_undefined() -> None:
    assert math.isnan(metrics("top1")[0]().value())
