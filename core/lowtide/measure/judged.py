"""Where the error of a network is judged when two ways to quantize it are compared."""

from __future__ import annotations

from lowtide.ir import Graph, Value

SOFTMAX = frozenset({"Softmax", "LogSoftmax"})
MOVES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""They only move numbers."""


def judged(graph: Graph) -> Graph:
    """A copy of a network without the Softmax in front of its outputs, so that it ends with logits.

    Noise by signal of probabilities says little: the frames whose class is uncertain make nearly all of the
    noise, so a few of them decide, and where a class is certain every error is hidden. Logits count every
    frame. Networks that share layers in front of two such outputs have one output less.
    """
    made = graph.clone()
    made.set_outputs(judged_values(made))
    made.prune()
    return made


def judged_values(graph: Graph) -> tuple[Value, ...]:
    """The outputs of `judged`, in the network itself."""
    return tuple(dict.fromkeys(_logits(value) for value in graph.outputs))


def _logits(output: Value) -> Value:
    """What the Softmax in front of an output reads; the output itself where there is none."""
    value = output
    while value.producer is not None and value.producer.op in MOVES:
        value = value.producer.value(0)
    maker = value.producer
    found = maker.value(0) if maker is not None and maker.op in SOFTMAX else output
    return output if found.producer is None else found
