"""Scales that shifts tie: what is chosen is legal, and never predicted to be worse than the start."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowtide_plugins.scales.plan import Curve, Mac, Plan


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    """A valley: fine scales clip, coarse ones round."""
    bottom, floor = draw(st.floats(-12, 2)), draw(st.floats(-20, 0))
    clipping = draw(st.floats(0.5, 12))
    places = [bottom - 1, bottom - 0.5, bottom, bottom + 1]
    errors = [floor + clipping, floor + clipping / 2, floor, floor + 2]
    return Curve(tuple(zip(places, errors, strict=True)))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A chain with a shortcut, as in a residual network."""
    count = draw(st.integers(2, 5))
    names = [f"t{number}" for number in range(count)]
    tied = draw(st.booleans())
    octave = 8 if tied else 1
    known = {name: draw(curves()) for name in names}
    edges = [*itertools.pairwise(names), (names[0], names[-1])][: draw(st.integers(1, count))]
    macs = tuple(
        Mac(f"l{number}", *edge, draw(curves()), draw(st.one_of(st.just(-math.inf), st.floats(-20, -10))))
        for number, edge in enumerate(edges)
    )
    chosen = {name: math.ceil(octave * known[name].points[2][0]) for name in names}
    return Plan(octave, chosen, known, macs, tied)


@settings(max_examples=20)
@given(plans())
def test_scales_of_layers_differ_by_whole_right_shifts(plan: Plan) -> None:
    plan.descend()
    for mac in plan.macs:
        step, cost = plan.weight_step(mac)
        if cost == math.inf:
            continue
        shift = plan.chosen[mac.made] - plan.chosen[mac.source] - step
        assert shift >= 0
        assert not plan.tied or shift == plan.per_octave * plan.shift(mac)
        assert (plan.chosen[mac.source] + step) / plan.per_octave >= mac.least_accumulator - 1e-9


@settings(max_examples=20)
@given(plans())
def test_the_predicted_error_never_rises_and_is_the_same_every_time(plan: Plan) -> None:
    before, start = plan.total(), dict(plan.chosen)
    plan.descend()
    assert plan.total() <= before
    again = Plan(plan.per_octave, start, plan.curves, plan.macs, plan.tied)
    again.descend()
    assert again.chosen == plan.chosen


def test_the_best_scales_of_one_layer_are_found() -> None:
    valley = Curve(((-2.0, 1.0), (-1.0, -6.0), (0.0, -4.0)))
    plan = Plan(8, {"x": 0, "y": 0}, {"x": valley, "y": valley}, (Mac("l", "x", "y", valley),), tied=True)
    plan.descend()
    totals = []
    for x, y in itertools.product(range(-16, 9), repeat=2):
        other = Plan(8, {"x": x, "y": y}, plan.curves, plan.macs, tied=True)
        totals.append(other.total())
    assert plan.total() == pytest.approx(min(totals), rel=0.05)


def test_a_bias_that_does_not_fit_makes_the_accumulator_coarser() -> None:
    flat = Curve(((-8.0, -20.0), (-7.0, -18.0)))
    free = Plan(8, {"x": -40, "y": 0}, {"x": flat, "y": flat}, (Mac("l", "x", "y", flat),), tied=True)
    bound = attrs_evolved(free, least=-10.0)
    assert free.weight_step(free.macs[0])[0] == -64
    assert bound.weight_step(bound.macs[0])[0] == -40
    impossible = attrs_evolved(free, least=1.0)
    assert impossible.weight_step(impossible.macs[0])[1] == math.inf


def attrs_evolved(plan: Plan, least: float) -> Plan:
    macs = tuple(Mac(mac.layer, mac.source, mac.made, mac.curve, least) for mac in plan.macs)
    return Plan(plan.per_octave, dict(plan.chosen), plan.curves, macs, plan.tied)


def test_a_curve_goes_through_what_was_measured_and_rises_to_both_sides() -> None:
    curve = Curve.through({1.0: 4e-4, 0.5: 1e-4, 0.25: 1e-2})
    assert curve.at(0) == pytest.approx(4e-4)
    assert curve.at(-1) == pytest.approx(1e-4)
    assert 1e-4 < curve.at(-0.5) < 4e-4
    assert curve.at(1) == pytest.approx(1.6e-3)
    assert curve.at(-3) == pytest.approx(1.0)


def test_a_curve_without_finer_scales_makes_clipping_no_choice() -> None:
    curve = Curve(((-4.0, -10.0),)).without_finer()
    assert curve.at(-4.0) == 2.0**-10
    assert curve.at(-4.5) > 2.0**9
    assert curve.at(-3.0) == 2.0**-8
