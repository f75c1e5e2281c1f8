"""What scales cost at the outputs: curves through a few measured points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs
import numpy as np

from lowtide.ir import Array, Constant, Graph, Node, QuantParams, TensorType, Value
from lowtide.quantize import numbers
from lowtide.quantize.operands import MacOperands
from lowtide.runtime import Session, to_model
from lowtide_plugins.scales.groups import Group, fake_quantized
from lowtide_plugins.scales.suffix import Values

NOTHING = 1e-30
"""An error that is none."""


@attrs.frozen
class Curve:
    """The error of the outputs by log2 of a scale.

    Attributes:
        points: log2 of the scale and log2 of the error, ascending.
    """

    points: tuple[tuple[float, float], ...]

    @classmethod
    def through(cls, measured: Mapping[float, float]) -> Curve:
        """A curve through errors by scale."""
        return cls(
            tuple(
                (math.log2(scale), math.log2(max(error, NOTHING)))
                for scale, error in sorted(measured.items())
            )
        )

    def at(self, log_scale: float) -> float:
        """The error at a scale, given as log2.

        Between points it is interpolated. Coarser scales only round more, with the square of the scale; finer
        ones clip more, at the rate between the two finest points, but at least that of the square.
        """
        places, errors = zip(*self.points, strict=True)
        if log_scale >= places[-1]:
            return float(2.0 ** (errors[-1] + 2 * (log_scale - places[-1])))
        if log_scale <= places[0]:
            rate = (errors[0] - errors[1]) / (places[1] - places[0]) if len(places) > 1 else 0.0
            return float(2.0 ** (errors[0] + max(rate, 2.0) * (places[0] - log_scale)))
        return float(2.0 ** np.interp(log_scale, places, errors))


def activation_curve(
    values: Values, group: Group, quant: QuantParams, steps: Sequence[float], unseen: float
) -> Curve:
    """Measure a group at multiples of its scale.

    Args:
        values: on which frames.
        group: symmetric.
        quant: its codes; nothing is clipped that should not be at its scale.
        steps: the multiples; the largest is 1.
        unseen: see `lowtide_plugins.scales.ranges.ChooseRanges`.
    """
    suffix = values.behind(group.roots)
    elements = sum(frame[root.name].size for frame in values.frames for root in group.roots)
    whole, measured, noise = quant.range[1], dict[float, float](), 0.0
    for step in sorted(steps, reverse=True):
        made = attrs.evolve(quant, scale=quant.scale[0] * step)
        error = suffix.error(lambda array, made=made: fake_quantized(array, made))
        noise = noise or error * 12 / made.scale[0] ** 2
        measured[made.scale[0]] = error + noise * unseen / elements * (whole - made.range[1]) ** 2
    return Curve.through(measured)


def weight_curve(
    values: Values, node: Node, operands: MacOperands, scales: Sequence[float], dtype_bits: int
) -> Curve | None:
    """Measure the weights of a layer, rounded to nearest, at some scales; ``None`` where it is not known.

    The mean error of every output channel is left out, since a bias takes it back.
    """
    if operands.activation.name not in values.frames[0] or operands.weights.constant is None:
        return None
    real = operands.weights.constant.array()
    session = _with_other_weights(node, operands.activation)
    inputs = [frame[operands.activation.name] for frame in values.frames]
    plain = [_run(session, x, real) + _bias(node, operands) for x in inputs]
    suffix = values.behind([node.output])
    channel = -1 if node.op in {"Gemm", "MatMul"} else 1
    measured: dict[float, float] = {}
    for scale in scales:
        quant = QuantParams(numbers.signed_dtype(dtype_bits), scale)
        codes = numbers.quantize(real, quant, half="away")
        moved = (codes.astype(np.float64) * quant.scale[0]).astype(np.float32)
        deltas = [_run(session, x, moved - real) for x in inputs]
        others = tuple(at for at in range(deltas[0].ndim) if at != channel % deltas[0].ndim)
        mean = np.mean([delta.mean(axis=others, keepdims=True) for delta in deltas], axis=0)
        made = {
            at: {node.output.name: (before + delta - mean).astype(np.float32)}
            for at, (before, delta) in enumerate(zip(plain, deltas, strict=True))
        }
        measured[quant.scale[0]] = suffix.error_of(made)
    return Curve.through(measured)


def _with_other_weights(node: Node, activation: Value) -> Session:
    """The node without its bias, with weights that are fed."""
    part = Graph("layer")
    source = part.add_input("x", TensorType(activation.type.dtype, activation.type.shape))
    weights = part.add_input("w", TensorType("float32", node.value(1).type.shape))
    made = part.add_node(node.op, [source, weights], [("y", TensorType("float32", None))], node.attributes)
    part.set_outputs([made.output])
    return Session(to_model(part, quantized=False))


def _run(session: Session, x: Array, weights: Array) -> Array:
    (made,) = session.run({"x": x, "w": np.ascontiguousarray(weights, np.float32)}).values()
    return made


def _bias(node: Node, operands: MacOperands) -> Array:
    """The bias in a shape that can be added to the output."""
    if operands.bias is None or operands.bias.constant is None:
        return np.zeros((), np.float32)
    bias = operands.bias.constant.array().reshape(-1)
    if node.op in {"Gemm", "MatMul"}:
        return bias * np.float32(node.float_attribute("beta", 1.0))
    return bias.reshape(-1, *(1,) * (len(operands.weights.type.static_shape) - 2))
