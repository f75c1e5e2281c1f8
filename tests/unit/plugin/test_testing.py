"""The contract tests for plugin authors let good plugins pass and find every breach."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import attrs
import numpy as np
import pytest

import lowtide_plugins.calibrators
import lowtide_plugins.demo
import lowtide_plugins.latency
import lowtide_plugins.metrics
import lowtide_plugins.passes
import lowtide_plugins.scales
import lowtide_plugins.weights
import lowtide_targets
from lowtide.calibrate import Calibrator, Extremes, NumberFormat, Range, Statistic, TensorInfo
from lowtide.calibrate.api import Wants
from lowtide.errors import OptionError, PassError, PipelineError, PluginError, TargetError, UnknownNameError
from lowtide.frontend import Frontend, ImportRequest
from lowtide.ir import Array, Graph, TensorType
from lowtide.passes import Pass, PassContext, PassOutcome
from lowtide.plugin import (
    CalibratorSpec,
    CommandSpec,
    FrontendSpec,
    PassSpec,
    Provider,
    Registry,
    Spec,
    StatisticSpec,
    TargetSpec,
    hookimpl,
)
from lowtide.plugin.testing import check_calibrator, check_pass, check_plugin, check_statistic, check_target
from strategies import Everything

ACME = Provider("acme", "1", "acme")
HERE = "acme_contract"


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A module that records can name."""
    made = SimpleNamespace(__name__=HERE)
    monkeypatch.setitem(sys.modules, HERE, made)
    return made


def plugin(hook: str, *specs: Spec | None) -> object:
    """A plugin with one hook; without specs the hook returns nothing."""

    def register() -> list[Spec | None] | None:
        return list(specs) or None

    register.__name__ = hook
    return SimpleNamespace(__name__="acme", **{hook: hookimpl(register)})


def calibrators() -> Registry:
    registry = Registry()
    registry.add_plugin(lowtide_plugins.calibrators, ACME)
    return registry


# --- plugins ---


@pytest.mark.parametrize(
    "module",
    [
        lowtide_plugins.calibrators,
        lowtide_plugins.latency,
        lowtide_plugins.passes,
        lowtide_plugins.demo,
        lowtide_targets,
    ],
)
def test_the_built_in_plugins_pass(module: object) -> None:
    check_plugin(module)


def test_a_hook_that_returns_nothing_is_found() -> None:
    with pytest.raises(PluginError, match="the hook returns nothing"):
        check_plugin(plugin("lowtide_register_passes"))


def test_a_hook_without_its_decorator_is_found() -> None:
    with pytest.raises(PluginError, match="decorate it with @hookimpl"):
        check_plugin(SimpleNamespace(__name__="acme", lowtide_register_passes=list))


def test_a_plugin_that_contributes_nothing_is_found() -> None:
    with pytest.raises(PluginError, match="contributes nothing"):
        check_plugin(SimpleNamespace(__name__="acme"))


def test_a_plugin_that_only_observes_passes() -> None:
    def observe(seconds: float) -> None:
        del seconds

    check_plugin(SimpleNamespace(__name__="acme", lowtide_pass_finished=hookimpl(observe)))


@pytest.mark.parametrize("summary", ["", "  ", "two\nlines"])
def test_a_summary_that_is_not_one_line_is_found(summary: str) -> None:
    spec = PassSpec(name="everything", summary=summary, implementation="strategies:Everything")
    with pytest.raises(PluginError, match="the summary should be one line"):
        check_plugin(plugin("lowtide_register_passes", spec))


@attrs.frozen
class Reader(Frontend):
    """Reads nothing."""

    def load(self, path: Path, request: ImportRequest) -> Graph:
        del path, request
        return Graph()


@attrs.frozen(kw_only=True)
class Listing(Everything):
    """Has an option that pipelines cannot write."""

    name: ClassVar[str] = "listing"
    names: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Demanding(Everything):
    """Has an option without a default."""

    name: ClassVar[str] = "demanding"
    level: int


@pytest.mark.parametrize(
    ("kind", "message"),
    [(Listing, "the option names should be bool, int"), (Demanding, "the option level has no default")],
)
def test_options_that_pipelines_cannot_write_are_found(
    parts: SimpleNamespace, kind: type[Pass], message: str
) -> None:
    parts.Kind = kind
    spec = PassSpec(name=kind.name, summary="a pass", implementation=f"{HERE}:Kind")
    with pytest.raises(PluginError, match=message):
        check_plugin(plugin("lowtide_register_passes", spec))


