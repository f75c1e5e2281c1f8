from __future__ import annotations

from functools import cache

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_nets.net import Net
from lowtide.errors import PluginError, TargetError, UnknownNameError, UnsupportedByTargetError
from lowtide.ir import Graph
from lowtide.latency import (
    LatencyProblem,
    LatencyTable,
    LayerCost,
    LayerWork,
    ModelCosts,
    estimate,
    latency_model,
    plan_of_codes,
    uniform_plan,
)
from lowtide.plugin.testing import check_latency_model
from lowtide.precision import PrecisionPlan
from lowtide.target import LatencyData, load_target
from lowtide_plugins.latency.roofline import Roofline
from unit.latency.placed import ROUND, installed, mixed, problem

DEVICES = ("tda4vm", "am62a", "am67a", "am68a", "am69a")


@cache
def whole(device: str) -> LatencyProblem:
    return problem(mixed(), device)


def table(graph: Graph, model: Roofline = ROUND, bits: int = 8) -> LatencyTable:
    found = problem(graph)
    return model.layer_costs(found, uniform_plan(graph, found.target, found.placement, bits))


def cost(graph: Graph, model: Roofline = ROUND, bits: int = 8) -> LayerCost:
    return table(graph, model, bits).layers[-1]


# --- the contract ---


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("denied", [(), ("Sigmoid", "Concat")])
def test_the_model_of_every_device_keeps_the_contract(device: str, denied: tuple[str, ...]) -> None:
    found = problem(mixed(), device, deny_list_layer_type=denied)
    check_latency_model(latency_model(found.target, installed()), found)


@settings(max_examples=40)
@given(st.data())
def test_a_plan_with_wider_tensors_never_takes_less_time(data: st.DataObject) -> None:
    found = whole(data.draw(st.sampled_from(DEVICES)))
    model = latency_model(found.target, installed())
    low = uniform_plan(found.graph, found.target, found.placement, 8)
    width = st.sampled_from([8, 16])
    plan = PrecisionPlan(
        {name: data.draw(width) for name in low.activations}, {name: data.draw(width) for name in low.weights}
    )
    name = data.draw(st.sampled_from(sorted(low.activations)))
    wider = PrecisionPlan({**plan.activations, name: 16}, plan.weights)
    before, after = model.layer_costs(found, plan), model.layer_costs(found, wider)
    assert after.total_ms >= before.total_ms
    touched = {
        work.name for work in found.works.values() if name in {t.name for t in (*work.inputs, *work.outputs)}
    }
    for one, other in zip(before.layers, after.layers, strict=True):
        assert one == other or one.layer in touched


@attrs.frozen(kw_only=True)
class Wrong(Roofline):
    """Breaks one rule."""

    what: str = ""

    def layer_ms(self, layer: LayerWork, in_bits: object, out_bits: int, weight_bits: int) -> LayerCost:
        del in_bits
        if self.what == "failing":
            raise ZeroDivisionError("by 0")
        if self.what == "none":
            return None  # type: ignore[return-value]  # what it is checked for
        ms = {"negative": -1.0, "endless": float("inf"), "cheaper": 1.0 / out_bits}.get(self.what, 1.0)
        name = "another" if self.what == "name" else layer.name
        return LayerCost(layer=name, ms=ms, bound="compute", macs=weight_bits, bytes=0)

    def layer_costs(self, problem: LatencyProblem, plan: PrecisionPlan) -> LatencyTable:
        found = super().layer_costs(problem, plan)
        if self.what == "sum":
            return attrs.evolve(found, total_ms=found.total_ms + 1)
        return attrs.evolve(found, layers=found.layers[1:]) if self.what == "missing" else found


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("negative", "expected a finite time of at least 0 ms, found -1.0"),
        ("endless", "a finite time of at least 0 ms, found inf"),
        ("cheaper", "is faster with input, output and parameters of"),
        ("name", "is said to be that of another"),
        ("failing", "latency model roofline, layer .*: failed with ZeroDivisionError: by 0"),
        ("none", "should return a LayerCost, found None"),
        ("sum", "is not the sum of the layers"),
        ("missing", "every layer once, in executable order"),
    ],
)
def test_a_model_that_breaks_its_contract_is_found(what: str, message: str) -> None:
    wrong = Wrong(**{**attrs.asdict(ROUND), "what": what})
    with pytest.raises(PluginError, match=message):
        check_latency_model(wrong, whole("am68a"))


