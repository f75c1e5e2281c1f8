"""What a plugin's author runs on the plugin, for instance from pytest; every check raises `PluginError`.

from lowtide.plugin import discover
from lowtide.plugin.testing import check_calibrator, check_plugin

def test_the_plugin() -> None:
    check_plugin(acme_lowtide)
    check_calibrator(Headroom(margin=0.2), discover())
"""

from __future__ import annotations

import math
import tomllib
from itertools import product
from typing import Any, cast

import attrs

from lowtide.cli import COMMANDS
from lowtide.compiler.diagnose import check_findings, view_of
from lowtide.compiler.recipe import check_recipe, recipe_of, target_place
from lowtide.compiler.stages import Compilation
from lowtide.diagnosis import CODE, Diagnosis
from lowtide.errors import PluginError, noted
from lowtide.ir import Graph
from lowtide.latency import LatencyModel, LatencyProblem, LayerCost, latency_model, uniform_plan
from lowtide.options import CompileOptions, OptionLayer, resolve_options
from lowtide.passes import Pass, PassContext, option_types, parse_pipeline, print_pass, run_pipeline
from lowtide.plugin.registry import HOOK_KINDS, OBSERVER_HOOKS, Provider, Registry
from lowtide.plugin.result_check import check_emitter, check_metric, check_section
from lowtide.plugin.specs import (
    CommandSpec,
    ComparisonSpec,
    FrontendSpec,
    MetricSpec,
    PassSpec,
    Spec,
    TargetSpec,
)
from lowtide.plugin.statistic_check import check_calibrator, check_statistic
from lowtide.plugin.strategy_check import check_strategy
from lowtide.report.model import Finding
from lowtide.target import load_target
from lowtide.tuning.goal import parse_goal
from lowtide.tuning.search import BUDGET

__all__ = [
    "check_calibrator",
    "check_diagnosis",
    "check_emitter",
    "check_findings",
    "check_latency_model",
    "check_metric",
    "check_pass",
    "check_plugin",
    "check_recipe",
    "check_section",
    "check_statistic",
    "check_strategy",
    "check_target",
]

_OPTIONS = {bool, int, float, str, type(None)}


def check_plugin(module: object) -> None:
    """Check what an entry point names: hooks, records, and that every implementation loads.

    Args:
        module: the module or object that the entry point names.

    Raises:
        PluginError: when a hook does not exist, is not decorated or returns nothing, nothing is contributed,
            a summary is not one line, or an implementation does not load or breaks the rules of its kind.
    """
    owner = getattr(module, "__name__", type(module).__name__)
    registry = Registry()
    registry.add_plugin(module, Provider(str(owner), "0", "plugin"))
    for hook in HOOK_KINDS:
        _check_hook(module, hook, registry, f"{owner}.{hook}")
    specs = [spec for kind in HOOK_KINDS.values() for spec in registry.all(kind)]
    observers = [hook for hook in OBSERVER_HOOKS if getattr(registry.hook, hook).get_hookimpls()]
    if not specs and not observers:
        raise PluginError("the plugin contributes nothing", place=str(owner))
    for spec in specs:
        _check_spec(spec)


def _check_hook(module: object, hook: str, registry: Registry, place: str) -> None:
    register = getattr(module, hook, None)
    if register is None:
        return
    if not getattr(registry.hook, hook).get_hookimpls():
        raise PluginError("the hook is not called", place=place, hint="decorate it with @hookimpl")
    if register() is None:
        raise PluginError("the hook returns nothing", place=place, hint="return a list of records")


def _check_spec(spec: Spec) -> None:
    place = f"{spec.kind} {spec.name}"
    if not spec.summary.strip() or "\n" in spec.summary:
        raise PluginError(f"the summary should be one line of text, found {spec.summary!r}", place=place)
    found = spec.load()
    if isinstance(spec, TargetSpec):
        _check_toml(cast("str", found), place)
    if isinstance(spec, PassSpec):
        _check_options(cast("type[Pass]", found), place)
    if isinstance(spec, CommandSpec) and spec.name in COMMANDS:
        raise PluginError("lowtide has a command of this name", place=place, hint="choose another")
    if isinstance(spec, FrontendSpec | ComparisonSpec):
        wrong = [suffix for suffix in spec.suffixes if suffix != suffix.lower() or not suffix.startswith(".")]
        if wrong:
            raise PluginError(f"a suffix is a dot and lower-case letters, found {wrong[0]!r}", place=place)


def _check_toml(text: str, place: str) -> None:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PluginError(f"the description is no TOML: {error}", place=place) from error


def _check_options(kind: type[Pass], place: str) -> None:
    for name, types in option_types(kind).items():
        if not _OPTIONS.issuperset(types):
            raise PluginError(
                f"the option {name} should be bool, int, float, str or None, to be written in a pipeline",
                place=place,
            )
    for field in attrs.fields(kind):
        if field.default is attrs.NOTHING:
            raise PluginError(f"the option {field.name} has no default", place=place)


@attrs.define
class _OnlyPass(Registry):
    """A registry that knows one pass class, which need not be importable."""

    only: type[Pass] = attrs.field(kw_only=True)

    def __attrs_post_init__(self) -> None:
        spec = PassSpec(name=self.only.name, summary="", implementation="checked:Pass")
        self.add(spec, Provider(self.only.__module__, "0", "checked"))

    def load(self, kind: type[Any], name: str) -> Any:
        return self.only if kind is PassSpec and name == self.only.name else super().load(kind, name)