def test_a_command_that_is_none_a_wrong_suffix_and_a_wrong_name_are_found(parts: SimpleNamespace) -> None:
    command = CommandSpec(name="acme", summary="a command", implementation="os.path:join")
    with pytest.raises(PluginError, match=r"should be a click\.Command"):
        check_plugin(plugin("lowtide_register_commands", command))
    taken = CommandSpec(
        name="run", summary="a command", implementation="lowtide_plugins.demo.command:command"
    )
    with pytest.raises(PluginError, match="lowtide has a command of this name"):
        check_plugin(plugin("lowtide_register_commands", taken))
    calibrator = CalibratorSpec(
        name="other",
        summary="a calibrator",
        implementation="lowtide_plugins.calibrators.minmax:MinMaxCalibrator",
    )
    with pytest.raises(PluginError, match="has the name 'minmax'"):
        check_plugin(plugin("lowtide_register_calibrators", calibrator))
    parts.Reader = Reader
    reader = FrontendSpec(
        name="acme", summary="a format", implementation=f"{HERE}:Reader", suffixes=("acme",)
    )
    with pytest.raises(PluginError, match="suffix is a dot and lower-case letters, found 'acme'"):
        check_plugin(plugin("lowtide_register_frontends", reader))


# --- passes ---


def relu() -> Graph:
    graph = Graph()
    x = graph.add_input("x", TensorType("float32", [1]))
    graph.set_outputs([graph.add_node("Relu", [x], [("y", x.type)]).output])
    return graph


@attrs.frozen(kw_only=True)
class Behaving(Pass):
    """Replaces Relu by another operator."""

    name: ClassVar[str] = "behaving"
    op: str = "Abs"
    again: bool = False
    lie: bool = False

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        del ctx
        changed = False
        for node in graph:
            if node.op == "Relu" or self.again:
                changed, node.op = True, self.op if node.op != self.op else "Neg"
        return PassOutcome(changed=changed != self.lie)


def _next(value: float) -> float:
    return value + 1.0


@attrs.frozen(kw_only=True)
class Rounding(Pass):
    """Has an option that text does not keep."""

    name: ClassVar[str] = "rounding"
    share: float = attrs.field(default=0.0, converter=_next)

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        del graph, ctx
        return PassOutcome(changed=False)


def test_a_good_pass_passes_and_leaves_the_graph_alone() -> None:
    graph = relu()
    check_pass(Behaving, graph)
    check_pass(Behaving, graph, ctx=PassContext(), op="Neg")
    check_pass(Everything, graph, choice="none", limit=None, label='say "x"')
    assert graph == relu()


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        (Behaving, {"again": True}, PluginError, "a second run changes the graph again"),
        (Behaving, {"lie": True}, PluginError, "says changed=False, but the graph is another one"),
        (Behaving, {"op": "Nothing"}, PassError, "left an invalid graph behind"),
        (Rounding, {"share": 1.0}, PluginError, "does not read back to an equal pass"),
    ],
)
def test_a_pass_that_breaks_its_contract_is_found(
    kind: type[Pass], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_pass(kind, relu(), **options)


def test_a_pass_that_claims_a_change_is_found() -> None:
    graph = relu()
    graph.nodes[0].op = "Abs"
    with pytest.raises(PluginError, match="says changed=True, but the graph is the same"):
        check_pass(Behaving, graph, lie=True)


# --- statistics and calibrators ---


class Sum(Statistic):
    """The exact sum of the maxima, as a good statistic keeps it."""

    name: ClassVar[str] = "sum"
    wants: ClassVar[Wants] = "extremes"

    def __init__(self, info: TensorInfo) -> None:
        super().__init__(info)
        self.seen: list[float] = []

    def update(self, observed: Extremes) -> None:
        self.seen.append(float(observed.max.max()))

    def merge(self, other: Any) -> None:
        self.seen += other.seen

    def save(self) -> dict[str, Array]:
        return {"seen": np.array(self.seen, np.float64)}

    @classmethod
    def load(cls, info: TensorInfo, arrays: Mapping[str, Array]) -> Self:
        made = cls(info)
        made.seen = arrays["seen"].tolist()
        return made


class Last(Sum):
    """Forgets the frames of one side of a merge."""

    name: ClassVar[str] = "last"

    def merge(self, other: Any) -> None:
        self.seen = other.seen or self.seen


class Amnesia(Sum):
    """Saves less than it knows."""

    name: ClassVar[str] = "amnesia"

    @classmethod
    def load(cls, info: TensorInfo, arrays: Mapping[str, Array]) -> Self:
        del arrays
        return cls(info)


class Greedy(Sum):
    """Empties what is merged into it."""

    name: ClassVar[str] = "greedy"

    def merge(self, other: Any) -> None:
        self.seen += other.seen
        other.seen = []


class Vandal(Sum):
    """Writes to what it is given."""

    name: ClassVar[str] = "vandal"

    def update(self, observed: Extremes) -> None:
        super().update(observed)
        observed.max[:] = 0


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Last, "the state depends on how frames are split: after 1 of 5"),
        (Amnesia, "save and load do not keep the state"),
        (Greedy, "merge changes its argument"),
        (Vandal, "update changes what it is given"),
    ],
)
def test_a_statistic_that_breaks_its_contract_is_found(kind: type[Statistic], message: str) -> None:
    check_statistic(Sum)
    with pytest.raises(PluginError, match=message):
        check_statistic(kind)


