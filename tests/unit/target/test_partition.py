from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lowtide.target.partition import partition

Dag = tuple[list[list[int]], list[bool]]


@st.composite
def dags(draw: st.DrawFn) -> Dag:
    count = draw(st.integers(0, 12))
    edges = [
        draw(st.lists(st.integers(0, v - 1), max_size=3, unique=True)) if v else [] for v in range(count)
    ]
    chosen = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return edges, chosen


def is_acyclic(edges: list[list[int]], labels: list[int]) -> bool:
    """Whether contracting vertices of one label leaves a DAG, as the standard library's sorter sees it."""
    contracted: dict[int, set[int]] = {label: set() for label in labels}
    for vertex, sources in enumerate(edges):
        contracted[labels[vertex]] |= {labels[source] for source in sources} - {labels[vertex]}
    try:
        TopologicalSorter(contracted).prepare()
    except CycleError:
        return False
    return True


def labelled(edges: list[list[int]], groups: tuple[tuple[int, ...], ...]) -> list[int]:
    labels = list(range(len(edges)))
    for group in groups:
        for vertex in group:
            labels[vertex] = group[0]
    return labels


@given(dags())
def test_the_groups_hold_every_chosen_vertex_once_and_no_other(dag: Dag) -> None:
    edges, chosen = dag
    found = [vertex for group in partition(edges, chosen) for vertex in group]
    assert sorted(found) == [vertex for vertex, taken in enumerate(chosen) if taken]


@given(dags())
def test_no_path_leaves_a_group_and_comes_back(dag: Dag) -> None:
    edges, chosen = dag
    assert is_acyclic(edges, labelled(edges, partition(edges, chosen)))


@given(dags())
def test_every_group_is_connected(dag: Dag) -> None:
    edges, chosen = dag
    for group in partition(edges, chosen):
        reached, before = {group[0]}, 0
        while len(reached) > before:
            before = len(reached)
            for vertex in group:
                near = {vertex, *edges[vertex]} & set(group)
                if near & reached:
                    reached |= near
        assert reached == set(group)


@given(dags())
def test_no_two_groups_that_touch_could_be_one(dag: Dag) -> None:
    edges, chosen = dag
    labels = labelled(edges, partition(edges, chosen))
    for vertex, sources in enumerate(edges):
        for source in sources:
            if chosen[vertex] and chosen[source] and labels[vertex] != labels[source]:
                merged = [labels[source] if label == labels[vertex] else label for label in labels]
                assert not is_acyclic(edges, merged)


@given(dags())
def test_groups_come_in_order_of_their_first_vertex(dag: Dag) -> None:
    groups = partition(*dag)
    assert all(one[0] < other[0] for one, other in pairwise(groups))
    assert all(list(group) == sorted(group) for group in groups)


def test_a_host_layer_in_a_side_branch_does_not_cut_the_main_path() -> None:
    # 0 → 1 → 3 and a host layer 2 that feeds 3: one group, since no path leaves it and returns.
    assert partition([[], [0], [], [1, 2]], [True, True, False, True]) == ((0, 1, 3),)


def test_a_host_layer_on_a_side_path_cuts() -> None:
    assert partition([[], [0], [0], [1, 2]], [True, True, False, True]) == ((0, 1), (3,))