def check_pass(
    pass_class: type[Pass],
    graph: Graph,
    *,
    ctx: PassContext | None = None,
    **options: bool | float | str | None,
) -> None:
    """Check a pass on a graph, which stays as it is.

    Args:
        pass_class: the pass.
        graph: a valid graph on which the pass has something to do.
        ctx: what the pass may look at besides the graph.
        options: the options of the pass.

    Raises:
        PluginError: when the text of the pass does not read back to an equal pass, the outcome does not tell
            whether the graph has changed, or a second run changes it again.
        PassError: when the pass fails or leaves an invalid graph behind.
    """
    item = pass_class(**options)
    text, place = print_pass(item), f"pass {pass_class.name}"
    if parse_pipeline(text, _OnlyPass(only=pass_class)) != (item,):
        raise PluginError(f"{text} does not read back to an equal pass", place=place)
    copy, context = graph.clone(), ctx or PassContext()
    (first,) = run_pipeline(copy, [item], context)
    if first.outcome.changed != (copy != graph):
        raise PluginError(
            f"the outcome says changed={first.outcome.changed}, but the graph is "
            f"{'another one' if copy != graph else 'the same'}",
            place=place,
        )
    once = copy.clone()
    (second,) = run_pipeline(copy, [item], context)
    if second.outcome.changed or copy != once:
        raise PluginError("a second run changes the graph again", place=place)


def check_diagnosis(kind: type[Diagnosis], compilation: Compilation) -> tuple[Finding, ...]:
    """Check a diagnosis on a network with something to find.

    Args:
        kind: the diagnosis.
        compilation: that ran, with frames.

    Returns:
        What it found.

    Raises:
        PluginError: when a cause on its list is malformed or there twice, a finding is not on the list or has
            no layer of the network, no evidence or no option that can be set as remedy, another look finds
            something else, or the network is another one afterwards.
    """
    place = f"diagnosis {kind.name}"
    codes = [cause.code for cause in kind.causes]
    for cause in kind.causes:
        if not CODE.fullmatch(cause.code) or not cause.text or not cause.threshold:
            raise PluginError(f"a cause has a code LTnnn, a text and a threshold, found {cause}", place=place)
        if codes.count(cause.code) > 1:
            raise PluginError(f"lists {cause.code} twice", place=place)
    view = view_of(compilation)
    before = [graph.clone() for graph in (view.graph, view.reference, view.imported)]
    found = tuple(kind().find(view))
    check_findings(kind, found, view, place)
    if before != [view.graph, view.reference, view.imported]:
        raise PluginError("changes the network", place=place)
    if tuple(kind().find(view)) != found:
        raise PluginError("finds something else the second time", place=place)
    return found


def check_target(name: str, registry: Registry) -> None:
    """Check a device: its description, those it extends, all expressions, recipes, ladder, latency model.

    Args:
        name: the device.
        registry: provides it, what it extends, the passes of its pipelines and its latency model.

    Raises:
        UnknownNameError: when nobody provides it.
        TargetError: when the description is invalid.
        PipelineError: when a pipeline is.
        PluginError: when a file is missing.
        OptionError: for a goal or an option of the ladder that does not exist.
    """
    target = load_target(name, registry)
    with noted(f"in target {target.name}: prepare"):
        parse_pipeline(target.prepare, registry)
    for recipe, lines in target.recipes.items():
        place = target_place(target.name, recipe)
        check_recipe(recipe_of(lines, CompileOptions(), place=place), registry, place=place)
    metrics = [spec.name for spec in registry.all(MetricSpec)]
    for text in target.tune.goals:
        parse_goal(text, metrics, place=f"target {name}: tune.goals")
    for rung in target.tune.ladder:
        values = {key: 2.0 if value == BUDGET else value for key, value in rung.options.items()}
        resolve_options([OptionLayer(f"target {name}: tune.ladder", values)])
    if target.latency is not None:
        latency_model(target, registry)


def check_latency_model(model: LatencyModel, problem: LatencyProblem) -> None:
    """Check that a latency model keeps its contract on a network.

    Args:
        model: with the options that it should be checked with.
        problem: a placed network; one with layers of many kinds, some of them on the host, shows most.

    Raises:
        PluginError: when a cost is no finite time, belongs to another layer, differs the second time or falls
            when a tensor gets wider, or when the sum is not that of the layers.
    """
    place = f"latency model {model.name}"
    for name, work in problem.works.items():
        found: dict[tuple[int, int, int], LayerCost] = {}
        for read, out, weights in product((8, 16), (8, 16), (8, 16)):
            reads = {tensor.name: read for tensor in work.inputs}
            cost = model.checked_ms(work, reads, out, weights)
            if model.layer_ms(work, reads, out, weights) != cost:
                raise PluginError(f"the cost of {name} is another one the second time", place=place)
            found[read, out, weights] = cost
        for narrow, wide in product(found, repeat=2):
            wider = all(one <= other for one, other in zip(narrow, wide, strict=True))
            if wider and found[wide].ms < found[narrow].ms:
                raise PluginError(
                    f"{name} is faster with input, output and parameters of {wide} than of {narrow} bits",
                    place=place,
                )
    _check_sum(model, problem, place)


def _check_sum(model: LatencyModel, problem: LatencyProblem, place: str) -> None:
    table = model.layer_costs(problem, uniform_plan(problem.graph, problem.target, problem.placement, 8))
    if [cost.layer for cost in table.layers] != list(problem.works):
        raise PluginError("the table should have every layer once, in executable order", place=place)
    total = table.call_ms + sum(cost.ms for cost in table.layers)
    if not math.isclose(table.total_ms, total, rel_tol=1e-9, abs_tol=1e-12):
        raise PluginError(f"the total {table.total_ms} is not the sum of the layers, {total}", place=place)
