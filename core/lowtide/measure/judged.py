"""Where the error of a network is judged when two ways to quantize it are compared."""

from __future__ import annotations

from lowtide.ir import Graph, Value

SOFTMAX = frozenset({"Softmax", "LogSoftmax"})

MOVES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""They only move numbers."""


def judged(graph: Graph) -> Graph:
    """A copy of a network that ends with logits, and with the parts of a Concat.

    Noise by signal of probabilities says little: the frames whose class is uncertain make nearly all of the
    noise, so a few of them decide, and where a class is certain every error is hidden. Logits count every
    frame, so they stand for a Softmax. A Sigmoid is mostly near 0 in a detector: its logits are those of the
    background, its probabilities those of what was found, and both count. Where a Concat joins boxes with
    scores, the boxes have nearly all of the energy, so that nothing would be seen of the scores. Indices say
    nothing until they jump, and results whose shape depends on data have no elements to compare: the float
    tensors of known shape that they are computed from stand for both. What several outputs come from counts
    once.
    """
    made = graph.clone()
    made.set_outputs(judged_values(made))
    made.prune()
    return made


def judged_values(graph: Graph) -> tuple[Value, ...]:
    """The outputs of `judged`, in the network itself."""
    numbers = dict.fromkeys(number for value in graph.outputs for number in _numbers(value))
    found = tuple(dict.fromkeys(part for number in numbers for part in _comparable_parts(number)))
    return found or tuple(graph.outputs)


def is_comparable(value: Value) -> bool:
    """Whether two runs can be compared element by element: float numbers, as many in every run."""
    return value.type.dtype.is_float and value.type.is_static


def _numbers(value: Value) -> tuple[Value, ...]:
    """A value that can be compared, or the nearest such tensors that layers compute it from."""
    if is_comparable(value):
        return (value,)
    found: list[Value] = []
    todo, seen = [value], {value}
    while todo:
        maker = todo.pop().producer
        read = dict.fromkeys(maker.inputs if maker is not None else ())
        made = [source for source in read if source is not None and source.producer is not None]
        new = [source for source in made if source not in seen]
        seen.update(new)
        found += [source for source in new if is_comparable(source)]
        todo += reversed([source for source in new if not is_comparable(source)])
    return tuple(found)


def _comparable_parts(value: Value) -> tuple[Value, ...]:
    found = _parts(value)
    return found if all(map(is_comparable, found)) else (value,)


def _parts(value: Value) -> tuple[Value, ...]:
    """What is judged instead of a value; the value itself where it is neither a probability nor joined."""
    moved = value
    while moved.producer is not None and moved.producer.op in MOVES:
        moved = moved.producer.value(0)
    maker = moved.producer
    if maker is None:
        return (value,)
    if maker.op in SOFTMAX or maker.op == "Sigmoid":
        logits = maker.value(0)
        found = (logits,) if maker.op in SOFTMAX else (logits, moved)
        return (value,) if logits.producer is None else found
    if maker.op == "Concat":
        read = [part for part in maker.inputs if part is not None]
        if all(part.producer is not None for part in read):
            return tuple(found for part in read for found in _parts(part))
    return (value,)