@pytest.mark.parametrize("what", ["negative", "endless", "name", "failing", "none"])
def test_a_wrong_cost_goes_into_no_sum(what: str) -> None:
    wrong = Wrong(**{**attrs.asdict(ROUND), "what": what})
    found = whole("am68a")
    plan = uniform_plan(found.graph, found.target, found.placement, 8)
    with pytest.raises(PluginError, match="latency model roofline, layer "):
        wrong.layer_costs(found, plan)
    with pytest.raises(PluginError, match="latency model roofline, layer "):
        ModelCosts(wrong, found).ms(plan)


# --- what bounds a layer ---


def test_a_large_convolution_takes_its_products_at_the_rate_of_the_array() -> None:
    net = Net("n", 32, 256)
    net.done(net.conv(net.input, 256, 3))
    found = cost(net.graph)
    assert found.bound == "compute"
    assert found.ms == pytest.approx(256 * 256 * 9 * 32 * 32 / 4096 * 1e-6)
    assert cost(net.graph, bits=16).ms == pytest.approx(4 * found.ms)
    assert cost(net.graph, attrs.evolve(ROUND, efficiency=0.5)).ms == pytest.approx(2 * found.ms)


def test_a_group_that_does_not_fill_the_array_takes_as_long_as_one_that_does() -> None:
    narrow, wide = Net("n", 32, 64), Net("w", 32, 64)
    narrow.done(narrow.conv(narrow.input, 16, 3))
    wide.done(wide.conv(wide.input, 64, 3))
    assert cost(narrow.graph).ms == pytest.approx(cost(wide.graph).ms)


def test_a_matrix_with_one_column_waits_for_its_weights() -> None:
    net = Net("n", 1, 2048)
    net.done(net.linear(net.flat(net.input), 1000))
    found = cost(net.graph)
    assert found.bound == "ddr"
    assert found.ms == pytest.approx((2048 * 1000 + 1000) / 10 * 1e-6)


def test_depthwise_products_run_on_the_vector_unit() -> None:
    net = Net("n", 32, 64)
    net.done(net.depthwise(net.input))
    found = cost(net.graph)
    assert found.bound == "vector"
    elements = 64 * 32 * 32
    assert found.ms == pytest.approx((elements * 9 / 64 + elements / 32) * 1e-6)


def test_a_tensor_that_does_not_fit_crosses_the_memory_outside() -> None:
    net = Net("n", 256, 24)
    net.done(net.pool(net.input, 1, 1))
    elements = 24 * 256 * 256
    outside = attrs.evolve(ROUND, vector_rate=1e6)
    assert cost(net.graph, outside).bound == "ddr"
    assert cost(net.graph, outside).ms == pytest.approx(2 * elements / 10 * 1e-6)
    tiled = attrs.evolve(outside, spill=0.5)
    assert cost(net.graph, tiled).ms == pytest.approx(elements / 10 * 1e-6)
    kept = attrs.evolve(outside, on_chip_kb=2048.0)
    assert cost(net.graph, kept).bound == "on-chip"
    assert cost(net.graph, kept).ms == pytest.approx(2 * elements / 64 * 1e-6)


def test_a_small_layer_waits_for_its_start_and_a_view_takes_no_time() -> None:
    net = Net("n", 1, 8)
    net.done(net.linear(net.flat(net.input), 8))
    view, small = table(net.graph, attrs.evolve(ROUND, layer_us=20.0)).layers
    assert view.ms == 0
    assert small.bound == "overhead"
    assert small.ms == pytest.approx(0.02, rel=0.01)


def test_indices_and_float_numbers_do_not_make_a_layer_slower_than_its_codes() -> None:
    net = Net("n", 32, 64)
    net.done(net.argmax(net.input))
    assert cost(net.graph).ms == pytest.approx(64 * 32 * 32 / 32 * 1e-6)


