"""What a diagnosis sees and what it returns."""

from __future__ import annotations

import abc
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import attrs

from lowtide.calibrate import Range
from lowtide.calibrate.collect import Collected
from lowtide.diagnosis.rank import Cost
from lowtide.ir import Graph, Layer, Value, layers
from lowtide.measure import Histogram, LayerError
from lowtide.options import CompileOptions
from lowtide.precision import PrecisionPlan
from lowtide.quantize.solve import SolveRequest
from lowtide.report.model import Finding
from lowtide.target import Placement, ScaleRule, Target

CODE = re.compile(r"LT\d{3}")


@attrs.frozen
class Cause:
    """One entry of the closed list of causes.

    Attributes:
        code: ``LTnnn``, of this cause alone.
        text: the cause in words, as findings have it.
        threshold: from when on it is named.
    """

    code: str
    text: str
    threshold: str

    def finding(self, layer: str, evidence: str, remedy: str) -> Finding:
        """That a layer suffers from it."""
        return Finding(code=self.code, layer=layer, cause=self.text, evidence=evidence, remedy=remedy)


@attrs.frozen(kw_only=True)
class NoiseParts:
    """The noise at the output of a layer that alone is quantized, and what its parts make by themselves.

    All are sums of squares over the measured frames; the parts need not add up to the total.

    Attributes:
        signal: of the float output.
        total: of the whole layer.
        inputs: of its inputs as codes.
        weights: of its constants as codes.
        bias: of its bias alone as codes, which is a part of that of the constants.
        clipping: of output elements that no code reaches.
        rounding: of the output rounded to codes.
    """

    signal: float
    total: float
    inputs: float
    weights: float
    bias: float
    clipping: float
    rounding: float

    def share(self, part: float) -> float:
        """A part by the sum of inputs, weights, clipping and rounding, 0 to 1."""
        parts = self.inputs + self.weights + self.clipping + self.rounding
        return part / parts if parts > 0 else 0.0


def _derived(make: Callable[[DiagnosisView], Mapping[str, Layer]]) -> Any:
    """A field that follows from the others."""
    return attrs.field(init=False, repr=False, default=attrs.Factory(make, takes_self=True))


def _by_name(graph: Graph) -> dict[str, Layer]:
    return {layer.name: layer for layer in layers(graph)}


def _makers(found: Mapping[str, Layer]) -> dict[str, Layer]:
    return {value.name: layer for layer in found.values() for value in layer.outputs}


def _origins(found: Mapping[str, Layer]) -> dict[str, Layer]:
    return {
        name: layer
        for layer in found.values()
        for node in layer.nodes
        for name in (*node.location.tensors, *(value.name for value in node.outputs))
    }


@attrs.frozen(kw_only=True, eq=False)
class DiagnosisView:
    """All that is known at the end of a compile; nothing of it may be changed.

    Attributes:
        graph: the quantized network.
        reference: the float network that it was made from; layers have the same names.
        imported: the network as it stood in the model file.
        rule: the scale rule in force.
        ranges: of activations, by tensor.
        prequantized: whether the model brought its codes.
        calibrated: the tensors whose ranges come from frames.
        calibrator: the text of the calibrator.
        pipelines: the texts of the pipelines that ran, by stage.
        statistics: of the float network; ``None`` when nothing was calibrated.
        solved: what the solver was given; ``None`` for a network that brought its codes.
        frames: how many frames were measured.
        errors: by layer, for every layer that was measured.
        histograms: of float tensors, by name, see `lowtide.measure.spans`.
        outputs_db: SQNR of the worst network output.
        worst: the layers that cost most, the worst first.
        parts: where their noise comes from, by layer.
        available: what plugins provide, names by the kind of contribution, as ``available["pass"]``.
        layers: of the quantized network by name, in executable order.
        reference_layers: of the float network.
        makers: the layer that makes each tensor of the quantized network, by tensor name.
        origins: the layer that a node of the model file became part of, by the tensor that the node makes.
    """

    graph: Graph
    reference: Graph
    imported: Graph
    target: Target
    rule: ScaleRule
    placement: Placement
    plan: PrecisionPlan
    options: CompileOptions
    ranges: Mapping[str, Range]
    prequantized: bool
    calibrated: frozenset[str]
    calibrator: str
    pipelines: Mapping[str, str]
    statistics: Collected | None
    solved: SolveRequest | None
    frames: int
    errors: Mapping[str, LayerError]
    histograms: Mapping[str, Histogram]
    outputs_db: float
    worst: tuple[Cost, ...]
    parts: Mapping[str, NoiseParts]
    available: Mapping[str, frozenset[str]]

    layers: Mapping[str, Layer] = _derived(lambda view: _by_name(view.graph))
    reference_layers: Mapping[str, Layer] = _derived(lambda view: _by_name(view.reference))
    makers: Mapping[str, Layer] = _derived(lambda view: _makers(view.layers))
    origins: Mapping[str, Layer] = _derived(lambda view: _origins(view.layers))

    def layer_of(self, value: Value) -> str:
        """The name of the layer that makes a tensor; that of the tensor for an input of the network."""
        maker = self.makers.get(value.name)
        return maker.name if maker else value.name


@attrs.frozen(kw_only=True)
class Diagnosis(abc.ABC):
    """Knows one family of causes. Subclasses are decorated with ``@attrs.frozen(kw_only=True)``.

    The same view must give the same findings.
    """

    name: ClassVar[str]
    causes: ClassVar[tuple[Cause, ...]]
    """The closed list of what `find` may name."""

    @abc.abstractmethod
    def find(self, view: DiagnosisView) -> Iterable[Finding]:
        """Name causes, with figures as evidence and an option to set, as ``key=value``, as remedy.

        A layer in a finding is a layer of the network, or an input of it.
        """
