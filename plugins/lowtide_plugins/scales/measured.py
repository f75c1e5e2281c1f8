"""What scales cost at the outputs, measured."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, MutableMapping, Sequence

import attrs
import numpy as np

from lowtide.calibrate import Range
from lowtide.ir import Array, Graph, Layer, Node, QuantParams, TensorType, Value
from lowtide.quantize import numbers
from lowtide.quantize.operands import MacOperands
from lowtide.quantize.solve import SolveRequest
from lowtide.runtime import Session, dequantize, to_model
from lowtide_plugins.scales.groups import Group
from lowtide_plugins.scales.plan import Curve
from lowtide_plugins.scales.ranges import Trial
from lowtide_plugins.scales.suffix import Values, part_of

WIDE_FRAMES = (0,)
"""Of the frames, those that show what rounding to 16 bits costs: it is much the same on all."""


@attrs.frozen(eq=False)
class Curves:
    """The curves of one network; what is known from another plan of widths is not measured again.

    Attributes:
        values: of the network.
        request: the rules.
        unseen: see ``choose-ranges``.
        known: curves that were measured.
        key: all that they depend on besides the float network and what is asked for.
    """

    values: Values
    request: SolveRequest
    unseen: float
    known: MutableMapping[object, object]
    key: tuple[object, ...]

    def of_group(self, group: Group, span: Range, quant: QuantParams, steps: Sequence[float]) -> Curve:
        """See `activation_curve`; `span` is the whole range."""
        key = (*self.key, group.key, span, quant, tuple(steps))
        found = self.known.get(key)
        if not isinstance(found, Curve):
            frames = WIDE_FRAMES if group.bits > 8 else None
            trial = Trial(self.values, group, span, self.request, self.unseen, frames)
            found = self.known[key] = activation_curve(trial, quant, steps)
        return found

    def of_weights(
        self, layer: Layer, operands: MacOperands, choices: Mapping[float, QuantParams]
    ) -> Curve | None:
        """See `weight_curve`."""
        key = (*self.key, layer.name, tuple(choices.items()))
        found = self.known.get(key, ...)
        if found is not None and not isinstance(found, Curve):
            found = self.known[key] = self._of_weights(layer, operands, choices)
        return found

    def _of_weights(
        self, layer: Layer, operands: MacOperands, choices: Mapping[float, QuantParams]
    ) -> Curve | None:
        if all(quant.bits == 8 for quant in choices.values()):
            return weight_curve(self.values, layer, operands, choices)
        # What costs more on one frame clips too much; what does not may clip what other frames need.
        coarsest = dict(itertools.islice(choices.items(), 2))
        glance = weight_curve(self.values, layer, operands, coarsest, WIDE_FRAMES)
        if glance is None or glance.points[0][1] > glance.points[-1][1]:
            return glance
        return weight_curve(self.values, layer, operands, choices, until_worse=True)


def activation_curve(trial: Trial, quant: QuantParams, steps: Sequence[float]) -> Curve:
    """Measure a group at multiples of its scale.

    Args:
        trial: of a group without a zero point.
        quant: the codes of its range.
        steps: the multiples; the largest is 1.
    """
    measured: dict[float, float] = {}
    for step in sorted(steps, reverse=True):
        made = attrs.evolve(quant, scale=quant.scale[0] * step)
        measured[made.scale[0]] = trial.cost(Range(*made.range))
    return Curve.through(measured)


def weight_curve(
    values: Values,
    layer: Layer,
    operands: MacOperands,
    choices: Mapping[float, QuantParams],
    frames: Sequence[int] | None = None,
    *,
    until_worse: bool = False,
) -> Curve | None:
    """Measure the weights of a layer, rounded to nearest, with the parameters that belong to some scales.

    The mean error of every output channel is left out, since a bias takes it back.

    Args:
        values: of the network.
        layer: the layer.
        operands: those of its first node.
        choices: parameters by scale, from the coarsest on.
        frames: which of the frames to run; by default all.
        until_worse: leave out what is finer than a scale that costs more than the one before.

    Returns:
        ``None`` where the input of the layer is not kept.
    """
    first, weights = next(iter(values.frames)), operands.weights.constant
    if operands.activation.name not in first or weights is None:
        return None
    real, node = weights.array(), layer.nodes[0]
    session = _with_other_weights(node, operands.activation)
    used = range(len(values.frames)) if frames is None else frames
    inputs = [values.frames[at][operands.activation.name] for at in used]
    once = values.shares.get(node, 0.0) * len(inputs)
    values.runs += once
    bias = _bias(node, operands)
    plain = [_run(session, x, real) + bias for x in inputs]
    rest = _rest(layer)
    suffix = values.behind([node.output] if rest is None else [layer.output])
    channel = plain[0].ndim - 1 if node.op in {"Gemm", "MatMul"} else 1
    others = tuple(at for at in range(plain[0].ndim) if at != channel)
    measured: dict[float, float] = {}
    least = math.inf
    for scale, quant in choices.items():
        lost = dequantize(numbers.quantize(real, quant, half="away"), quant) - real
        deltas = [_run(session, x, lost) for x in inputs]
        mean = np.mean([delta.mean(axis=others, keepdims=True) for delta in deltas], axis=0)
        made: dict[int, dict[str, Array]] = {}
        for at, (before, delta) in zip(used, zip(plain, deltas, strict=True), strict=True):
            found = {node.output.name: (before + delta - mean).astype(np.float32)}
            made[at] = rest.run(found) if rest is not None else found
        measured[scale] = suffix.error_of(made)
        values.runs += once
        if until_worse and measured[scale] > least:
            break
        least = measured[scale]
    return Curve.through(measured)


def _rest(layer: Layer) -> Session | None:
    """What follows the product inside its layer, so that all of the layer is behind the same tensor.

    Returns:
        ``None`` where nothing follows, or where that reads other tensors.
    """
    head, *rest = layer.nodes
    made = {value for node in layer.nodes for value in node.outputs}
    reads = {value for node in rest for value in node.inputs if value is not None and not value.is_constant}
    if not rest or not reads <= made or list(layer.outputs) != [layer.output]:
        return None
    return Session(to_model(part_of({head.output}, rest, [layer.output]), quantized=False))


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
        return np.asarray(bias * np.float32(node.float_attribute("beta", 1.0)))
    return bias.reshape(-1, *(1,) * (len(operands.weights.type.static_shape) - 2))
