"""Layers that are changed before widths are chosen."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import attrs
import numpy as np
import pytest

import lowtide
from lowtide.errors import OptionError, PassError
from lowtide.ir import Constant, Graph, print_graph
from lowtide.passes import Pass, PassContext, PassOutcome
from lowtide.plugin import PassSpec, Provider, Registry, discover, hookimpl
from unit.weights.test_gates import gated

USE = "use calibrator minmax"
GATES = f"{USE}; try structure equalize-gates"


@attrs.frozen(kw_only=True)
class Detour(Pass):
    """Multiplies the input by one, or by something else."""

    name: ClassVar[str] = "detour"
    by: float = 1.0

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        del ctx
        (x,) = graph.inputs
        factor = graph.add_constant("factor", Constant.of(np.full((1, 1, 1, 1), self.by, np.float32)))
        made = graph.add_node("Mul", [x, factor], [("around", x.type)]).output
        for node, operand in [(use.node, use.operand) for use in x.uses]:
            if node.output is not made:
                graph.set_input(node, operand, made)
        graph.sort()
        return PassOutcome(True)


class Plugin:
    @staticmethod
    @hookimpl
    def lowtide_register_passes() -> Iterable[PassSpec]:
        return [PassSpec(name="detour", summary="test", implementation=f"{__name__}:Detour")]


@pytest.fixture(scope="module")
def registry() -> Registry:
    found = discover()
    found.add_plugin(Plugin(), Provider("test", "1", "structure"))
    return found


def frames(count: int = 24) -> np.ndarray:
    return np.random.default_rng(7).normal(0.3, 1.0, (count, 3, 8, 8)).astype(np.float32)


def compiled(graph: Graph, recipe: str, **options: object) -> lowtide.CompileResult:
    return lowtide.compile(graph, target="tda4vm", data=frames(), options={"recipe": recipe, **options})


@pytest.mark.parametrize("bits", [8, 16])
def test_a_step_that_changes_layers_is_kept_where_the_error_falls(bits: int) -> None:
    result = compiled(gated(4, 3.0), GATES, tensor_bits=bits)
    (step,) = result.report.steps
    assert (step.step, step.kept) == ("structure equalize-gates", True)
    assert step.sqnr_after_db > step.sqnr_before_db + 3
    assert any(value.endswith("_gate") for value in result.graph.values)
    split = next(layer for layer in result.report.layers if layer.name.endswith("_gate"))
    assert split.bits == bits
    assert split.latency_ms is not None


def test_what_a_gate_cuts_off_where_it_is_flat_is_no_cause_of_errors() -> None:
    result = compiled(gated(4, 3.0), f"{GATES}; try scales choose-ranges")
    errors = {layer.name: layer.max_error or 0.0 for layer in result.report.layers}
    narrowed = [name for name in errors if name.endswith("_gate") and errors[name] > 10]
    assert narrowed
    assert all(result.ranges[name].max < 10 for name in narrowed)
    named = {finding.layer for finding in result.report.findings if finding.code == "LT956"}
    assert named.isdisjoint(narrowed)


def test_where_the_error_does_not_fall_all_layers_stay(registry: Registry) -> None:
    options = {"recipe": f"{USE}; try structure detour"}
    graph = gated(4, 0.0)
    result = lowtide.compile(graph, target="tda4vm", data=frames(), options=options, registry=registry)
    (step,) = result.report.steps
    assert not step.kept
    assert "around" not in result.graph.values
    plain = compiled(graph, USE)
    assert print_graph(result.graph) == print_graph(plain.graph)


def test_a_step_that_changes_nothing_is_no_trial_and_the_report_says_what_it_refused() -> None:
    report = compiled(gated(4, 0.0), GATES).report
    assert report.steps == ()
    (ran,) = (found for found in report.passes if found.text.startswith("equalize-gates"))
    assert len(ran.refusals) == 4


def test_layers_that_compute_something_else_stop_the_compile(registry: Registry) -> None:
    options = {"recipe": f"{USE}; try structure detour{{by=1.5}}"}
    with pytest.raises(PassError, match="computes something else") as caught:
        lowtide.compile(gated(4, 0.0), target="tda4vm", data=frames(), options=options, registry=registry)
    assert caught.value.place == "structure: detour{by=1.5}"


def test_widths_are_chosen_for_the_layers_as_they_are_then() -> None:
    graph = gated(4, 3.0)
    result = compiled(graph, f"{GATES}; try weights reconstruct", mixed_precision_factor=1.3)
    assert next(step for step in result.report.steps if step.step.startswith("structure")).kept
    gates = {name for name in result.graph.values if name.endswith("_gate")}
    assert gates
    assert gates <= result.plan.activations.keys()
    assert 16 in result.plan.activations.values()


def test_a_pipeline_set_by_hand_replaces_the_step_and_is_recorded(tmp_path: Path) -> None:
    result = compiled(gated(4, 3.0), GATES, structure="equalize-gates{gain=100}")
    assert result.report.steps == ()
    assert not any(value.endswith("_gate") for value in result.graph.values)
    result = compiled(gated(4, 3.0), GATES, structure="equalize-gates{gain=0}")
    assert any(value.endswith("_gate") for value in result.graph.values)
    read = lowtide.load_output(result.save(tmp_path / "out"))
    assert print_graph(read.conditioned) != print_graph(read.reference)


def test_an_unknown_stage_names_those_that_there_are() -> None:
    with pytest.raises(OptionError, match="structure, condition"):
        compiled(gated(4, 0.0), f"{USE}; try structures equalize-gates")
