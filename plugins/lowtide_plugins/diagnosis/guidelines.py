"""What the vendor advises, as rules on the model.

Source: the vendor's published advice on post-training quantization: a weight decay of 1e-4, a batch
normalization behind every convolution but the last and above all behind depthwise ones, and 16 bits for the
first and the last convolution of networks that give numbers rather than classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

import attrs
import numpy as np

from lowtide.diagnosis import Cause, Diagnosis, DiagnosisView
from lowtide.ir import Layer, Node, Value
from lowtide.quantize.operands import mac_operands
from lowtide.report.model import Finding
from lowtide_plugins.diagnosis import remedies

LARGE = 15.0
FAR = 16.0
"""A weight above `LARGE` that is also above `FAR` times the median one is an outlier.

Source: the vendor's published training-side simulation.
"""

MOST = 0.5
"""The share of convolutions with a batch normalization from which on the others are missing one.

A file without any was exported with all of them folded, which shows nothing.
"""

NARROW = 8
GOOD_DB = 40.0
"""Output SQNR from which on the ends of a network are wide enough."""

DEPTHWISE = Cause(
    "LT971", "no batch normalization behind a depthwise convolution", "half of the others have one"
)
CONVOLUTION = Cause(
    "LT972",
    "no batch normalization behind a convolution",
    "half of the others have one, and it is one of the worst",
)
DECAY = Cause(
    "LT973", "weights grown large for want of weight decay", "one is above 15 and 16 times the median"
)
HEAD = Cause("LT974", "regression head in 8 bits", "the outputs have less than 40 dB")
FIRST = Cause(
    "LT975", "first convolution of a regression network in 8 bits", "the outputs have less than 40 dB"
)

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
PASSING = frozenset({"Identity", "Dropout", "Add", "Sum", "Concat", "Pad", "AveragePool", "MaxPool"})
"""Operators between a convolution and its batch normalization."""

MOVES = frozenset({"Reshape", "Transpose", "Flatten", "Concat", "Slice", "Squeeze", "Unsqueeze", "Identity"})
"""Operators between the last convolution and an output that gives its numbers."""


@attrs.frozen(kw_only=True)
class Guidelines(Diagnosis):
    """Checks the model against the vendor's advice."""

    name: ClassVar[str] = "guidelines"
    causes: ClassVar[tuple[Cause, ...]] = (DEPTHWISE, CONVOLUTION, DECAY, HEAD, FIRST)

    def find(self, view: DiagnosisView) -> Iterable[Finding]:
        """See `Diagnosis.find`."""
        yield from _normalization(view)
        yield from _decay(view)
        yield from _ends(view)


def _normalization(view: DiagnosisView) -> Iterator[Finding]:
    convolutions = [node for node in view.imported if node.op in CONVOLUTIONS]
    bare = [node for node in convolutions if not _reaches(node, "BatchNormalization", PASSING)]
    count = len(convolutions) - len(bare)
    if not convolutions or count < MOST * len(convolutions):
        return
    worst = {cost.layer for cost in view.worst}
    for node in bare:
        layer = _layer_of(view, node)
        if layer is None or not _is_narrow(layer) or not _feeds_another(node):
            continue
        operands = mac_operands(node)
        depthwise = operands is not None and operands.depthwise
        if not depthwise and layer.name not in worst:
            continue
        error = view.errors.get(layer.name)
        alone = error.isolated.sqnr_db if error and error.isolated else None
        shown = "" if alone is None else f"; {alone:.1f} dB alone"
        cause = DEPTHWISE if depthwise else CONVOLUTION
        evidence = (
            f"{count} of {len(convolutions)} convolutions have one behind them, this one has not{shown}"
        )
        yield cause.finding(layer.name, evidence, remedies.wider_output(view, layer.name))


def _decay(view: DiagnosisView) -> Iterator[Finding]:
    for node in view.imported:
        operands, layer = mac_operands(node), _layer_of(view, node)
        if operands is None or operands.weights.constant is None or layer is None:
            continue
        if view.plan.weights.get(layer.name) != NARROW:
            continue
        sizes = np.abs(operands.weights.constant.array().astype(np.float64)).ravel()
        largest, median = float(sizes.max(initial=0.0)), float(np.median(sizes)) if sizes.size else 0.0
        if largest > LARGE and largest > FAR * median:
            evidence = f"the largest weight in the file is {largest:.3g}, the median {median:.3g}"
            yield DECAY.finding(layer.name, evidence, remedies.wider_parameters(view, layer.name))


def _ends(view: DiagnosisView) -> Iterator[Finding]:
    if view.outputs_db >= GOOD_DB:
        return
    heads = [layer for value in view.imported.outputs for layer in _heads(view, value)]
    narrow = [layer for layer in dict.fromkeys(heads) if _is_narrow(layer)]
    for layer in narrow:
        evidence = f"an output gives its numbers; the worst output has {view.outputs_db:.1f} dB"
        yield HEAD.finding(layer.name, evidence, remedies.wider_output(view, layer.name))
    first = next((layer for layer in view.layers.values() if layer.op in CONVOLUTIONS), None)
    if heads and first is not None and first not in heads and _is_narrow(first):
        evidence = f"outputs of the network are numbers; the worst has {view.outputs_db:.1f} dB"
        yield FIRST.finding(first.name, evidence, remedies.wider_output(view, first.name))


def _heads(view: DiagnosisView, output: Value) -> Iterator[Layer]:
    """The convolutions whose numbers an output is, with more than one position; not behind a global pool."""
    waiting, seen = [output], set[Value]()
    while waiting:
        value = waiting.pop()
        maker = value.producer
        if maker is None or value in seen:
            continue
        seen.add(value)
        if maker.op in MOVES:
            waiting += [source for source in maker.inputs if source is not None]
        elif maker.op in CONVOLUTIONS and _positions(value) > 1 and (layer := _layer_of(view, maker)):
            yield layer


def _positions(value: Value) -> int:
    return int(np.prod([dim or 2 for dim in (value.type.shape or ())[2:]], dtype=np.int64))


def _is_narrow(layer: Layer) -> bool:
    quant = layer.output.type.quant
    return quant is not None and quant.bits == NARROW


def _layer_of(view: DiagnosisView, node: Node) -> Layer | None:
    """The layer that a node of the model file became part of, on the accelerator."""
    found = next((layer for value in node.outputs if (layer := view.origins.get(value.name))), None)
    return found if found is not None and view.placement.on_accelerator(found.name) else None


def _reaches(node: Node, op: str, through: Iterable[str]) -> bool:
    """Whether an operator stands behind a node, with none but some operators between."""
    waiting, seen = [node], {node}
    while waiting:
        for user in (user for value in waiting.pop().outputs for user in value.users):
            if user.op == op:
                return True
            if user.op in through and user not in seen:
                seen.add(user)
                waiting.append(user)
    return False


def _feeds_another(node: Node) -> bool:
    """Whether another convolution or product stands somewhere behind a node."""
    waiting, seen = [node], {node}
    while waiting:
        for user in (user for value in waiting.pop().outputs for user in value.users):
            if user.op in CONVOLUTIONS | {"Gemm", "MatMul"}:
                return True
            if user not in seen:
                seen.add(user)
                waiting.append(user)
    return False
