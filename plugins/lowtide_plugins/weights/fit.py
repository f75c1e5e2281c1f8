"""Closed forms for one layer: what its weights and biases should be, given what it reads.

Arrays of weights are ``[groups, outputs, K]``, vectors that a layer multiplies ``[groups, rows, K]``, and
what it gives ``[groups, rows, outputs]``. The rows of the float and the quantized network belong to the same
positions of the same frames.
"""

from __future__ import annotations

import hashlib
import math
from functools import cached_property
from typing import cast

import attrs
import numpy as np

from lowtide.ir import Array, Layer, Node, Value
from lowtide.quantize.operands import MacOperands
from lowtide.runtime import dequantize
from lowtide_plugins.passes.facts import bounds
from lowtide_plugins.weights.moments import sample
from lowtide_plugins.weights.rows import as_rows
from lowtide_plugins.weights.sequence import LayerSequence

CHEAP_ELEMENTS, MOST_ELEMENTS = 1 << 21, 1 << 23
"""Elements of all vectors of a layer that are never too many, and that are in any case."""

MANY, PLENTY = 1024, 16
"""Vectors that are enough between the two, and vectors by inputs that are."""

FEWEST = 4
"""Rows by inputs that it takes to learn weights from."""

STRENGTHS = (1.0, 0.1, 0.01)
"""How much weights may be held where they were, by the mean moment."""

CHEAP_INPUTS = 64
"""Up to so many inputs of an output every strength is tried, whatever the one before it was worth."""

SILU = (-6.0, math.inf)
FLAT = {
    "HardSigmoid": (-3.0, 3.0),
    "HardSwish": (-3.0, math.inf),
    "Sigmoid": (-6.0, 6.0),
    "Tanh": (-3.0, 3.0),
}
"""Beyond these sums a function changes by less than a code of 8 bits, or not at all."""


@attrs.frozen(eq=False)
class Window:
    """The numbers between which the output of a layer tells pre-activations apart.

    Beyond it the activation, or the codes of the output, give the same whatever the sum is. The ends of an
    addend are those of the sum less what it is added to, float32 ``[groups, rows, outputs]``.
    """

    low: float | Array = -math.inf
    high: float | Array = math.inf

    @property
    def finite(self) -> bool:
        """Whether there is a limit at all."""
        return bool(np.any(self.low > -math.inf) or np.any(self.high < math.inf))

    @classmethod
    def of(cls, layer: Layer) -> Window:
        """That of a product with at most a Relu or Clip behind it; none for other layers."""
        low, high = -math.inf, math.inf
        if len(layer.nodes) > 1:
            limits = bounds(layer.nodes[1]) if len(layer.nodes) == 2 else None
            if limits is None:
                return cls()
            low, high = limits
        quant = layer.output.type.quant
        if quant is not None and quant.axis is None:
            low, high = max(low, quant.range[0]), min(high, quant.range[1])
        flat = _flat(layer.output)
        return cls(max(low, flat[0]), min(high, flat[1]))

    def beside(self, other: Array, sums: Window) -> Window:
        """That of an addend, where `sums` is the window of the sum."""
        return Window(
            np.maximum(np.float32(self.low), np.float32(sums.low) - other),
            np.minimum(np.float32(self.high), np.float32(sums.high) - other),
        )

    def of_rows(self, rows: slice) -> Window:
        """The same of some of the rows."""
        low, high = (end[:, rows] if isinstance(end, np.ndarray) else end for end in (self.low, self.high))
        return Window(low, high)

    def alike(self, target: Array) -> tuple[Array, Array]:
        """The least and the largest number that look like `target` through the window, float32."""
        low, high = (np.asarray(end, np.float32) for end in (self.low, self.high))
        least = np.where(target <= low, np.float32(-np.inf), np.minimum(target, high))
        most = np.where(target >= high, np.float32(np.inf), np.maximum(target, low))
        return least, most

    def open(self, target: Array) -> Array:
        """How often each output is inside, ``[groups, outputs]``."""
        inside: Array = ((target > self.low) & (target < self.high)).mean(axis=1)
        return inside


def _flat(value: Value) -> tuple[float, float]:
    """Where what reads a tensor begins to be flat; infinite where something else reads it too."""
    readers = {node.op for node in value.users}
    if readers == {"Mul", "Sigmoid"} and len(value.users) == 2:
        gate, product = sorted(value.users, key=lambda node: node.op == "Mul")
        return SILU if {*product.inputs} == {value, gate.output} else (-math.inf, math.inf)
    return FLAT.get(readers.pop(), (-math.inf, math.inf)) if len(readers) == 1 else (-math.inf, math.inf)


