"""Groups of layers that an accelerator takes as one piece: connected, and never left and entered again."""

from __future__ import annotations

from collections.abc import Sequence


def partition(edges: Sequence[Sequence[int]], chosen: Sequence[bool]) -> tuple[tuple[int, ...], ...]:
    """Divide the chosen vertices of a DAG into as few groups as merging neighbours allows.

    Args:
        edges: for every vertex, in topological order, the vertices before it that it reads.
        chosen: which vertices belong into groups.

    Returns:
        Groups of vertex numbers in order of their first vertex. Each is connected by edges, and contracting
        every group to one vertex leaves a DAG, so no path leaves a group and comes back.
    """
    labels = _components(edges, chosen, _levels(edges, chosen))
    merged = True
    while merged:
        merged = _merge_one(edges, chosen, labels)
    groups: dict[int, list[int]] = {}
    for vertex, label in enumerate(labels):
        if chosen[vertex]:
            groups.setdefault(label, []).append(vertex)
    return tuple(tuple(group) for group in groups.values())


def _levels(edges: Sequence[Sequence[int]], chosen: Sequence[bool]) -> list[int]:
    """The most changes of side on a path to each vertex; no path within one level visits the other side."""
    levels: list[int] = []
    for vertex, sources in enumerate(edges):
        reached = [levels[source] + (chosen[source] != chosen[vertex]) for source in sources]
        levels.append(max(reached, default=0))
    return levels


def _components(edges: Sequence[Sequence[int]], chosen: Sequence[bool], levels: list[int]) -> list[int]:
    """A label for every vertex: chosen neighbours of one level share it, every other vertex has its own."""
    parent = list(range(len(edges)))

    def find(vertex: int) -> int:
        while parent[vertex] != vertex:
            parent[vertex] = parent[parent[vertex]]
            vertex = parent[vertex]
        return vertex

    for vertex, sources in enumerate(edges):
        for source in sources:
            if chosen[vertex] and chosen[source] and levels[vertex] == levels[source]:
                one, other = sorted((find(vertex), find(source)))
                parent[other] = one
    return [find(vertex) for vertex in range(len(edges))]


def _merge_one(edges: Sequence[Sequence[int]], chosen: Sequence[bool], labels: list[int]) -> bool:
    """Merge the first two neighbouring groups between which no detour leads, if there are any."""
    after: dict[int, dict[int, None]] = {label: {} for label in labels}
    pairs: dict[tuple[int, int], None] = {}
    for vertex, sources in enumerate(edges):
        for source in sources:
            one, other = labels[source], labels[vertex]
            if one != other:
                after[one][other] = None
                if chosen[source] and chosen[vertex]:
                    pairs[one, other] = None
    for one, other in pairs:
        if not _detour(after, one, other):
            kept, gone = min(one, other), max(one, other)
            labels[:] = [kept if label == gone else label for label in labels]
            return True
    return False


def _detour(after: dict[int, dict[int, None]], start: int, goal: int) -> bool:
    """Whether a path of two or more steps leads from `start` to `goal`."""
    stack = [label for label in after[start] if label != goal]
    seen = set(stack)
    while stack:
        for label in after[stack.pop()]:
            if label == goal:
                return True
            if label not in seen:
                seen.add(label)
                stack.append(label)
    return False
