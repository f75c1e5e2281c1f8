"""``choose-ranges``, ``joint-scales`` and ``add-headroom`` in compiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import lowtide
from lowtide.calibrate import Range
from lowtide.compiler.result import CompileResult
from lowtide.compiler.run import input_specs, session_of
from lowtide.data import DataSource, open_data
from lowtide.errors import PassError
from lowtide.ir import Graph, QuantParams, Value, layers, parse_graph
from lowtide.passes import Pass, PassContext, parse_pipeline
from lowtide.plugin import PassSpec, discover
from lowtide.plugin.testing import check_pass
from lowtide.precision import PrecisionPlan
from lowtide.quantize.operands import mac_operands
from lowtide.target import scale_rule
from lowtide_plugins.scales import measured, ranges
from lowtide_plugins.scales.groups import Group
from lowtide_plugins.scales.measured import weight_curve
from lowtide_plugins.scales.ranges import ChooseRanges, Trial
from lowtide_plugins.scales.suffix import Suffix, Values
from support import CALIBRATION, MODEL, TEST

REGISTRY = discover()

SHORT = "choose-ranges{frames=4},joint-scales{frames=4}"

GATED = """
graph "gated" {
  input %x: float32[1, 2, 8, 8]
  %s: float32[1, 2, 8, 8] = Sigmoid(%x)
  %y: float32[1, 2, 8, 8] = Mul(%x, %s)
  return %y
}
"""


CONVOLVED = """
graph "convolved" {
  input %x: float32[1, 2, 8, 8]
  const %w: float32[1, 2, 1, 1] = [1.0, 1.0]
  %y: float32[1, 1, 8, 8] = Conv(%x, %w)
  return %y
}
"""


def compiled(scales: str, target: str = "tda4vm", kind: int = 0, **options: Any) -> CompileResult:
    return lowtide.compile(
        MODEL,
        target=target,
        data=str(CALIBRATION),
        registry=REGISTRY,
        options={
            "scales": scales,
            "weights": "",
            "calibrator": "minmax",
            "condition": "",
            "measure_frames": 1,
            "advanced_options:quantization_scale_type": kind,
            **options,
        },
    )


def error(result: CompileResult) -> float:
    """Noise by signal on frames that were not calibrated with, in exact execution."""
    frames = np.load(TEST)["image"][:100].astype(np.float32)
    plain = session_of(result.reference, "float")
    exact = session_of(result.graph, "exact", result.device)
    noise = signal = 0.0
    for frame in frames:
        feeds = {result.graph.inputs[0].name: frame[np.newaxis]}
        (real,), (made,) = plain.run(feeds).values(), exact.run(feeds).values()
        noise += float(np.square(real - made).sum())
        signal += float(np.square(real).sum())
    return noise / signal


def scale(value: Value) -> float:
    assert value.type.quant is not None
    return max(value.type.quant.scale)


@pytest.mark.parametrize(("kind", "bits"), [(0, 8), (1, 8), (0, 16)])
def test_scales_chosen_together_are_tied_by_shifts(kind: int, bits: int) -> None:
    result = compiled("joint-scales{frames=4}", kind=kind, tensor_bits=bits)
    (run,) = [item for item in result.report.passes if item.text.startswith("joint-scales")]
    assert run.counters["chosen"] > 0
    seen = 0
    for layer in layers(result.graph):
        operands = mac_operands(layer.nodes[0])
        if operands is None or layer.output.type.quant is None:
            continue
        shift = math.log2(scale(layer.output) / (scale(operands.activation) * scale(operands.weights)))
        assert shift == pytest.approx(round(shift), abs=1e-5)
        assert round(shift) >= 0
        seen += 1
    assert seen > 2


def test_channels_of_depthwise_weights_differ_by_shifts_too() -> None:
    wanted: dict[str, Any] = {"accuracy_level": 9, "advanced_options:channel_wise_quantization": 1}
    result = compiled("joint-scales{frames=4}", kind=1, **wanted)
    (run,) = [item for item in result.report.passes if item.text.startswith("joint-scales")]
    assert run.counters["chosen"] > 0
    seen = 0
    for layer in layers(result.graph):
        operands = mac_operands(layer.nodes[0])
        quant = operands.weights.type.quant if operands is not None else None
        if quant is not None and quant.axis is not None:
            steps = np.log2(np.array(quant.scale) / max(quant.scale))
            assert np.allclose(steps, np.rint(steps), atol=1e-5)
            seen += 1
    assert seen > 1


def test_tied_scales_with_channels_of_their_own_are_left_to_the_weights() -> None:
    wanted: dict[str, Any] = {"advanced_options:channel_wise_quantization": 1}
    result = compiled("joint-scales", kind=0, **wanted)
    (run,) = [item for item in result.report.passes if item.text == "joint-scales"]
    assert not run.counters
    assert "per channel" in run.refusals[0]


def test_tensors_of_16_bits_are_not_clipped_for_common_scales() -> None:
    before, after = (compiled(text, tensor_bits=16) for text in ("", "joint-scales"))
    for name, value in after.graph.values.items():
        if value.type.quant is not None and name in before.ranges:
            assert value.type.quant.range[1] >= before.ranges[name].max * (1 - 1e-4)


def test_scales_chosen_together_lower_the_error_on_other_frames() -> None:
    assert error(compiled("joint-scales")) < error(compiled(""))


def test_it_is_the_same_every_time() -> None:
    assert compiled(SHORT).graph == compiled(SHORT).graph


def test_rules_with_multipliers_leave_nothing_to_choose() -> None:
    result = compiled("joint-scales", target="am68a", kind=4)
    (run,) = [item for item in result.report.passes if item.text == "joint-scales"]
    assert not run.counters
    assert "more than shifts" in run.refusals[0]


def gated(
    scales: str, target: str, kind: int, rare: slice = slice(None), element: float = -100
) -> QuantParams:
    """The codes of the operand of x * sigmoid(x), whose far negative numbers become 0."""
    random = np.random.default_rng(0)
    frames = random.normal(size=(12, 2, 8, 8)).astype(np.float32) * 3
    frames[rare, 0, 0, 0] = element
    result = lowtide.compile(
        parse_graph(GATED),
        target=target,
        data=frames,
        registry=REGISTRY,
        options={
            "scales": scales,
            "weights": "",
            "calibrator": "minmax",
            "condition": "",
            "measure_frames": 1,
            "advanced_options:quantization_scale_type": kind,
        },
    )
    quant = result.graph.inputs[0].type.quant
    assert quant is not None
    return quant


@pytest.mark.parametrize(("target", "kind"), [("generic", 4), ("tda4vm", 1), ("tda4vm", 0)])
def test_what_becomes_nothing_is_clipped(target: str, kind: int) -> None:
    before, after = gated("", target, kind), gated("choose-ranges", target, kind)
    assert before.range[0] <= -99
    assert after.range[0] > -60
    assert after.scale[0] < before.scale[0]
    assert after.range[1] > 5


def test_elements_that_were_missed_can_be_kept() -> None:
    # One of twelve frames has it, and it is not the one that is run.
    rare = slice(6, 7)
    whole = gated("", "generic", 4, rare, 100)
    assert gated("choose-ranges{frames=1 unseen=0}", "generic", 4, rare, 100).range[1] < 90
    kept = gated("choose-ranges{frames=1 unseen=1000000}", "generic", 4, rare, 100)
    assert kept.range[1] == pytest.approx(whole.range[1], rel=0.01)


TWICE = """
graph "twice" {
  input %x: float32[1, 1, 16, 16]
  const %w: float32[1, 1, 1, 1] = [1.0]
  const %v: float32[1, 1, 1, 1] = [0.5]
  %a: float32[1, 1, 16, 16] = Conv(%x, %w)
  %b: float32[1, 1, 16, 16] = Conv(%a, %v)
  %s: float32[1, 1, 16, 16] = Sigmoid(%b)
  %y: float32[1, 1, 16, 16] = Conv(%s, %w)
  return %y
}
"""


def test_a_range_is_not_kept_for_what_is_cut_off_behind_it() -> None:
    # A sigmoid of more than 6 is 1 in 8 bits, so that one tensor is cut there, and with it the one in front.
    random = np.random.default_rng(3)
    frames = np.abs(random.normal(size=(8, 1, 16, 16))).astype(np.float32)
    frames[:, 0, 0, :4] = 500
    options = {"weights": "", "calibrator": "minmax", "condition": "", "measure_frames": 1}
    before, after = (
        lowtide.compile(
            parse_graph(TWICE),
            target="tda4vm",
            data=frames,
            registry=REGISTRY,
            options={**options, "scales": scales},
        )
        for scales in ("", "choose-ranges")
    )
    assert before.ranges["a"].max == pytest.approx(500)
    assert after.ranges["b"].max < 20
    assert after.ranges["a"].max < 40


@pytest.mark.parametrize("name", ["v", "limit_0", "b_0"])
def test_limits_behind_a_tensor_are_no_error_of_it(name: str) -> None:
    graph = parse_graph(TWICE.replace("%v", f"%{name}"))
    frames = np.random.default_rng(4).normal(size=(2, 1, 16, 16)).astype(np.float32)
    values = Values(graph, open_data(frames, input_specs(graph)), 2, 1 << 30)
    first, second = graph.values["a"], graph.values["b"]
    values.clips = {second: Range(0.0, 0.0)}
    assert values.behind([first]).error(lambda array: array * np.float32(0.5)) == 0
    assert values.behind([second]).error(lambda array: array * np.float32(0.5)) > 1e-3


def test_only_tensors_of_16_bits_get_headroom() -> None:
    narrow, wide = compiled("add-headroom"), compiled("")
    assert narrow.graph == wide.graph
    before, after = (compiled(text, kind=1, tensor_bits=16) for text in ("", "add-headroom{factor=4}"))
    values = [value.name for node in before.graph for value in node.outputs if value.type.quant is not None]
    assert values
    free = [name for name in values if after.ranges[name].max > 6]
    assert free
    for name in free:
        assert scale(after.graph.values[name]) == 4 * scale(before.graph.values[name])


CLIPPED = """graph "clipped" {
  input %x: float32[1, 2, 4, 4]
  const %w: float32[2, 2, 1, 1] = [1.5, -0.5, 0.25, 1.0]
  const %low: float32[] = [0.0]
  const %high: float32[] = [1.25]
  %a: float32[1, 2, 4, 4] = Conv(%x, %w) layer "b"
  %b: float32[1, 2, 4, 4] = Clip(%a, %low, %high) layer "b"
  %c: float32[1, 2, 4, 4] = Conv(%b, %w)
  %d: float32[1, 2, 4, 4] = Sigmoid(%c)
  %y: float32[1, 2, 4, 4] = Conv(%d, %w)
  return %y
}
"""


def test_headroom_ends_at_what_a_clip_or_a_sigmoid_lets_through() -> None:
    frames = np.random.default_rng(3).normal(size=(12, 2, 4, 4)).astype(np.float32) * 3
    plain, wide = (
        lowtide.compile(
            parse_graph(CLIPPED),
            target="am68a",
            data=frames,
            options={"tensor_bits": 16, "recipe": f"use calibrator minmax{text}"},
        )
        for text in ("", "; use scales add-headroom{factor=4}")
    )
    assert wide.ranges["b"].max == plain.ranges["b"].max == 1.25
    assert plain.ranges["d"].max < wide.ranges["d"].max == 1.0
    assert wide.ranges["c"].max == 4 * plain.ranges["c"].max
    assert wide.ranges["c"].min == 4 * plain.ranges["c"].min


@pytest.mark.parametrize(
    ("factor", "words"), [("0.5", "at least 1, found 0.5"), ("inf", "a finite number, found inf")]
)
def test_what_is_no_factor_of_headroom_is_refused_as_other_passes_do(factor: str, words: str) -> None:
    (item,) = parse_pipeline(f"add-headroom{{factor={factor}}}", REGISTRY)
    with pytest.raises(PassError, match=f"add-headroom, factor: expected {words}"):
        item.run(parse_graph(CLIPPED), PassContext())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("choose-ranges{frames=0}", "frames: expected at least 1, found 0"),
        ("choose-ranges{memory=-1}", "memory: expected at least 0, found -1"),
        ("choose-ranges{step=0}", "step: expected above 0 and below 1, found 0"),
        ("choose-ranges{step=1.5}", r"step: expected above 0 and below 1, found 1\.5"),
        ("choose-ranges{gain=-0.1}", r"gain: expected at least 0, found -0\.1"),
        ("choose-ranges{unseen=-1}", "unseen: expected at least 0, found -1"),
        ("joint-scales{frames=0}", "frames: expected at least 1, found 0"),
        ("joint-scales{memory=-1}", "memory: expected at least 0, found -1"),
        ("joint-scales{unseen=-1}", "unseen: expected at least 0, found -1"),
    ],
)
def test_options_out_of_range_are_named(text: str, words: str) -> None:
    with pytest.raises(PassError, match=f"{text.partition('{')[0]}, {words}"):
        compiled(text)


@pytest.mark.parametrize("name", ["choose-ranges", "joint-scales", "add-headroom"])
def test_they_belong_between_calibrating_and_solving(name: str) -> None:
    made: Pass = REGISTRY.load(PassSpec, name)()
    with pytest.raises(PassError, match=f"{name}: .*pipeline scales"):
        made.run(Graph(), PassContext())


def calibration(result: CompileResult) -> DataSource:
    return open_data(str(CALIBRATION), input_specs(result.reference))


def test_fewer_frames_are_kept_where_memory_is_short() -> None:
    result = compiled("")
    assert len(Values(result.reference, calibration(result), 5, 1 << 30).frames) == 5
    assert len(Values(result.reference, calibration(result), 5, 1).frames) == 1


def test_a_few_frames_may_take_more_than_their_memory() -> None:
    result = compiled("")
    values = Values(result.reference, calibration(result), 1, 1 << 30)
    size = sum(array.nbytes for array in values.frames[0].values())
    assert [
        len(Values(result.reference, calibration(result), 16, room).frames)
        for room in (8 * size, 2 * size, size, size // 2, size // 4)
    ] == [8, 4, 4, 2, 1]


def test_a_part_of_the_network_gives_what_the_whole_gives() -> None:
    result = compiled("")
    values = Values(result.reference, calibration(result), 4, 1 << 30)
    middle = [value for layer in layers(result.reference) for value in layer.outputs][2]
    suffix = values.behind([middle])
    assert suffix.error(lambda array: array) == pytest.approx(0, abs=1e-12)
    assert suffix.error(lambda array: array * np.float32(0.5)) > 1e-3
    assert suffix.error(lambda array: array * np.float32(0.5), [0]) > 1e-3


def test_weights_cost_the_same_seen_before_and_behind_their_activation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = compiled("")
    values = Values(result.reference, calibration(result), 2, 1 << 30)
    layer = next(layer for layer in layers(result.reference) if len(layer.nodes) == 2)
    operands = mac_operands(layer.nodes[0])
    assert operands is not None
    choices = {scale: QuantParams("int8", scale) for scale in (0.125, 0.03125)}
    behind = weight_curve(values, layer, operands, choices)
    monkeypatch.setattr(measured, "_rest", lambda _: None)
    before = weight_curve(values, layer, operands, choices)
    assert behind is not None
    assert before is not None
    np.testing.assert_allclose(behind.points, before.points, rtol=1e-3)


@pytest.fixture(scope="module")
def demo() -> CompileResult:
    return compiled("")


def chosen(
    name: str, demo: CompileResult, bits: Mapping[str, int], known: dict[object, object]
) -> tuple[object, float]:
    """Ranges and weight scales that a pass chooses, and the runs of the network that it tells of."""
    wide = {layer.name for layer in layers(demo.reference) if bits.get(layer.output.name) == 16}
    context = PassContext(
        target=demo.target,
        rule=scale_rule(demo.target, 1),
        placement=demo.placement,
        plan=PrecisionPlan(bits, {layer: 16 if layer in wide else 8 for layer in demo.plan.weights}),
        ranges=dict(demo.ranges),
        weight_scales={},
        frames=calibration(demo),
        known=known,
    )
    outcome = REGISTRY.load(PassSpec, name)(frames=4).run(demo.reference.clone(), context)
    return (context.ranges, context.weight_scales), outcome.runs


@pytest.mark.parametrize("name", ["choose-ranges", "joint-scales"])
def test_what_is_known_of_other_plans_saves_runs_and_leads_to_the_same(
    name: str, demo: CompileResult
) -> None:
    narrow = dict.fromkeys(demo.plan.activations, 8)
    plans = [{**narrow, **dict.fromkeys(list(narrow)[at::3], 16)} for at in range(3)]
    known: dict[object, object] = {}
    first, cost = chosen(name, demo, narrow, known)
    assert chosen(name, demo, narrow, known) == (first, 0)
    others: list[object] = []
    for plan in plans:
        found, less = chosen(name, demo, plan, known)
        alone, more = chosen(name, demo, plan, {})
        assert found == alone
        assert less < more
        others.append(found)
    assert any(found != first for found in others)
    assert cost > 4


def test_ranges_under_a_plan_start_at_those_of_8_bits_everywhere_and_at_those_of_no_other_plan(
    demo: CompileResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[object] = []
    search = ChooseRanges._search

    def counted(self: ChooseRanges, before: Range, group: Group, cost: Any, *, power: bool) -> Range:
        searched.append(group.key)
        return search(self, before, group, cost, power=power)

    monkeypatch.setattr(ChooseRanges, "_search", counted)
    narrow = dict.fromkeys(demo.plan.activations, 8)
    one, other = ({**narrow, **dict.fromkeys(list(narrow)[at::3], 16)} for at in range(2))
    known: dict[object, object] = {}
    chosen("choose-ranges", demo, narrow, known)
    groups = set(searched)
    searched.clear()
    chosen("choose-ranges", demo, one, known)
    assert groups
    assert groups.isdisjoint(searched)
    known = {}
    chosen("choose-ranges", demo, one, known)
    searched.clear()
    chosen("choose-ranges", demo, other, known)
    assert not groups.isdisjoint(searched)


def test_a_part_of_the_network_counts_by_its_share(demo: CompileResult) -> None:
    found = layers(demo.reference)
    shares = {layer.name: number / 100 for number, layer in enumerate(found)}
    values = Values(demo.reference, calibration(demo), 3, 1 << 30, shares)
    assert values.runs == 0
    assert len(values.frames) == 3
    assert values.runs == 4  # one more shows how many frames fit into the memory
    for at in (2, len(found) - 1):
        before = values.runs
        values.behind([found[at].output]).error(lambda array: array, [0, 1])
        assert values.runs - before == pytest.approx(2 * sum(shares[layer.name] for layer in found[at + 1 :]))


@pytest.mark.parametrize("name", ["choose-ranges", "joint-scales", "add-headroom"])
def test_the_contract_of_passes_is_kept(name: str) -> None:
    result = compiled("")
    target = result.target
    context = PassContext(
        target=target,
        rule=scale_rule(target, 0),
        placement=result.placement,
        plan=result.plan,
        ranges=dict(result.ranges),
        weight_scales={},
        frames=calibration(result),
    )
    check_pass(REGISTRY.load(PassSpec, name), result.reference, ctx=context)


def test_nothing_runs_behind_a_tensor_in_which_clipping_adds_far_more_noise_than_finer_codes_save(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def looked_at() -> list[str]:
        found: list[str] = []
        behind = Values.behind

        def noted(self: Values, changed: Sequence[Value]) -> Suffix:
            found.extend(value.name for value in changed)
            return behind(self, changed)

        with monkeypatch.context() as patch:
            patch.setattr(Values, "behind", noted)
            compiled("choose-ranges{frames=4}")
        return found

    some = looked_at()
    monkeypatch.setattr(ranges, "HOPELESS", math.inf)
    every = looked_at()
    assert set(some) < set(every)


def test_no_clipping_is_hopeless_where_a_function_may_hide_it() -> None:
    """Every element is cut off by far; in front of a product that counts, in front of Sigmoid it may not."""
    made = {"Conv": CONVOLVED, "Sigmoid": GATED}
    found: dict[str, bool] = {}
    for op, text in made.items():
        graph = parse_graph(text)
        value = graph.inputs[0]
        group = Group((value,), (value,), 8, asymmetric=False)
        frames = open_data(np.full((1, 1, 2, 8, 8), 10.0, np.float32), input_specs(graph))
        request: Any = SimpleNamespace(
            rule=SimpleNamespace(activation_scale="power-of-two", activation_dtype=None)
        )
        trial = Trial(Values(graph, frames, 1, 1 << 20), group, Range(0.0, 16.0), request, 0.0)
        assert not trial.hopeless(Range(0.0, 16.0))
        found[op] = trial.hopeless(Range(0.0, 1.0))
    assert found == {"Conv": True, "Sigmoid": False}
