"""Recipes: what steps say, what is tried, and what stays."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest

import lowtide
from lowtide.compiler import attempt, held_out
from lowtide.compiler.held_out import HeldOut, split
from lowtide.compiler.recipe import Recipe, Settings, Step, chosen_lines, parse_step, recipe_of, recipe_place
from lowtide.compiler.request import CompileRequest
from lowtide.compiler.run import session_of
from lowtide.compiler.stages import Compilation
from lowtide.compiler.trials import improved
from lowtide.data import InputSpec, open_data
from lowtide.errors import OptionError, PassError, UnknownNameError
from lowtide.ir import Constant, Graph, print_graph
from lowtide.options import CompileOptions, OptionLayer
from lowtide.passes import Pass, PassContext, PassOutcome
from lowtide.plugin import PassSpec, Provider, Registry, discover, hookimpl
from lowtide.quantize.solve import solve
from support import CALIBRATION, MODEL

USE = "use calibrator minmax"


@attrs.frozen(kw_only=True)
class Shake(Pass):
    """Adds to every bias or weight."""

    name: ClassVar[str] = "shake"
    by: float = 1.0

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        del ctx
        for value in graph.constants:
            if value.constant is not None and value.constant.size > 1 and self.by:
                array = value.constant.array()
                graph.set_constant(value, Constant.of((array + self.by).astype(array.dtype)), value.type)
        return PassOutcome(bool(self.by))


@attrs.frozen(kw_only=True)
class WidenRanges(Pass):
    """Multiplies every range."""

    name: ClassVar[str] = "widen-ranges"
    by: float = 64.0

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        del graph
        assert ctx.ranges is not None
        for name, found in list(ctx.ranges.items()):
            ctx.ranges[name] = attrs.evolve(found, min=found.min * self.by, max=found.max * self.by)
        return PassOutcome(True)


class Plugin:
    @staticmethod
    @hookimpl
    def lowtide_register_passes() -> Iterable[PassSpec]:
        return [
            PassSpec(name=kind.name, summary="test", implementation=f"{__name__}:{kind.__name__}")
            for kind in (Shake, WidenRanges)
        ]


@pytest.fixture(scope="module")
def registry() -> Registry:
    found = discover()
    found.add_plugin(Plugin(), Provider("test", "1", "recipes"))
    return found


def compilation(registry: Registry, recipe: str, frames: int = 20, **options: object) -> Compilation:
    layers = [OptionLayer("test", {"recipe": recipe, "measure_frames": 1, **options})]
    request = CompileRequest(
        model=MODEL, target="am68a", data=str(CALIBRATION), frames=frames, options=layers, registry=registry
    )
    made = Compilation.begin(request)
    made.run()
    return made


def test_a_step_says_whether_it_is_certain_what_it_changes_and_when() -> None:
    assert parse_step("try weights a{b=1},c") == Step(True, "weights", "a{b=1},c")
    assert parse_step(" if weight_clipping use scales x ") == Step(False, "scales", "x", "weight_clipping")


@pytest.mark.parametrize("text", ["weights x", "use weights", "use biases x", "if use weights x", ""])
def test_what_is_no_step_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(OptionError, match="expected use, try or else"):
        parse_step(text)


def test_an_unknown_flag_is_refused_with_the_nearest() -> None:
    with pytest.raises(OptionError, match="weight_clipping"):
        parse_step("if weight_cliping use weights x")


@pytest.mark.parametrize("line", ["use biases x", "if no_such_flag use weights x", "use weights x"])
def test_a_wrong_recipe_of_a_device_names_the_device(line: str) -> None:
    recipes, options = {"1": (line,)}, CompileOptions()
    place = recipe_place("acme-box", recipes, options)
    with pytest.raises(OptionError) as caught:
        recipe_of(chosen_lines(recipes, options), options, place=place)
    assert caught.value.place == "target acme-box: recipes.1"


def test_a_wrong_recipe_that_is_written_out_names_the_option() -> None:
    options = CompileOptions(recipe="use biases x; use weights y")
    assert recipe_place("acme-box", {"1": (USE,)}, options) == "recipe"


def test_certain_steps_fill_the_settings_in_order_and_the_others_are_tried() -> None:
    lines = ["use calibrator a", "use weights x", "use calibrator b", "try weights z", "use weights y"]
    wanted = Recipe(Settings("b", "", "", "x,y"), (Step(True, "weights", "z"),))
    assert recipe_of(lines, CompileOptions()) == wanted


def test_a_flag_that_is_off_switches_its_step_off() -> None:
    lines = [USE, "if bias_calibration use weights x"]
    assert recipe_of(lines, CompileOptions(bias_calibration=False)).settings.weights == ""
    assert recipe_of(lines, CompileOptions(bias_calibration=True)).settings.weights == "x"


def test_what_an_option_sets_no_step_changes() -> None:
    lines = [USE, "use weights x", "try weights y", "try calibrator z"]
    assert recipe_of(lines, CompileOptions(weights="", calibrator="mse")) == Recipe(Settings("mse"))


def test_else_belongs_to_the_step_before_it_and_is_a_trial_like_others_without_it() -> None:
    lines = [USE, "try weights x", "else weights y", "else scales z"]
    plain = recipe_of(lines, CompileOptions()).trials
    assert [(step.text, step.otherwise) for step in plain] == [("x", False), ("y", True), ("z", True)]
    by_hand = recipe_of(lines, CompileOptions(weights="")).trials
    assert [(step.text, step.otherwise) for step in by_hand] == [("z", False)]


def test_else_is_tried_only_where_nothing_of_its_chain_was_kept(registry: Registry) -> None:
    helps, harms = "scales widen-ranges{by=0.015625}", "weights shake"
    chain = f"{USE}; use scales widen-ranges; try {{}}; else {{}}; else weights shake"
    found = compilation(registry, chain.format(helps, harms))
    assert [(trial.step, trial.kept) for trial in found.trials] == [(helps, True)]
    found = compilation(registry, chain.format(harms, helps))
    assert [(trial.step, trial.kept) for trial in found.trials] == [(harms, False), (helps, True)]


def test_the_level_chooses_unless_a_recipe_is_named_or_written_out() -> None:
    recipes = {"1": ("one",), "other": ("two",)}
    assert chosen_lines(recipes, CompileOptions()) == ("one",)
    assert chosen_lines(recipes, CompileOptions(recipe="other")) == ("two",)
    written = CompileOptions(recipe="use calibrator a; try weights b")
    assert chosen_lines(recipes, written) == ["use calibrator a", " try weights b"]
    with pytest.raises(OptionError, match="other"):
        chosen_lines(recipes, CompileOptions(recipe="othr"))


def test_wrong_names_stop_a_compile_before_any_frame_is_run(registry: Registry) -> None:
    with pytest.raises(UnknownNameError, match="corect-bias"):
        compilation(registry, f"{USE}; try weights corect-bias")


def test_a_step_stays_only_if_the_error_on_held_out_frames_falls(registry: Registry) -> None:
    found = compilation(
        registry, f"{USE}; try weights shake; try scales widen-ranges; try weights shake{{by=0}}"
    )
    assert [trial.kept for trial in found.trials] == [False, False, False]
    assert found.trials[0].after > found.trials[0].before
    assert found.trials[2].after == found.trials[2].before
    plain = compilation(registry, USE, recalibrate="no")
    assert found.pipelines.keys() == plain.pipelines.keys()


def test_a_step_that_helps_is_kept_and_its_passes_are_in_the_pipelines(registry: Registry) -> None:
    found = compilation(registry, f"{USE}; use scales widen-ranges; try scales widen-ranges{{by=0.015625}}")
    assert [trial.kept for trial in found.trials] == [True]
    assert found.pipelines["scales"] == "widen-ranges,widen-ranges{by=0.015625}"
    assert [run.text for stage, run in found.runs if stage == "scales"] == [
        "widen-ranges",
        "widen-ranges{by=0.015625}",
    ]


def test_a_step_on_scales_that_changes_none_is_not_solved_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved: list[Graph] = []

    def noted(graph: Graph, request: Any) -> None:
        solved.append(graph)
        solve(graph, request)

    monkeypatch.setattr(attempt, "solve", noted)
    found = compilation(registry, f"{USE}; try scales widen-ranges{{by=1}}; try scales widen-ranges{{by=2}}")
    assert len(solved) == 2
    assert not found.trials[0].kept
    assert found.trials[0].after == found.trials[0].before


def test_a_gain_of_less_than_a_tenth_of_a_decibel_is_chance(registry: Registry) -> None:
    begun = compilation(registry, USE)
    for gain, kept in ((1.01, False), (1.05, True)):
        errors = iter((0.1, 0.1 / gain))
        bench: Any = SimpleNamespace(
            held_out=(),
            error=lambda _, errors=errors: next(errors),
            extend=lambda _, text: SimpleNamespace(changed=bool(text)),
        )
        start: Any = SimpleNamespace(settings=Settings())
        _, (trial,) = improved(begun, bench, start, [parse_step("try weights shake")])
        assert trial.kept is kept


def test_of_a_network_that_is_lost_weights_are_tried_first_and_nothing_counts_that_leaves_it_lost(
    registry: Registry,
) -> None:
    begun = compilation(registry, USE)
    steps = [parse_step(f"try {text}") for text in ("scales widen-ranges", "weights shake", "weights other")]
    errors = iter((1.6, 0.9, 0.02, 0.04))
    bench: Any = SimpleNamespace(
        held_out=(),
        error=lambda _: next(errors),
        extend=lambda start, _: SimpleNamespace(changed=True, settings=start.settings),
        rescale=lambda start, _: SimpleNamespace(changed=True, settings=start.settings),
    )
    start: Any = SimpleNamespace(settings=Settings())
    _, trials = improved(begun, bench, start, steps)
    assert [(trial.step, trial.kept) for trial in trials] == [
        ("weights shake", False),
        ("scales widen-ranges", True),
        ("weights other", False),
    ]


@pytest.mark.parametrize(("bare", "chosen"), [(1.6, False), (1.5, True)])
def test_weights_of_a_lost_network_are_chosen_anew_only_for_a_conditioned_one_that_has_lost_less(
    registry: Registry, bare: float, chosen: bool
) -> None:
    begun = compilation(registry, USE)
    steps = [parse_step(f"try {text}") for text in ("condition shake", "weights shake")]
    errors = iter((1.6, 0.04, bare, 0.02))
    run = ("condition", SimpleNamespace(outcome=SimpleNamespace(changed=True)))
    extended: list[Settings] = []

    def extend(start: Any, text: str) -> Any:
        settings = start.settings.with_step("weights", text)
        extended.append(settings)
        return attrs.make_class("Made", ["settings", "base", "plan", "changed"])(
            settings, SimpleNamespace(runs=()), None, changed=True
        )

    bench: Any = SimpleNamespace(
        held_out=(),
        compilation=begun,
        error=lambda _: next(errors),
        extend=extend,
        condition=lambda _: SimpleNamespace(runs=(run,)),
        quantize=lambda base, settings, _: SimpleNamespace(base=base, settings=settings),
    )
    start: Any = SimpleNamespace(settings=Settings())
    _, (weights, condition) = improved(begun, bench, start, steps)
    assert weights.kept
    assert condition.kept is chosen
    assert condition.after == (0.02 if chosen else 0.04)
    anew = [Settings(condition="shake", weights="shake")] if chosen else []
    assert extended == [Settings(weights="shake"), *anew]


def test_passes_before_calibration_must_keep_what_the_network_computes(registry: Registry) -> None:
    with pytest.raises(PassError, match="computes something else"):
        compilation(registry, f"{USE}; use condition shake")


def test_outputs_are_judged_by_the_network_before_conditioning_and_layers_by_the_one_behind(
    registry: Registry,
) -> None:
    made = compilation(registry, f"{USE}; use condition shake{{by=0.000001}}", tensor_bits=16)
    assert made.measurement is not None
    assert made.agreement is not None
    assert made.source is not None
    (frame,) = made.source.select(1).frames()
    (exact,) = session_of(made.graph, "exact", made.device).run(frame.feeds).values()
    noise = {}
    for name, graph in (("prepared", made.prepared), ("conditioned", made.reference)):
        (plain,) = session_of(graph, "float").run(frame.feeds).values()
        noise[name] = float(np.square(plain.astype(np.float64) - exact).sum())
    assert abs(noise["conditioned"] / noise["prepared"] - 1) > 0.1
    (output,) = made.measurement.outputs.values()
    (verified,) = made.agreement.outputs.values()
    assert output.noise == pytest.approx(noise["prepared"], rel=1e-4)
    assert verified.noise == pytest.approx(noise["prepared"], rel=1e-4)
    assert made.measurement.layers[-1].cumulative.noise == pytest.approx(noise["conditioned"], rel=1e-3)


def test_both_float_networks_are_in_the_output_where_conditioning_changed_one(
    registry: Registry, tmp_path: Path
) -> None:
    for by, differs in (("0.000001", True), ("0", False)):
        options = {"recipe": f"{USE}; use condition shake{{by={by}}}", "measure_frames": 1}
        made = lowtide.compile(
            MODEL, target="am68a", data=str(CALIBRATION), options=options, registry=registry
        )
        read = lowtide.load_output(made.save(tmp_path / str(differs)))
        assert (print_graph(read.conditioned) != print_graph(read.reference)) is differs
        assert print_graph(read.conditioned) == print_graph(made.conditioned)
        assert (tmp_path / str(differs) / "conditioned.onnx").exists() is differs


def test_frames_are_held_out_from_passes_when_something_is_tried_and_from_calibrators_never(
    registry: Registry,
) -> None:
    tried = compilation(registry, f"{USE}; try weights shake")
    plain = compilation(registry, USE)
    assert tried.judges is not None
    assert plain.judges is not None
    assert (tried.judges.count, plain.judges.count) == (5, 20)
    assert tried.collected is not None
    assert plain.collected is not None
    assert (tried.collected.frames, plain.collected.frames) == (20, 20)
    assert tried.ranges == plain.ranges


@pytest.mark.parametrize(("count", "held"), [(9, None), (10, 2), (100, 25), (1000, 32)])
def test_a_quarter_of_the_frames_at_most_thirty_two_is_held_out(count: int, held: int | None) -> None:
    frames = np.arange(count, dtype=np.float32).reshape(count, 1)
    source = open_data(frames, [InputSpec("x", "float32", (1, 1))])
    train, out = split(source)
    if held is None:
        assert train.count == out.count == count
        return
    assert (train.count, out.count) == (count - held, held)
    seen = [float(frame.feeds["x"][0, 0]) for part in (train, out) for frame in part.frames()]
    assert sorted(seen) == [float(index) for index in range(count)]


@pytest.mark.parametrize(("kept", "runs"), [(1 << 20, 5 + 2 * 5), (0, 2 * (5 + 5))])
def test_runs_on_held_out_frames_are_counted_those_of_the_float_network_as_often_as_they_are_made(
    monkeypatch: pytest.MonkeyPatch, registry: Registry, kept: int, runs: int
) -> None:
    made = compilation(registry, USE)
    assert made.source is not None
    monkeypatch.setattr(held_out, "KEPT", kept)
    frames = HeldOut(made.prepared, made.source.select(5))
    first, again = (frames.error(made.graph, made.device) for _ in range(2))
    assert first == again > 0
    assert frames.runs == runs


def test_too_few_frames_to_hold_some_out_are_reported_with_how_many_would_do(registry: Registry) -> None:
    made = compilation(registry, f"{USE}; try weights shake", frames=9)
    (found,) = (entry for entry in made.diagnostics if entry.code == "LT855")
    assert found.message.startswith("too few frames (9) to hold some out")
    assert "at least 10" in found.hint
    enough = compilation(registry, f"{USE}; try weights shake", frames=10)
    assert "LT855" not in {entry.code for entry in enough.diagnostics}


def test_two_compiles_try_the_same_and_end_with_the_same(registry: Registry) -> None:
    recipe = f"{USE}; try weights correct-bias; try scales widen-ranges"
    first, second = (compilation(registry, recipe) for _ in range(2))
    strip = [attrs.evolve(trial, seconds=0.0) for trial in first.trials]
    assert strip == [attrs.evolve(trial, seconds=0.0) for trial in second.trials]
    assert print_graph(first.graph) == print_graph(second.graph)


@pytest.mark.parametrize(
    ("errors", "kept"),
    [
        # dropped, weights, and kept with these
        ((0.4, 0.5, 0.2, 0.1), [False, True, True]),
        # kept at once: not twice
        ((0.4, 0.3, 0.2), [True, True]),
        # dropped, and the weights are as they were
        ((0.4, 0.5, 0.6), [False, False]),
    ],
)
def test_a_step_that_stands_there_twice_is_tried_again_where_it_was_dropped_with_other_weights(
    registry: Registry, errors: tuple[float, ...], kept: list[bool]
) -> None:
    begun = compilation(registry, USE)
    steps = [
        parse_step(f"try {text}") for text in ("scales widen-ranges", "weights shake", "scales widen-ranges")
    ]
    found = iter(errors)

    def made(start: Any, **more: str) -> Any:
        return SimpleNamespace(changed=True, settings=attrs.evolve(start.settings, **more))

    bench: Any = SimpleNamespace(
        held_out=(),
        error=lambda _: next(found),
        extend=lambda start, text: made(start, weights=text),
        rescale=lambda start, text: made(start, scales=text),
    )
    start: Any = SimpleNamespace(settings=Settings())
    _, trials = improved(begun, bench, start, steps)
    assert [trial.kept for trial in trials] == kept
    assert next(found, None) is None