@attrs.frozen(eq=False)
class Rows:
    """What a layer reads and what it is to give, at the positions of which a sequence has the target.

    Attributes:
        codes: what the quantized layer multiplies as it is kept, ``[groups, rows, K]``.
        target: what the float layer gives before its activation, or the sum that it goes into, float32
            ``[rows, C_out]``.
        window: that of the layer, or of the sum.
        beside: what the quantized layer is added to; ``None`` where the target is its own.
    """

    codes: Array
    target: Array
    window: Window
    beside: Array | None = None

    @classmethod
    def of(cls, sequence: LayerSequence, layer: Layer, operands: MacOperands) -> Rows:
        """Sample what a layer is about to read."""
        node = layer.nodes[0]
        rows = sequence.targets[node.output.name]
        vectors = _vectors(node, sequence, operands.activation, rows)
        addend = sequence.addends.get(node.output.name)
        window = Window.of(layer if addend is None else addend.layer)
        return cls(vectors, sequence.target(node.output), window, sequence.beside(node.output))

    def digest(self) -> bytes:
        """Of every bit."""
        found = hashlib.sha256(self.codes.reshape(-1).data)
        found.update(self.target.reshape(-1).data)
        found.update(repr((self.window.low, self.window.high)).encode())
        if self.beside is not None:
            found.update(self.beside.reshape(-1).data)
        return found.digest()


@attrs.frozen(eq=False, slots=False)
class Evidence:
    """What a layer reads in both networks, and what it is to give.

    Attributes:
        weights: real weights, float64.
        target: what the float layer gives before its activation, float32.
        fixed: what the quantized layer multiplies, float32.
        mean: the mean of `fixed`, float64 ``[groups, K]``; zeros for a layer without bias.
        moments: E[(x - mean) (x - mean)'] of `fixed`, float64 ``[groups, K, K]``.
        window: where outputs can be told apart.
        has_bias: whether the layer can have one.
    """

    weights: Array
    target: Array
    fixed: Array
    mean: Array
    moments: Array
    window: Window
    has_bias: bool

    @classmethod
    def of(cls, rows: Rows, layer: Layer, operands: MacOperands, real: Array) -> Evidence:
        """What rows tell of a layer with some real weights."""
        node, quant = layer.nodes[0], operands.activation.type.quant
        weights = grouped(node, real)
        groups, _, size = weights.shape
        fixed = rows.codes if quant is None else dequantize(rows.codes, quant)
        target, window = _by_group(rows.target, groups), rows.window
        if rows.beside is not None:
            beside = _by_group(rows.beside, groups)
            target, window = target - beside, Window.of(layer).beside(beside, window)
        has_bias = node.op != "MatMul"
        mean = mean_of(fixed) if has_bias else np.zeros((groups, size))
        return cls(
            weights,
            target,
            fixed,
            mean,
            _second_moments(fixed, mean),
            window,
            has_bias,
        )

    @property
    def count(self) -> int:
        """How many vectors there are."""
        return int(self.fixed.shape[1])

    def bias_for(self, weights: Array, *, rounds: int) -> Array:
        """The bias that brings the mean of every output to that of the target, ``[groups, outputs]``.

        Where the activation makes no difference, the sum needs none either: the target is moved to the
        nearest number that looks the same, `rounds` times.
        """
        made = products(self.fixed, weights)
        mean = mean_of(made)
        bias = mean_of(self.target) - mean
        for _ in range(rounds if self.window.finite else 0):
            bias = mean_of(self._moved(made, bias)) - mean
        return bias

    def least_squares(self, *, rounds: int) -> Array:
        """Weights that give the target from what the quantized layer reads, float64 like `weights`.

        W = (E[(t - E t) (x - E x)'] + l W0) (E[(x - E x) (x - E x)'] + l)^-1 with the real weights W0. Of
        `STRENGTHS` times the mean of the diagonal, l is what serves the second half of the rows best when
        learned from the first; when W0 serves as well, it is the answer. With a window the target is moved
        as in `bias_for`, `rounds` times.
        """
        level = self._strength()
        if level is None:
            return self.weights
        weights, target = self.weights, self.target
        for turn in range(1 + (rounds if self.window.finite else 0)):
            if turn:
                bias = mean_of(target) - np.einsum("gok,gk->go", weights, self.mean)
                bias = bias if self.has_bias else np.zeros_like(bias)
                target = self._moved(products(self.fixed, weights), bias)
            weights = self._solve(self._cross(self.fixed, target), self.moments, level)
        return weights

    def _moved(self, made: Array, bias: Array) -> Array:
        """The target moved to what is nearest to products with a bias."""
        present = made + bias[:, np.newaxis].astype(np.float32)
        return np.clip(present, *self._alike, out=present)

    @cached_property
    def _alike(self) -> tuple[Array, Array]:
        return self.window.alike(self.target)

    def _cross(self, vectors: Array, target: Array) -> Array:
        """E[(t - E t) x'], float64 ``[groups, outputs, K]``."""
        # The mean is taken off one side only: of centred targets that of the vectors takes nothing away.
        centred = target
        if self.has_bias:
            centred = target - mean_of(target)[:, np.newaxis].astype(np.float32)
        cross: Array = np.matmul(centred.transpose(0, 2, 1), vectors).astype(np.float64)
        cross /= vectors.shape[1]
        return cross

    def _solve(self, cross: Array, moments: Array, level: float) -> Array:
        """The weights at one strength."""
        size = self.weights.shape[2]
        hold = level * np.trace(moments, axis1=1, axis2=2) / size + 1e-12
        hold = hold.reshape(-1, 1, 1)
        matrix = moments + hold * np.eye(size)
        wanted_by: Array = (cross + hold * self.weights).transpose(0, 2, 1)
        solved = cast(Array, np.linalg.solve(matrix, wanted_by))
        return solved.transpose(0, 2, 1)

    def _strength(self) -> float | None:
        """How much to hold weights, ``None`` for entirely.

        With many inputs, where it takes long, a strength is tried only if the next stronger one was better
        than all before it.
        """
        half = self.count // 2
        if self.count < FEWEST * self.weights.shape[2]:
            return None
        first, second = slice(0, half), slice(half, None)
        vectors = self.fixed[:, first]
        mean = mean_of(vectors) if self.has_bias else np.zeros_like(self.mean)
        moments = _second_moments(vectors, mean)
        wanted = mean_of(self.target[:, first])
        window = self.window.of_rows(second)
        shown = np.clip(self.target[:, second], window.low, window.high)

        def miss(weights: Array) -> float:
            """The error on other rows than the bias comes from, as far as the window shows it."""
            seen = products(self.fixed[:, second], weights)
            if self.has_bias:
                seen += (wanted - np.einsum("gok,gk->go", weights, mean))[:, np.newaxis].astype(np.float32)
            lost = np.clip(seen, window.low, window.high, out=seen)
            lost -= shown
            return float(np.vdot(lost, lost))

        cross = self._cross(vectors, self.target[:, first])
        best, least = None, miss(self.weights)
        for level in STRENGTHS:
            found = miss(self._solve(cross, moments, level))
            if found < least:
                best, least = level, found
            elif self.weights.shape[2] > CHEAP_INPUTS:
                break
        return best


