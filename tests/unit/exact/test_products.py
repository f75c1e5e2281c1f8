"""Random layers and networks beside the oracle."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from lowtide.ir import Graph
from unit.exact.random_layers import difference, layers, networks


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(layers())
def test_a_layer_gives_what_integers_of_any_size_give(case: tuple[Graph, str, int]) -> None:
    assert difference(*case) == ""


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks())
def test_a_network_gives_what_integers_of_any_size_give(case: tuple[Graph, str, int]) -> None:
    assert difference(*case) == ""
