from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lowtide.compiler.run import input_specs
from lowtide.data import DataSource, open_data
from lowtide.errors import DataError
from lowtide.ir import AttributeValue, Constant, DType, Graph, TensorType, Value, verify
from lowtide.ir.shapes import infer_types
from lowtide.passes import PassContext, PassOutcome
from lowtide.quantize.solve import SolveRequest, solve
from lowtide.runtime import Session, dequantize, to_model
from lowtide_plugins.weights.bias import CorrectBias
from unit.quantize.solving import request_for

Numbers = NDArray[Any]
FRAMES = 6


def one_layer(
    op: str, inputs: tuple[int, ...], weights: Numbers, bias: Numbers | None, **attributes: AttributeValue
) -> Graph:
    graph = Graph("one")
    operands: list[Value | None] = [graph.add_input("x", TensorType(DType.FLOAT32, inputs))]
    operands.append(graph.add_constant("w", Constant.of(weights)))
    if bias is not None:
        operands.append(graph.add_constant("b", Constant.of(bias)))
    made = graph.add_node(op, operands, [("y", TensorType(DType.FLOAT32, None))], attributes)
    graph.set_outputs(made.outputs)
    infer_types(graph)
    return graph


def random(seed: int, *shape: int, mean: float = 0.0) -> Numbers:
    return np.random.default_rng(seed).normal(mean, 1.0, shape).astype(np.float32)


class Case:
    """A float layer, its quantized form, and frames whose mean is not zero."""

    def __init__(self, reference: Graph) -> None:
        self.reference = reference
        shape = reference.inputs[0].type.static_shape
        self.arrays = random(9, FRAMES, *shape, mean=2.0)
        self.request: SolveRequest = request_for(reference, "generic", 1, feeds=self.feeds)
        self.graph = reference.clone()
        solve(self.graph, self.request)

    @property
    def feeds(self) -> list[dict[str, Numbers]]:
        return [{"x": array} for array in self.arrays]

    @property
    def source(self) -> DataSource:
        return open_data(self.arrays, input_specs(self.reference))

    def correct(self) -> PassOutcome:
        context = PassContext(reference=self.reference, frames=self.source, request=self.request)
        return CorrectBias().run(self.graph, context)

    def mean_error(self) -> Numbers:
        """Of each output channel over all frames, with inputs and outputs as exact as they are in float."""
        plain = self.graph.clone()
        for value in (*plain.inputs, *plain.outputs):
            plain.retype(value, value.type.with_quant(None))
        one, two = (Session(to_model(g, quantized=q)) for g, q in ((self.reference, False), (plain, True)))
        difference = np.stack([two.run(feed)["y"] - one.run(feed)["y"] for feed in self.feeds])
        axes = tuple(axis for axis in range(difference.ndim) if axis != 2)
        mean: Numbers = difference.mean(axis=axes)
        return mean


CASES = {
    "conv": lambda: one_layer("Conv", (1, 4, 6, 6), random(1, 5, 4, 1, 1), random(2, 5)),
    "grouped": lambda: one_layer("Conv", (1, 4, 6, 6), random(1, 6, 2, 1, 1), random(2, 6), group=2),
    "depthwise": lambda: one_layer("Conv", (1, 4, 6, 6), random(1, 4, 1, 1, 1), random(2, 4), group=4),
    "gemm": lambda: one_layer("Gemm", (2, 4), random(1, 4, 3), random(2, 3)),
    "transposed gemm": lambda: one_layer("Gemm", (2, 4), random(1, 3, 4), random(2, 3), transB=1),
}


@pytest.mark.parametrize("name", CASES)
def test_the_mean_error_of_a_layer_without_borders_falls_to_the_step_of_its_bias(name: str) -> None:
    case = Case(CASES[name]())
    before = case.mean_error()
    outcome = case.correct()
    quant = case.graph.nodes[0].value(2).type.quant
    assert quant is not None
    assert outcome.counters == {"corrected": 1}
    assert np.abs(case.mean_error()).max() <= max(quant.scale)
    assert np.abs(case.mean_error()).max() < np.abs(before).max() / 2
    verify(case.graph)


def test_the_correction_is_the_error_of_the_weights_times_the_mean_of_the_input() -> None:
    case = Case(CASES["conv"]())
    weights = case.graph.values["w"]
    assert weights.constant is not None
    assert weights.type.quant is not None
    error = dequantize(weights.constant.array(), weights.type.quant) - random(1, 5, 4, 1, 1)
    expected = random(2, 5) - error[:, :, 0, 0] @ case.arrays.mean(axis=(0, 1, 3, 4))
    case.correct()
    bias = case.graph.nodes[0].value(2)
    assert bias.constant is not None
    assert bias.type.quant is not None
    found = dequantize(bias.constant.array(), bias.type.quant)
    np.testing.assert_allclose(found, expected, atol=max(bias.type.quant.scale))


def test_a_layer_without_a_bias_gets_one() -> None:
    case = Case(one_layer("Conv", (1, 4, 6, 6), random(1, 5, 4, 1, 1), None))
    assert case.correct().changed
    assert case.graph.nodes[0].value(2).type.shape == (5,)
    verify(case.graph)


@pytest.mark.parametrize("name", CASES)
def test_a_second_run_changes_nothing(name: str) -> None:
    case = Case(CASES[name]())
    case.correct()
    once = case.graph.clone()
    assert not case.correct().changed
    assert case.graph == once


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (lambda: one_layer("MatMul", (2, 4), random(1, 4, 3), None), "no bias operand"),
        (lambda: one_layer("ConvTranspose", (1, 4, 6, 6), random(1, 4, 3, 2, 2), None), "strides"),
        (lambda: one_layer("Gemm", (2, 4), random(1, 4, 3), None, alpha=0.5), "no plain product"),
        (lambda: one_layer("Gemm", (4, 2), random(1, 4, 3), None, transA=1), "no plain product"),
        (lambda: one_layer("MatMul", (4,), random(1, 4, 3), None), "no channel axis"),
    ],
)
def test_what_cannot_be_corrected_is_refused_with_the_reason_and_left_alone(graph: Any, reason: str) -> None:
    case = Case(graph())
    before = case.graph.clone()
    outcome = case.correct()
    assert not outcome.changed
    assert [reason in refusal.reason for refusal in outcome.refusals] == [True]
    assert outcome.refusals[0].place == case.graph.nodes[0].place
    assert case.graph == before


def test_a_layer_that_the_float_network_does_not_have_is_refused() -> None:
    case = Case(CASES["conv"]())
    case.graph.rename(case.graph.values["y"], "z")
    outcome = case.correct()
    assert "no layer of this name" in outcome.refusals[0].reason


def test_data_without_frames_is_refused() -> None:
    case = Case(CASES["conv"]())
    nothing = open_data(list, input_specs(case.reference))
    context = PassContext(reference=case.reference, frames=nothing, request=case.request)
    with pytest.raises(DataError, match="there are no frames"):
        CorrectBias().run(case.graph, context)