def test_a_layer_on_the_host_takes_the_same_time_at_every_width_and_its_border_costs_float_traffic() -> None:
    net = Net("n", 32, 64)
    net.done(net.conv(net.sigmoid(net.conv(net.input, 64, act=False)), 64, act=False))
    narrow = attrs.evolve(ROUND, ddr_gbps=0.1)
    inside, split = problem(net.graph), problem(net.graph, deny_list_layer_type=("Sigmoid",))
    plans = [uniform_plan(p.graph, p.target, p.placement, 8) for p in (inside, split)]
    first, host, last = narrow.layer_costs(split, plans[1]).layers
    assert host.bound == "host"
    assert host.ms == pytest.approx(64 * 32 * 32 * 1e-6)
    before, _, after = narrow.layer_costs(inside, plans[0]).layers
    float_and_codes = 64 * 32 * 32 * 5 / 0.1 * 1e-6
    assert first.ms == pytest.approx(before.ms + float_and_codes)
    assert last.ms == pytest.approx(after.ms + float_and_codes)


def test_a_part_of_the_network_on_the_accelerator_has_a_start_of_its_own() -> None:
    net = Net("n", 8, 8)
    net.done(net.conv(net.sigmoid(net.conv(net.input, 8)), 8))
    model = attrs.evolve(ROUND, call_us=50.0)
    found = problem(net.graph, deny_list_layer_type=("Sigmoid",))
    costs = model.layer_costs(found, uniform_plan(found.graph, found.target, found.placement, 8))
    assert costs.call_ms == pytest.approx(0.1)
    assert costs.total_ms == pytest.approx(0.1 + sum(one.ms for one in costs.layers))


def test_what_lies_outside_of_the_fit_is_said() -> None:
    found = problem(mixed(), deny_list_layer_type=("Concat",))
    narrow, wide = (
        ROUND.layer_costs(found, uniform_plan(found.graph, found.target, found.placement, bits))
        for bits in (8, 16)
    )
    said = {one.extrapolated for one in narrow.layers}
    assert said == {"", "functions", "layers on the host"}
    assert "codes of more than 8 bits" in {one.extrapolated for one in wide.layers}


# --- plans ---


def test_widths_come_from_codes_where_a_graph_has_them() -> None:
    found = whole("am68a")
    assert plan_of_codes(found.graph, found.target, found.placement) == uniform_plan(
        found.graph, found.target, found.placement, 8
    )


def test_an_estimate_has_the_stated_error_of_its_device() -> None:
    found = whole("am62a")
    plan = uniform_plan(found.graph, found.target, found.placement, 8)
    made = estimate(found.graph, found.target, found.placement, plan, installed())
    assert found.target.latency is not None
    assert made.stated_error == found.target.latency.stated_error
    assert made == latency_model(found.target, installed()).layer_costs(found, plan)


# --- errors ---


def with_options(model: str = "roofline", **options: float | str) -> LatencyData:
    good = {name: value for name, value in attrs.asdict(ROUND).items() if isinstance(value, int | float)}
    return LatencyData(model=model, options={**good, **options})


def test_a_device_without_model_says_so_and_what_to_do() -> None:
    with pytest.raises(UnsupportedByTargetError, match="has no latency model") as caught:
        latency_model(load_target("generic", installed()), installed())
    assert "[latency]" in caught.value.hint


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (with_options("rooflin"), UnknownNameError, "did you mean roofline"),
        (with_options(arrays=3), TargetError, r"latency.options.arrays: .*did you mean array"),
        (with_options(array=1.5), TargetError, "latency.options.array: expected int, found 1.5"),
        (
            with_options(ddr_gbps="fast"),
            TargetError,
            "latency.options.ddr_gbps: expected float, found 'fast'",
        ),
        (with_options(ddr_gbps=0.0), TargetError, "ddr_gbps should be above 0, found 0.0"),
        (with_options(layer_us=float("nan")), TargetError, "layer_us should not be negative, found nan"),
        (LatencyData(model="roofline"), TargetError, "latency.options.array: roofline needs this option"),
    ],
)
def test_an_impossible_description_is_an_error_that_names_the_key(
    data: LatencyData, error: type[Exception], message: str
) -> None:
    target = attrs.evolve(load_target("am68a", installed()), latency=data)
    with pytest.raises(error, match=message):
        latency_model(target, installed())


def test_whole_numbers_serve_where_fractions_are_asked_for() -> None:
    target = attrs.evolve(load_target("am68a", installed()), latency=with_options(ddr_gbps=10))
    assert latency_model(target, installed()) == ROUND
