"""Weights and biases that make up for the errors in front of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from typing import ClassVar

import attrs
import numpy as np

from lowtide.errors import PassError
from lowtide.ir import Array, Constant, Graph, Layer, Node, QuantParams, layers
from lowtide.passes import Pass, PassContext, PassOutcome, Refusal
from lowtide.quantize.numbers import round_half_away
from lowtide.quantize.operands import MacOperands, mac_operands
from lowtide.quantize.solve import SolveRequest
from lowtide.quantize.weights import LARGE_BIAS, SPLIT_BIAS_LIMIT, requantize_bias
from lowtide_plugins.passes.checks import at_least
from lowtide_plugins.weights.addends import addends_of
from lowtide_plugins.weights.fit import Evidence, Rows, rows_for
from lowtide_plugins.weights.importance import output_gains
from lowtide_plugins.weights.rounding import round_steps
from lowtide_plugins.weights.rows import (
    NO_TWIN,
    from_rows,
    is_plain_product,
    original_weights,
    row_scales,
    rows_objection,
)
from lowtide_plugins.weights.scales import ScaleChoice
from lowtide_plugins.weights.sequence import LayerSequence

RUNS = 4
"""Results of so many runs are kept for those that follow."""

SELDOM = 1e-4
"""Gain of an output that is never inside its window, beside one that always is."""


@attrs.frozen(kw_only=True)
class Reconstruct(Pass):
    """Choose weights, their scales, codes and biases layer after layer, on what the quantized network reads.

    For every Conv, Gemm and MatMul with quantized weights, in order, with x what the quantized network hands
    it so far and t what the float layer gives before its activation:

    1. `least-squares`: W = argmin E|W (x - E x) - (t - E t)|^2 + l |W - W0|^2, so that a layer absorbs what
       those in front of it have lost; l is chosen on rows that were left out. Where the activation or the
       codes clamp, any number beyond the limit will do, and t is moved to the nearest, `rounds` times.
    2. `scales`: the scale of the weights is lowered as long as the expected error falls, weights that
       saturate included; that of outputs stays. With one scale for a tensor, an output counts by what its
       error does to those of the network. Shift-only rules allow halves only.
    3. `feedback`: codes one after the other, what one loses is made up for by those that follow.
    4. The bias takes out the mean error that is left.

    A product that is added to something takes t from the float sum less what the quantized network adds it
    to, and less what rounding the sum adds where ties go up: so errors do not pile up along a chain of sums.
    Of two such products the later one makes up for the earlier.

    Moments and means come from `rows` positions of `frames` frames, others of every frame; live values of
    these frames are kept.

    Source: step 1 is ridge regression, as in Hubara et al., Improving Post Training Neural Quantization:
    Layer-wise Calibration and Integer Programming, 2020, section 3, in closed form; step 3 is Frantar et al.,
    GPTQ, 2022, algorithm 1; step 4 is Nagel et al., Data-Free Quantization, 2019, section 4.2, measured.

    Attributes:
        frames: how many frames are run; the quantized network learns from them alone. Of networks whose
            activations are large it is half.
        rows: positions of each frame, fewer in layers with many inputs.
        sums: whether sums are targets.
        rounds: how often targets beyond the limits of activations are moved.
        damp: share of the mean moment that is added before codes are chosen.
        halvings: octaves by which a scale may fall.
        most: the largest number of inputs of an output.
        memory: MiB of values that are kept in memory; others go to a file.
    """

    name: ClassVar[str] = "reconstruct"
    least_squares: bool = True
    scales: bool = True
    feedback: bool = True
    sums: bool = True
    frames: int = 64
    rows: int = 256
    rounds: int = 3
    damp: float = 0.01
    halvings: int = 6
    most: int = 4608
    memory: int = 512

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        """See `Pass.run`.

        Raises:
            PassError: when the graph is not quantized yet, no data was given, or an option is out of range.
        """
        if ctx.reference is None or ctx.frames is None or ctx.request is None or ctx.device is None:
            raise PassError("needs a quantized graph and calibration frames", place=self.name)
        at_least(self, frames=1, rows=1, rounds=0, damp=0, halvings=0, most=1, memory=0)
        gains = output_gains(ctx.reference)
        refusals: list[Refusal] = []
        changed = 0
        frames = ctx.frames.select(self._count(graph))
        chosen: dict[str, MacOperands] = {}
        targets: dict[str, int] = {}
        for node in (layer.nodes[0] for layer in layers(graph)):
            operands = mac_operands(node)
            if operands is None or operands.weights.type.quant is None:
                continue
            reason, real = (
                objection(node, operands, ctx.reference, self.most),
                original_weights(node, ctx.reference),
            )
            if reason is not None or real is None:
                refusals.append(Refusal(node.place, reason or NO_TWIN))
                continue
            chosen[node.output.name] = operands
            targets[node.output.name] = rows_for(node, real, frames.count or 1, self.rows)
        addends = addends_of(graph, targets, ctx.device) if self.sums else {}
        with LayerSequence(
            ctx.reference, graph, ctx.device, frames, targets, self.memory, addends
        ) as sequence:
            for layer in sequence.walk():
                operands = chosen.get(layer.nodes[0].output.name)
                if operands is not None:
                    fit = LayerFit(self, layer, operands, ctx.request, gains, ctx.known)
                    changed += fit.improve(graph, ctx.reference, sequence)
        own = [key for key, found in ctx.known.items() if isinstance(found, Fitted)]
        for key in own[: -RUNS * len(chosen)]:
            del ctx.known[key]
        return PassOutcome(changed > 0, {"reconstructed": changed}, tuple(refusals), 2.0 * sequence.count)

    def _count(self, graph: Graph) -> int:
        """As many frames as their activations fit into `memory`, but at least half of `frames`."""
        made = [value.type for layer in layers(graph) for value in layer.outputs]
        size = 4 * sum(math.prod(kind.static_shape) for kind in made if kind.is_static)
        return max(math.ceil(self.frames / 2), min(self.frames, (self.memory << 20) // max(size, 1)))


def objection(node: Node, operands: MacOperands, reference: Graph, most: int) -> str | None:
    """Why the weights of a layer cannot be chosen by their products, ``None`` when they can."""
    if (reason := rows_objection(node)) is not None:
        return reason
    if node.op == "Gemm" and not is_plain_product(node):
        return "it is no plain product; alpha, beta and transA would have to be 1, 1 and 0."
    if original_weights(node, reference) is None:
        return NO_TWIN
    if not node.output.type.is_static:
        return "the number of its results depends on data."
    quant = operands.weights.type.quant
    if quant is None:
        return "its weights are float."
    shape = operands.weights.type.static_shape
    count = int(np.prod(shape[1:])) if node.op == "Conv" else max(shape)
    return None if count <= most else f"an output has {count} inputs; the limit is {most}."


@attrs.frozen(eq=False)
class Fitted:
    """What was chosen for a layer.

    Attributes:
        codes: of the type of `quant`, ``[C_out, K]``.
        quant: of the weights.
        bias: real numbers ``[C_out]``; ``None`` for a layer that cannot have one.
    """

    codes: Array
    quant: QuantParams
    bias: Array | None


@attrs.frozen(eq=False)
class LayerFit:
    """One layer under way; `known` are the results of other networks that were made of the same float one."""

    options: Reconstruct
    layer: Layer
    operands: MacOperands
    request: SolveRequest
    gains: Mapping[str, Array]
    known: MutableMapping[object, object]

    def improve(self, graph: Graph, reference: Graph, sequence: LayerSequence) -> int:
        """Give the layer its weights and bias; 1 when they are others now."""
        node, weights = self.layer.nodes[0], self.operands.weights
        real = original_weights(node, reference)
        assert real is not None  # noqa: S101 - the caller checks
        rows = Rows.of(sequence, self.layer, self.operands)
        # A recipe tries ranges that often differ in the last layers only; up to these all is as it was.
        key = self._key(rows)
        fitted, before = self.known.pop(key, None), _state(node)
        if not isinstance(fitted, Fitted):
            fitted = self._fitted(Evidence.of(rows, self.layer, self.operands, real))
        self.known[key] = fitted
        made = Constant.of(from_rows(node, fitted.codes, real.shape))
        graph.set_constant(weights, made, weights.type.with_quant(fitted.quant))
        if fitted.bias is not None:
            requantize_bias(graph, node, fitted.bias, self.request)
        return int(_state(node) != before)

    def _key(self, rows: Rows) -> tuple[object, ...]:
        """All that `_fitted` depends on besides the float network."""
        rules = (self.options, self.request.rule, self.request.target.bias.split)
        values = (self.operands.activation, self.operands.weights, self.layer.output)
        return self.layer.nodes[0].output.name, *rules, *(value.type for value in values), rows.digest()

    def _fitted(self, evidence: Evidence) -> Fitted:
        quant, options = self.operands.weights.type.quant, self.options
        assert quant is not None  # noqa: S101 - the caller checks
        wanted = evidence.weights
        if options.least_squares:
            wanted = evidence.least_squares(rounds=options.rounds)
        low = -quant.dtype.max if self.request.rule.weight_codes == "narrow" else quant.dtype.min
        scales = self._scales(evidence, wanted, quant, low) if options.scales else quant.scale
        chosen = QuantParams(quant.dtype, scales, quant.zero_point, quant.axis)
        scale = row_scales(chosen, wanted.shape[0] * wanted.shape[1]).reshape(*wanted.shape[:2], 1)
        steps = wanted / scale
        if options.feedback:
            codes = round_steps(steps, evidence.moments, low, quant.dtype.max, options.damp)
        else:
            codes = np.clip(round_half_away(steps), low, quant.dtype.max)
        bias: Array | None = None
        if evidence.has_bias:
            found = evidence.bias_for(codes * scale, rounds=options.rounds)
            bias = self._holdable(evidence, found, scale[..., 0])
        return Fitted(codes.reshape(-1, codes.shape[2]).astype(quant.dtype.numpy), chosen, bias)

    def _scales(self, evidence: Evidence, wanted: Array, quant: QuantParams, low: int) -> tuple[float, ...]:
        """Scales with less error, from the present ones down."""
        source, rule = self.operands.activation.type.quant, self.request.rule
        if source is None:
            return quant.scale
        opened = evidence.window.open(evidence.target)
        known = self.gains.get(self.layer.nodes[0].output.name)
        gains = np.ones_like(opened) if known is None or known.size != opened.size else known
        # A bias that is needed: of outputs that never leave the limit, none is.
        bias = evidence.target.mean(axis=1) - np.einsum("gok,gk->go", wanted, evidence.mean)
        return ScaleChoice(
            wanted=wanted,
            moments=evidence.moments,
            gains=gains.reshape(opened.shape) * (opened + SELDOM),
            bias=np.where(opened > 0, np.abs(bias), 0.0) if evidence.has_bias else np.zeros_like(opened),
            quant=quant,
            input_scale=source.scale[0],
            low=low,
            shift=rule.requantize == "shift",
            split=self.request.target.bias.split,
            halvings=self.options.halvings,
        ).scales()

    def _holdable(self, evidence: Evidence, bias: Array, scale: Array) -> Array:
        """The bias, as far from zero as its format goes where the output never leaves its limit."""
        source = self.operands.activation.type.quant
        if source is None:
            return bias.reshape(-1)
        room = (SPLIT_BIAS_LIMIT if self.request.target.bias.split else LARGE_BIAS) * source.scale[0] * scale
        shut = evidence.window.open(evidence.target) == 0
        return np.where(shut, np.clip(bias, -room, room), bias).reshape(-1)


def _state(node: Node) -> tuple[object, ...]:
    """What the pass may change in a layer."""
    return tuple((value.constant, value.type) for value in node.inputs[1:] if value is not None)
