"""Executable orders and reachability of nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lowtide.errors import GraphError
from lowtide.ir.node import Node, Value


def executable_order(nodes: Sequence[Node]) -> list[Node]:
    """The nodes after those whose results they read, in the given order where it is free.

    Raises:
        GraphError: when there is a cycle, naming a node on it.
    """
    done: dict[Node, None] = {}
    for root in nodes:
        # Depth first without recursion, since networks are deeper than Python's stack. A node stands on the
        # stack a second time, as ready, below all that it waits for.
        stack: list[tuple[Node, bool]] = [(root, False)]
        waiting: set[Node] = set()
        while stack:
            node, ready = stack.pop()
            if ready:
                waiting.discard(node)
                done[node] = None
                continue
            if node in done:
                continue
            if node in waiting:
                raise GraphError("the node depends on its own result", place=node.place)
            waiting.add(node)
            stack.append((node, True))
            stack.extend((maker, False) for maker in reversed(makers(node)) if maker not in done)
    return list(done)


def makers(node: Node) -> tuple[Node, ...]:
    """The distinct nodes whose results a node reads, in the order of its operands."""
    found = (value.producer for value in node.inputs if value is not None)
    return tuple(dict.fromkeys(maker for maker in found if maker is not None))


def reaching(outputs: Iterable[Value]) -> set[Node]:
    """The nodes that the outputs depend on."""
    stack = [value.producer for value in outputs if value.producer is not None]
    live: set[Node] = set()
    while stack:
        node = stack.pop()
        if node not in live:
            live.add(node)
            stack.extend(makers(node))
    return live