@attrs.frozen(kw_only=True)
class Chosen(Calibrator):
    """Returns what it is told to."""

    name: ClassVar[str] = "chosen"
    statistics: ClassVar[tuple[str, ...]] = ("sum",)
    choose: Callable[[Sequence[float], NumberFormat], Any]

    def range(self, statistics: Mapping[str, Statistic], fmt: NumberFormat) -> Range:
        seen = statistics["sum"]
        assert isinstance(seen, Sum)
        result: Range = self.choose(seen.seen, fmt)
        return result


@pytest.fixture
def summing(parts: SimpleNamespace) -> Registry:
    parts.Sum = Sum
    registry = Registry()
    registry.add(StatisticSpec(name="sum", summary="a sum", implementation=f"{HERE}:Sum"), ACME)
    return registry


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lambda seen, fmt: (0.0, len(seen) * fmt.bits), "should return a Range"),
        (lambda _, fmt: Range(0.0, float("inf") if fmt.power_of_two else 1.0), "a range is finite"),
        (lambda _, fmt: Range(float("nan"), fmt.bits), "a range is finite"),
        (lambda seen, fmt: Range(max(seen) + fmt.bits, min(seen)), "min <= max"),
    ],
)
def test_a_calibrator_with_an_impossible_range_is_found(
    summing: Registry, choose: Callable[[Sequence[float], NumberFormat], Any], message: str
) -> None:
    check_calibrator(Chosen(choose=lambda seen, _: Range(min(*seen, 0.0), max(*seen, 0.0))), summing)
    with pytest.raises(PluginError, match=message):
        check_calibrator(Chosen(choose=choose), summing)


def test_a_calibrator_whose_result_varies_is_found(summing: Registry) -> None:
    calls: list[int] = []

    def drift(seen: Sequence[float], fmt: NumberFormat) -> Range:
        calls.append(len(seen) + fmt.bits)
        return Range(0.0, len(calls))

    with pytest.raises(PluginError, match="the range depends on how frames are split"):
        check_calibrator(Chosen(choose=drift), summing)


def test_a_calibrator_may_be_checked_on_frames_of_ones_own(summing: Registry) -> None:
    with pytest.raises(PluginError, match="a range is finite"):
        check_calibrator(
            Chosen(choose=lambda seen, _: Range(0.0, float("inf") if seen[0] == 1 else 1.0)),
            summing,
            [np.full((1, 2, 3), value, np.float32) for value in (1, 2, 3)],
        )


@pytest.mark.parametrize("name", ["minmax", "moving-average", "percentile"])
def test_the_built_in_calibrators_pass(name: str) -> None:
    registry = calibrators()
    check_calibrator(registry.load(CalibratorSpec, name)(), registry)


# --- targets ---


def device(folder: Path, text: str) -> Registry:
    """A registry with a device of one's own that inherits from a built-in one."""
    package = folder / "acme_device"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "device.toml").write_text(
        f'schema = 1\nname = "acme-device"\ntitle = "ACME"\nsummary = "a device"\nextends = "generic"\n{text}'
    )
    registry = calibrators()
    registry.add_plugin(lowtide_targets, Provider("acme", "1", "targets"))
    registry.add_plugin(lowtide_plugins.passes, Provider("acme", "1", "passes"))
    registry.add_plugin(lowtide_plugins.weights, Provider("acme", "1", "weights"))
    registry.add_plugin(lowtide_plugins.scales, Provider("acme", "1", "scales"))
    registry.add_plugin(lowtide_plugins.metrics, Provider("acme", "1", "metrics"))
    spec = TargetSpec(name="acme-device", summary="a device", implementation="acme_device:device.toml")
    registry.add(spec, ACME)
    return registry


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("max_subgraphs = 2", None, ""),
        ('bits = "wide"', TargetError, "bits"),
        ("bits = ", TargetError, "acme-device"),
        ('prepare = "fold-batch-norm{"', PipelineError, "expected a word, found 'the end'"),
        (
            'recipes = { "1" = ["use calibrator minmax", "try weights no-such-pass"] }',
            UnknownNameError,
            r"(?s)no-such.*in stage weights of target acme-device: recipes\.1",
        ),
        ('recipes = { "1" = ["use calibrator no-such"] }', UnknownNameError, r"(?s)no-such.*recipes\.1"),
        ('recipes = { "1" = ["perhaps calibrator minmax"] }', OptionError, r"recipes\.1: expected use, try"),
        (
            'recipes = { "1" = ["try weights correct-bias"], "2" = [] }',
            OptionError,
            r"target acme-device: recipes\.1: no step names a calibrator",
        ),
    ],
)
def test_the_description_of_a_target_and_its_pipelines_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, error: type[Exception] | None, message: str
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "acme_device", raising=False)
    registry = device(tmp_path, text)
    if error is None:
        check_target("acme-device", registry)
        return
    with pytest.raises(error, match=message):
        check_target("acme-device", registry)
    del sys.modules["acme_device"]


def test_a_description_that_is_no_toml_is_found_without_its_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_notes").mkdir()
    (tmp_path / "acme_notes" / "notes.toml").write_text("not = = toml")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = TargetSpec(name="acme", summary="a device", implementation="acme_notes:notes.toml")
    with pytest.raises(PluginError, match="the description is no TOML"):
        check_plugin(plugin("lowtide_register_targets", spec))
