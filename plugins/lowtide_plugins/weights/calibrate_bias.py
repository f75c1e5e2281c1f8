"""Bias calibration against what the quantized network really reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import attrs
import numpy as np

from lowtide.data import DataSource
from lowtide.errors import PassError, nearest
from lowtide.ir import Array, Graph, Layer, Node, TensorType, layers
from lowtide.passes import Pass, PassContext, PassOutcome, Refusal
from lowtide.quantize.operands import mac_operands, output_channels
from lowtide.quantize.solve import SolveRequest
from lowtide.quantize.weights import requantize_bias
from lowtide.runtime import Session, dequantize, in_flight, to_model
from lowtide_plugins.passes.checks import at_least
from lowtide_plugins.weights.fit import Evidence, Rows, rows_for
from lowtide_plugins.weights.rows import (
    NO_TWIN,
    as_rows,
    is_plain_product,
    original_weights,
    rows_objection,
)
from lowtide_plugins.weights.sequence import LayerSequence

METHODS = ("sequential", "iterative")


@attrs.frozen(kw_only=True)
class CalibrateBias(Pass):
    """Take the mean error out of every bias, with what the quantized network reads.

    ``sequential`` goes through the layers once: b = E[t] - E[W_q x_q] with the sums t of the float layer and
    the inputs x_q of the quantized one, whose biases in front are corrected already. Where the activation or
    the codes of the output clamp, t is moved to the nearest number that looks the same, `rounds` times.

    ``iterative`` is the vendor's: all layers at once, batch after batch,
    b_c += factor (mean of the float output - mean of the quantized one) over batch and positions, with the
    factor halved when all frames have been seen. It starts from the biases that are there. One iteration is
    one batch, which is how the vendor's published simulation counts.

    Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019,
    section 4.2 and appendix; the vendor's published training-side simulation for ``iterative``.

    Attributes:
        method: ``sequential`` or ``iterative``.
        frames: how many frames, at most.
        rows: positions of each frame; ``sequential``.
        rounds: see above; ``sequential``.
        memory: MiB of values that are kept in memory, others go to a file; ``sequential``.
        iterations: how many; by default ``advanced_options:calibration_iterations``.
        factor: the first factor; by default ``advanced_options:bias_calibration_factor``.
        batch: frames of an iteration; ``iterative``.
    """

    name: ClassVar[str] = "calibrate-bias"
    method: str = "sequential"
    frames: int = 64
    rows: int = 64
    rounds: int = 4
    memory: int = 512
    iterations: int | None = None
    factor: float | None = None
    batch: int = 8

    @property
    def used_options(self) -> tuple[str, ...]:
        """See `Pass.used_options`."""
        if self.method != "iterative":
            return ()
        own = {"calibration_iterations": self.iterations, "bias_calibration_factor": self.factor}
        return tuple(name for name, value in own.items() if value is None)

    def run(self, graph: Graph, ctx: PassContext) -> PassOutcome:
        """See `Pass.run`.

        Raises:
            PassError: when the graph is not quantized yet, no data was given, or an option is out of range.
        """
        if ctx.reference is None or ctx.frames is None or ctx.request is None or ctx.device is None:
            raise PassError("needs a quantized graph and calibration frames", place=self.name)
        if self.method not in METHODS:
            raise PassError(
                f"expected {' or '.join(METHODS)}, found {self.method!r}",
                place=f"{self.name}, method",
                hint=nearest(self.method, METHODS),
            )
        at_least(self, frames=1, rows=1, rounds=0, memory=0, batch=1)
        frames = ctx.frames.select(self.frames)
        if self.method == "sequential":
            return self._sequential(graph, ctx.reference, frames, ctx)
        return self._iterative(graph, ctx.reference, frames, ctx)

    def _sequential(
        self, graph: Graph, reference: Graph, frames: DataSource, ctx: PassContext
    ) -> PassOutcome:
        assert ctx.request is not None  # noqa: S101 - run checked it
        assert ctx.device is not None  # noqa: S101 - run checked it
        refusals: list[Refusal] = []
        changed = 0
        targets: dict[str, int] = {}
        for node in (layer.nodes[0] for layer in layers(graph)):
            if not _is_quantized(node):
                continue
            reason, real = _objection(node, reference), original_weights(node, reference)
            if reason is not None or real is None:
                refusals.append(Refusal(node.place, reason or NO_TWIN))
                continue
            targets[node.output.name] = rows_for(node, real, frames.count or 1, self.rows)
        with LayerSequence(reference, graph, ctx.device, frames, targets, self.memory) as sequence:
            for layer in sequence.walk():
                node = layer.nodes[0]
                if node.output.name in targets:
                    changed += _set(graph, node, self._closed_form(layer, reference, sequence), ctx.request)
        return PassOutcome(changed > 0, {"calibrated": changed}, tuple(refusals), 2.0 * sequence.count)

    def _closed_form(self, layer: Layer, reference: Graph, sequence: LayerSequence) -> Array:
        node = layer.nodes[0]
        operands, real = mac_operands(node), original_weights(node, reference)
        assert operands is not None  # noqa: S101 - the caller checks
        assert real is not None  # noqa: S101 - the caller checks
        quant, codes = operands.weights.type.quant, operands.weights.constant
        assert quant is not None  # noqa: S101 - the caller checks
        assert codes is not None  # noqa: S101 - the caller checks
        evidence = Evidence.of(Rows.of(sequence, layer, operands), layer, operands, real)
        stored = as_rows(node, dequantize(codes.array(), quant)).astype(np.float64)
        return evidence.bias_for(stored.reshape(evidence.weights.shape), rounds=self.rounds).reshape(-1)

    # --- the vendor's ---

    def _iterative(self, graph: Graph, reference: Graph, frames: DataSource, ctx: PassContext) -> PassOutcome:
        assert ctx.request is not None  # noqa: S101 - run checked it
        iterations, factor = self._schedule(ctx)
        found = [layer for layer in layers(graph) if _is_quantized(layer.nodes[0])]
        known = [layer for layer in found if _mean_objection(layer, reference) is None]
        refusals = tuple(
            Refusal(layer.place, reason) for layer in found if (reason := _mean_objection(layer, reference))
        )
        if not known:
            return PassOutcome(changed=False, counters={"calibrated": 0}, refusals=refusals)
        names = [layer.output.name for layer in known]
        wanted = list(_means(reference, names, frames, quantized=False))
        every = [frame.feeds for frame in frames.frames()]
        nodes = {layer.output.name: layer.nodes[0] for layer in known}
        before = {name: _bias_state(node) for name, node in nodes.items()}
        biases = {name: _present_bias(node) for name, node in nodes.items()}
        start = 0
        for _ in range(iterations):
            chosen = [(start + offset) % len(every) for offset in range(min(self.batch, len(every)))]
            session, outputs = _mean_session(graph, names, quantized=True)
            runs = in_flight(session, chosen, lambda number: every[number])
            errors = [
                {name: wanted[number][name] - _by_channel(results[outputs[name]]) for name in names}
                for number, results in runs
            ]
            for name, node in nodes.items():
                biases[name] = biases[name] + factor * np.mean([error[name] for error in errors], axis=0)
                requantize_bias(graph, node, biases[name], ctx.request)
            start += len(chosen)
            if start >= len(every):
                start, factor = start % len(every), factor / 2
        changed = sum(_bias_state(node) != before[name] for name, node in nodes.items())
        cost = float(len(every) + iterations * min(self.batch, len(every)))
        return PassOutcome(changed > 0, {"calibrated": changed}, refusals, cost)

    def _schedule(self, ctx: PassContext) -> tuple[int, float]:
        options = ctx.options
        iterations = self.iterations
        if iterations is None:
            iterations = options.calibration_iterations if options is not None else 50
        factor = self.factor
        if factor is None:
            factor = options.bias_calibration_factor if options is not None else 0.05
        if iterations < 1:
            raise PassError(f"expected at least 1, found {iterations}", place=f"{self.name}, iterations")
        if not 0 < factor <= 1:
            raise PassError(f"expected above 0 and at most 1, found {factor}", place=f"{self.name}, factor")
        return iterations, factor


def _is_quantized(node: Node) -> bool:
    operands = mac_operands(node)
    return (
        operands is not None
        and operands.weights.type.quant is not None
        and operands.activation.type.quant is not None
    )


def _objection(node: Node, reference: Graph) -> str | None:
    """Why a bias cannot be calibrated in closed form."""
    if node.op == "MatMul":
        return "MatMul has no bias operand."
    if (reason := rows_objection(node)) is not None:
        return reason
    if node.op == "Gemm" and not is_plain_product(node):
        return "it is no plain product; alpha, beta and transA would have to be 1, 1 and 0."
    return None if original_weights(node, reference) is not None else NO_TWIN


def _mean_objection(layer: Layer, reference: Graph) -> str | None:
    """Why the mean of an output cannot steer the bias."""
    node = layer.nodes[0]
    if node.op == "MatMul":
        return "MatMul has no bias operand."
    if layer.output.name not in reference.values:
        return NO_TWIN
    operands, shape = mac_operands(node), layer.output.type.shape
    assert operands is not None  # noqa: S101 - the caller lists products
    if shape is None or len(shape) < 2 or shape[1] != output_channels(node, operands):
        return "its output does not have one channel for each bias."
    return None


def _present_bias(node: Node) -> Array:
    operands = mac_operands(node)
    assert operands is not None  # noqa: S101 - the caller lists products
    count = output_channels(node, operands)
    value = operands.bias
    if value is None or value.constant is None:
        return np.zeros(count)
    data = value.constant.array()
    real = data if value.type.quant is None else dequantize(data, value.type.quant)
    return np.broadcast_to(real.reshape(-1), (count,)).astype(np.float64)


def _bias_state(node: Node) -> tuple[object, ...]:
    value = node.operand(2)
    return () if value is None else (value.constant, value.type)


def _set(graph: Graph, node: Node, bias: Array, request: SolveRequest) -> int:
    before = _bias_state(node)
    requantize_bias(graph, node, bias, request)
    return int(_bias_state(node) != before)


def _mean_session(graph: Graph, names: Sequence[str], *, quantized: bool) -> tuple[Session, dict[str, str]]:
    """A session that returns the means of channels over positions, and what it calls them."""
    probe = graph.clone()
    outputs: dict[str, str] = {}
    for name in names:
        value = probe.values[name]
        op = "GlobalAveragePool" if (value.type.rank or 0) > 2 else "Identity"
        made = probe.add_node(
            op, [value], [(probe.fresh_name(f"{name}_mean"), TensorType(value.type.dtype, None))]
        )
        outputs[name] = made.output.name
    return Session(to_model(probe, quantized=quantized, outputs=list(outputs.values()))), outputs


def _means(
    graph: Graph, names: Sequence[str], frames: DataSource, *, quantized: bool
) -> Iterator[dict[str, Array]]:
    session, outputs = _mean_session(graph, names, quantized=quantized)
    for _, results in in_flight(session, frames.frames(), lambda frame: frame.feeds):
        yield {name: _by_channel(results[outputs[name]]) for name in names}


def _by_channel(array: Array) -> Array:
    """The mean of every channel of one frame, float64 ``[C]``."""
    mean: Array = array.astype(np.float64).mean(axis=tuple(a for a in range(array.ndim) if a != 1))
    return mean
