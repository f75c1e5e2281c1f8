"""The runner trusts no pass."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import pytest

from lowtide.errors import GraphError, PassError, PluginError, UnsupportedByTargetError
from lowtide.ir import Graph, TensorType, verify
from lowtide.passes import Pass, PassContext, PassOutcome, run_pipeline
from lowtide.plugin import Provider, Registry, hookimpl

F32 = TensorType("float32", [1])


@attrs.frozen(kw_only=True)
class Grow(Pass):
    """Appends a node."""

    name: ClassVar[str] = "grow"
    op: str = "Relu"

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        del ctx
        node = graph.add_node(self.op, [graph.outputs[0]], [(graph.fresh_name("y"), F32)])
        graph.set_outputs([node.output])
        return PassOutcome(changed=True, counters={"grown": 1})


@attrs.frozen(kw_only=True)
class Fail(Pass):
    """Raises."""

    name: ClassVar[str] = "fail"
    error: Any = None

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        del graph, ctx
        raise self.error


@attrs.frozen(kw_only=True)
class Silent(Pass):
    """Forgets to return its outcome."""

    name: ClassVar[str] = "silent"

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        del graph, ctx
        return None  # type: ignore[return-value]  # wrong on purpose


class Listener:
    """A plugin that observes."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bool]] = []

    @hookimpl
    def lowtide_pass_finished(self, item: Pass, outcome: PassOutcome) -> None:
        self.heard.append((str(item), outcome.changed))


class Breaker:
    """A plugin whose observer fails."""

    @hookimpl
    def lowtide_pass_finished(self, seconds: float) -> None:
        raise KeyError(seconds)


def graph() -> Graph:
    made = Graph("g")
    made.set_outputs([made.add_input("x", F32)])
    return made


def test_passes_run_in_order_and_each_is_reported() -> None:
    made, seen = graph(), list[tuple[str, int]]()
    runs = run_pipeline(
        made,
        [Grow(), Grow(op="Neg")],
        PassContext(),
        after_each=lambda item, changed: seen.append((str(item), len(changed))),
    )
    assert [node.op for node in made] == ["Relu", "Neg"]
    assert seen == [("grow", 1), ("grow{op=Neg}", 2)]
    assert [(run.text, run.outcome.counters) for run in runs] == [
        ("grow", {"grown": 1}),
        ("grow{op=Neg}", {"grown": 1}),
    ]
    assert all(run.seconds >= 0 for run in runs)


def test_a_graph_that_is_invalid_to_begin_with_is_no_pass_error() -> None:
    made = graph()
    made.add_node("Nothing", [made.inputs[0]], [("n", F32)])
    with pytest.raises(GraphError, match="ONNX has no operator Nothing"):
        run_pipeline(made, [], PassContext())


def test_a_pass_that_leaves_an_invalid_graph_is_named_with_its_options() -> None:
    with pytest.raises(PassError, match="left an invalid graph behind: LT101 Nothing") as caught:
        run_pipeline(graph(), [Grow(), Grow(op="Nothing"), Grow()], PassContext())
    assert caught.value.place == "grow{op=Nothing}"


@pytest.mark.parametrize("cause", [ZeroDivisionError("by zero"), SystemExit("by zero")])
def test_an_exception_in_a_pass_is_a_pass_error_with_its_cause(cause: BaseException) -> None:
    with pytest.raises(PassError, match=f"the pass failed: {type(cause).__name__}: by zero") as caught:
        run_pipeline(graph(), [Fail(error=cause)], PassContext())
    assert caught.value.place.startswith("fail")
    assert caught.value.__cause__ is cause


def test_a_deliberate_error_comes_through_with_the_pass_as_a_note() -> None:
    with pytest.raises(UnsupportedByTargetError) as caught:
        run_pipeline(graph(), [Fail(error=UnsupportedByTargetError("no", place="node"))], PassContext())
    assert "\n  in pass fail" in str(caught.value)


def test_a_pass_without_an_outcome_is_refused() -> None:
    with pytest.raises(PassError, match="should return a PassOutcome, found None"):
        run_pipeline(graph(), [Silent()], PassContext())


def test_observers_hear_of_every_pass() -> None:
    registry, listener = Registry(), Listener()
    registry.add_plugin(listener, Provider("acme", "1", "acme"))
    made = graph()
    run_pipeline(made, [Grow(), Grow()], PassContext(), registry=registry)
    assert listener.heard == [("grow", True), ("grow", True)]
    verify(made)


def test_an_observer_that_fails_is_named() -> None:
    registry = Registry()
    registry.add_plugin(Breaker(), Provider("acme", "1.5", "breaker"))
    with pytest.raises(PluginError, match="failed with KeyError") as caught:
        run_pipeline(graph(), [Grow()], PassContext(), registry=registry)
    assert caught.value.place == "lowtide_pass_finished of acme 1.5 (breaker)"