def mean_of(vectors: Array) -> Array:
    """The mean over rows, float64 ``[groups, K]``: a product with ones, which sums several times faster."""
    ones = np.ones((1, vectors.shape[1]), np.float32)
    mean: Array = np.matmul(ones, vectors)[:, 0].astype(np.float64)
    mean /= vectors.shape[1]
    return mean


def products(vectors: Array, weights: Array) -> Array:
    """What weights make of vectors, float32 ``[groups, rows, outputs]``."""
    made: Array = np.matmul(vectors, weights.astype(np.float32).transpose(0, 2, 1))
    return made


def rows_for(node: Node, real: Array, frames: int, wanted: int) -> int:
    """How many positions of each frame a layer is judged by.

    Args:
        node: the product.
        real: its weights.
        frames: how many there are.
        wanted: the most.
    """
    groups = node.int_attribute("group", 1) if node.op == "Conv" else 1
    size: int = as_rows(node, real).shape[1]
    enough = max(MANY, PLENTY * size, CHEAP_ELEMENTS // (groups * size))
    return max(1, min(wanted, math.ceil(enough / frames), MOST_ELEMENTS // (frames * groups * size)))


def grouped(node: Node, real: Array) -> Array:
    """Weights as float64 ``[groups, outputs, K]``."""
    groups = node.int_attribute("group", 1) if node.op == "Conv" else 1
    matrix = as_rows(node, real).astype(np.float64)
    return matrix.reshape(groups, len(matrix) // groups, matrix.shape[1])


def _by_group(found: Array, groups: int) -> Array:
    """``[rows, C_out]`` as ``[groups, rows, outputs]``."""
    return np.ascontiguousarray(found.reshape(len(found), groups, -1).transpose(1, 0, 2))


def _second_moments(vectors: Array, mean: Array) -> Array:
    centred = vectors - mean[:, np.newaxis].astype(np.float32)
    made: Array = np.matmul(centred.transpose(0, 2, 1), centred).astype(np.float64)
    made /= vectors.shape[1]
    return made


def _vectors(node: Node, sequence: LayerSequence, value: Value, rows: int) -> Array:
    """What a layer multiplies in all frames, as it is kept."""
    quant = value.type.quant
    zero = quant.zero_point[0] if quant is not None else 0
    first = sample(node, sequence.codes(value, 0), rows, 0, zero)
    made = np.empty((first.shape[0], sequence.count, *first.shape[1:]), first.dtype)
    made[:, 0] = first
    for frame in range(1, sequence.count):
        made[:, frame] = sample(node, sequence.codes(value, frame), rows, frame, zero)
    return made.reshape(first.shape[0], -1, first.shape[2])
