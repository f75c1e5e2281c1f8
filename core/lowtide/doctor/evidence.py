"""What a network tells about the frames that it expects.

Two kinds of evidence, each a figure for frames that were prepared one way or another:

- the distance between what batch normalization finds in front of it and the mean and variance that it stored
  in training (Bhattacharyya distance of two normal distributions, mean over channels): lower is better;
- how well class scores tell frames apart while being sure of each (the inception score: the exponential of
  the mutual information between frame and class, 1 to the number of frames): higher is better.

Whether one figure is better than another by more than chance is asked of the frames: the jackknife gives the
standard error of the difference.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from lowtide.ir import Array, Graph, Node, Value
from lowtide.runtime import Session, to_model

Floats = NDArray[np.float64]

NORMS = 3
"""Batch normalizations that are looked at: deeper ones see less of the input."""

CLASSES = 10
"""From so many classes on, scores tell frames apart."""

SIGMAS = 3.0


class Evidence(abc.ABC):
    """A figure of frames, from what a network does with them.

    Attributes:
        words: what the figure is.
        session: what has to be run; its results go to `observe`.
        most: how many frames are worth their time.
    """

    words: str
    most: int
    session: Session

    @abc.abstractmethod
    def observe(self, results: Sequence[Array]) -> Floats:
        """What is kept of one frame, from the results of the session; one vector."""

    @abc.abstractmethod
    def cost(self, kept: Floats) -> float:
        """The figure of some frames ``[frames, N]``, as a cost in natural units: lower is better."""

    @abc.abstractmethod
    def show(self, cost: float) -> str:
        """A cost in the words of the evidence."""


class NormEvidence(Evidence):
    """Statistics that batch normalization stored, against those of the frames.

    Args:
        graph: the network as imported, before batch normalization is folded.
        norms: as `norms_of` finds them.
    """

    def __init__(self, graph: Graph, norms: Sequence[Node]) -> None:
        names = [node.value(0).name for node in norms]
        more = f" and {len(norms) - 1} more" if len(norms) > 1 else ""
        self.most = 64  # the first layers alone have to run
        self.words = f"distance from the batch statistics of {norms[0].name or norms[0].output.name}{more}"
        self.session = Session(to_model(_part(graph, names), quantized=False))
        self.mean = np.concatenate([_constant(node.value(3)) for node in norms])
        # Channels that are always zero have no variance; the network itself adds epsilon to it.
        self.epsilon = np.concatenate(
            [np.full(_constant(node.value(4)).size, node.float_attribute("epsilon", 1e-5)) for node in norms]
        )
        self.variance = np.concatenate([_constant(node.value(4)) for node in norms]) + self.epsilon
        sizes = [_constant(node.value(3)).size for node in norms]
        self.weight = np.concatenate([np.full(size, 1 / (size * len(sizes))) for size in sizes])

    def observe(self, results: Sequence[Array]) -> Floats:
        """Mean and mean square of every channel."""
        data = [array.astype(np.float64).reshape(*array.shape[:2], -1) for array in results]
        with np.errstate(over="ignore", invalid="ignore"):  # candidates may be far off
            means = [array.mean(axis=(0, 2)) for array in data]
            return np.concatenate([*means, *((array**2).mean(axis=(0, 2)) for array in data)])

    def cost(self, kept: Floats) -> float:
        """The distance, weighted alike for every normalization."""
        mean, square = np.split(kept.mean(axis=0), 2)
        variance = np.maximum(square - mean**2, 0) + self.epsilon
        shift = (mean - self.mean) ** 2 / (4 * (variance + self.variance))
        shape = 0.5 * np.log((variance + self.variance) / (2 * np.sqrt(variance * self.variance)))
        return float(((shift + shape) * self.weight).sum())

    def show(self, cost: float) -> str:
        """The distance."""
        return f"{cost:.4f}"


class ScoreEvidence(Evidence):
    """How well class scores tell frames apart.

    Args:
        graph: the network.
        scores: its class scores ``[1, N]``.
    """

    def __init__(self, graph: Graph, scores: Value) -> None:
        self.most = 16  # the whole network has to run
        self.words = f"inception score of {scores.name}"
        self.softmax = scores.producer is not None and scores.producer.op != "Softmax"
        self.session = Session(to_model(_part(graph, [scores.name]), quantized=False))

    def observe(self, results: Sequence[Array]) -> Floats:
        """Probabilities."""
        scores: Floats = results[0].astype(np.float64).ravel()
        if self.softmax:
            raised = np.exp(scores - scores.max())
            scores = raised / raised.sum()
        return scores

    def cost(self, kept: Floats) -> float:
        """Minus the mutual information between frame and class, in nats."""
        return float(_entropy(kept).mean() - _entropy(kept.mean(axis=0)))

    def show(self, cost: float) -> str:
        """The inception score."""
        return f"{math.exp(-cost):.2f}"


def _entropy(shares: Floats) -> Floats:
    logs = np.log(np.maximum(shares, np.finfo(np.float64).tiny))
    return np.asarray(-(shares * logs).sum(axis=-1))


def evidence_of(original: Graph, prepared: Graph) -> Evidence | None:
    """The best evidence that a network has, ``None`` without any.

    Args:
        original: as imported.
        prepared: the float network that is quantized.
    """
    norms = norms_of(original)
    if norms:
        return NormEvidence(original, norms)
    if len(prepared.outputs) == 1:
        scores = prepared.outputs[0]
        shape = scores.type.shape or ()
        if len(shape) == 2 and shape[0] == 1 and (shape[1] or 0) >= CLASSES and scores.type.dtype.is_float:
            return ScoreEvidence(prepared, scores)
    return None


def norms_of(graph: Graph) -> tuple[Node, ...]:
    """The first batch normalizations of activations whose stored statistics are known."""
    found = [
        node
        for node in graph
        if node.op == "BatchNormalization"
        and not node.value(0).is_constant
        and _has_numbers(node.operand(3))
        and _has_numbers(node.operand(4))
    ]
    return tuple(found[:NORMS])


def _has_numbers(value: Value | None) -> bool:
    return value is not None and value.constant is not None and value.constant.has_data


def _constant(value: Value) -> Floats:
    assert value.constant is not None  # noqa: S101 - checked when the node was chosen
    return value.constant.array().astype(np.float64).ravel()


def _part(graph: Graph, outputs: Sequence[str]) -> Graph:
    part = graph.clone()
    part.set_outputs([part.values[name] for name in outputs])
    part.prune()
    return part


@attrs.frozen
class Verdict:
    """The cost of two ways to prepare frames.

    Attributes:
        clear: whether the second is better by more than chance.
    """

    before: float
    after: float
    clear: bool


def judge(evidence: Evidence, before: Floats, after: Floats, ratio: float) -> Verdict:
    """Whether the second way is better: by a factor of `ratio` or more, and by `SIGMAS` standard errors.

    Args:
        evidence: what gives the cost of frames.
        before: what was kept of the frames as they are, ``[frames, N]``.
        after: of the same frames prepared another way.
        ratio: for costs that are logarithms of a figure, of that figure.
    """
    old, new = evidence.cost(before), evidence.cost(after)
    better = old - new > math.log(ratio) if isinstance(evidence, ScoreEvidence) else old > ratio * new
    count = len(before)
    left_out = [
        evidence.cost(np.delete(before, at, 0)) - evidence.cost(np.delete(after, at, 0))
        for at in range(count)
    ]
    error = math.sqrt((count - 1) * float(np.var(left_out)))
    return Verdict(old, new, bool(better and old - new > SIGMAS * error))
