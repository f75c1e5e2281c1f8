"""What a compile has to tell, as frozen data; JSON is this, field by field, under a schema version."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from lowtide.diagnostics import Diagnostic

SCHEMA_VERSION = 2


@attrs.frozen(kw_only=True)
class ModelReport:
    """The network: nodes before and after preparing, parameters in elements."""

    file: str
    digest: str
    nodes: int
    layers: int
    parameters: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@attrs.frozen(kw_only=True)
class DeviceReport:
    """The device and the scale rule in force."""

    name: str
    title: str
    scale_type: int
    scale_rule: str
    accelerator_layers: int
    host_layers: int
    subgraphs: int


@attrs.frozen(kw_only=True)
class OptionReport:
    """One effective option.

    Attributes:
        origin: where the value comes from.
        overrode: other values that were given, as ``value (origin)``.
        note: what limits its effect here; empty when nothing does.
    """

    name: str
    value: str
    origin: str
    overrode: tuple[str, ...] = ()
    note: str = ""


@attrs.frozen(kw_only=True)
class CalibrationReport:
    """The frames and how ranges came from them.

    Attributes:
        frames: how many were seen by reductions.
        array_frames: how many of them by statistics that see whole arrays.
        synthetic: whether they are random numbers, so that every figure here says nothing about real data.
    """

    data: str
    frames: int
    array_frames: int
    synthetic: bool
    calibrator: str


@attrs.frozen(kw_only=True)
class HistogramReport:
    """How the elements of one tensor spread over the numbers that its codes and its range span.

    Attributes:
        low: lower edge of the first bin.
        high: upper edge of the last bin; all bins are equally wide.
        counts: elements in each bin, at most 64 bins.
        below: elements under `low`.
        above: elements over `high`.
    """

    low: float
    high: float
    counts: tuple[int, ...]
    below: int = 0
    above: int = 0


@attrs.frozen(kw_only=True)
class SpreadReport:
    """How the weights of one layer spread over its output channels.

    Attributes:
        channels: how many there are.
        largest: the largest magnitude among the weights of a channel, in order; with more than 256 channels
            the largest of each of 256 runs of neighbours.
        scale: one for all channels, or one for each entry of `largest`; empty for float weights.
    """

    channels: int
    largest: tuple[float, ...]
    scale: tuple[float, ...] = ()


@attrs.frozen(kw_only=True)
class InputReport:
    """One network input, as `LayerReport` has it of an output."""

    name: str
    bits: int | None = None
    width_reason: str = ""
    dtype: str = ""
    scale: float | None = None
    zero_point: int | None = None
    range: tuple[float, float] | None = None
    clip: tuple[float, float] | None = None
    histogram: HistogramReport | None = None


@attrs.frozen(kw_only=True)
class LayerReport:
    """One layer. Figures are ``None`` where the layer has no codes or was not measured.

    Attributes:
        name: its last output tensor.
        nodes: the original nodes that were fused into it.
        inputs: names of the layers and network inputs that it reads.
        reason: why it runs on the host; empty on the accelerator.
        bits: width of its output codes.
        weight_bits: width of its weight codes.
        width_reason: why the strategy gave it 16 bits; empty where it did not, or did not say.
        dtype: of its output codes.
        scale: of its output.
        range: the calibrated range of its output.
        clip: the lowest and the highest number that its output codes stand for.
        histogram: of its output in the float network, on the measured frames.
        weights: how its weights spread; ``None`` for a layer without.
        sqnr_isolated_db: with this layer alone quantized.
        sqnr_cumulative_db: with everything up to here quantized.
        max_error: largest cumulative difference, in the units of the tensor.
        latency_ms: estimated time of one frame, ``None`` where the device has no latency model.
        bound: what limits the latency, in the words of the latency model; empty without one.
    """

    name: str
    operator: str
    layer_type: str
    nodes: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    placement: str
    reason: str = ""
    subgraph: int | None = None
    bits: int | None = None
    weight_bits: int | None = None
    width_reason: str = ""
    weight_scales: int = 0
    dtype: str = ""
    scale: float | None = None
    zero_point: int | None = None
    range: tuple[float, float] | None = None
    clip: tuple[float, float] | None = None
    histogram: HistogramReport | None = None
    weights: SpreadReport | None = None
    sqnr_isolated_db: float | None = None
    sqnr_cumulative_db: float | None = None
    max_error: float | None = None
    latency_ms: float | None = None
    bound: str = ""


@attrs.frozen(kw_only=True)
class OutputReport:
    """One network output against the float network.

    Attributes:
        sqnr_db: of exact execution; of the Q/DQ emulation where there is none.
        qdq_sqnr_db: of the Q/DQ emulation, ``None`` where nothing has codes.
    """

    name: str
    sqnr_db: float
    cosine: float
    max_error: float
    qdq_sqnr_db: float | None = None


@attrs.frozen(kw_only=True)
class AgreementReport:
    """Exact execution beside the Q/DQ emulation, in codes.

    Attributes:
        arithmetic: the profile of exact execution.
        layers: how many layers were compared on the same input codes.
        layer_share: the share of their codes that differ.
        layer_largest: the largest difference among them; more than 1 is an error in one of the two.
        outputs: how many outputs have codes, which were compared from end to end; the others are float.
        output_share: the share of their codes that differ; ``None`` without any.
        output_largest: the largest difference among them; ``None`` without any.
    """

    arithmetic: str
    layers: int
    layer_share: float
    layer_largest: int
    outputs: int
    output_share: float | None
    output_largest: int | None


@attrs.frozen(kw_only=True)
class Finding:
    """Why one layer loses accuracy, and what to do about it.

    Attributes:
        code: ``LTnnn`` of the cause.
        layer: the name of the layer.
        cause: one of a closed list of causes, in words.
        evidence: the measured figures that speak for the cause.
        remedy: the literal option to set.
    """

    code: str
    layer: str
    cause: str
    evidence: str
    remedy: str


@attrs.frozen(kw_only=True)
class StepReport:
    """One step of the accuracy recipe.

    Attributes:
        step: the pass or setting that was tried, as text.
        sqnr_before_db: of the outputs on held-out frames before the step.
        sqnr_after_db: with the step.
        kept: whether the step stayed.
        seconds: wall time.
    """

    step: str
    sqnr_before_db: float
    sqnr_after_db: float
    kept: bool
    seconds: float


@attrs.frozen(kw_only=True)
class FrontPoint:
    """One assignment of widths that mixed precision found.

    Attributes:
        latency_ms: estimated time of one frame.
        error_db: SQNR at the outputs in dB; more is better.
        label: what is in 16 bits, in a few words.
        number: what the option front_point takes for it; ``None`` for a point that is chosen and not on the
            front.
        chosen: whether the compiled network has this assignment.
        measured: whether `error_db` is that of the finished network in exact execution; else it is that of an
            emulation that leaves out what the recipe would do for these widths.
    """

    latency_ms: float
    error_db: float
    label: str
    chosen: bool
    number: int | None = None
    measured: bool = False


@attrs.frozen(kw_only=True)
class GoalReport:
    """What mixed precision was to reach, and what the compiled network reaches.

    Attributes:
        condition: as ``sqnr>=30``.
        figure: what was held against it.
        unit: of the figure, empty for a metric.
        frames: how many the figure rests on.
    """

    condition: str
    reached: bool
    figure: float
    unit: str
    frames: int


@attrs.frozen(kw_only=True)
class PassReport:
    """One pass as it ran; seconds of wall time."""

    text: str
    stage: str
    changed: bool
    counters: Mapping[str, int]
    refusals: tuple[str, ...]
    seconds: float


@attrs.frozen(kw_only=True)
class StageTime:
    """Seconds of one stage: wall time and process CPU time.

    Attributes:
        cached: whether all that it would have measured came from the cache.
    """

    stage: str
    wall: float
    cpu: float
    cached: bool = False


@attrs.frozen(kw_only=True)
class Report:
    """Everything.

    Attributes:
        ranges_from: what was known before calibration: a file, or the model itself; empty when nothing was.
        measured_frames: how many frames the error figures rest on.
        peak_memory_mb: the largest resident size of the process so far, in MiB; ``None`` where the system
            does not tell.
        inputs: the network inputs.
        latency_ms: estimated time of one frame, ``None`` where the device has no latency model.
        agreement: how exact execution and the emulation differ, ``None`` where nothing was measured.
        findings: causes of the largest errors, the worst layer first.
        steps: what the accuracy recipe tried, in order.
        goal: what mixed precision was to reach, ``None`` where nothing was.
        front: the assignments of widths that mixed precision weighed, the fastest first.
        search_passes: what the search for widths costs where nothing of it is in the cache, in runs of the
            network for each calibration frame; ``None`` without a search.
        sections: texts that plugins add, by title.
    """

    schema_version: int = SCHEMA_VERSION
    lowtide_version: str
    model: ModelReport
    device: DeviceReport
    options: tuple[OptionReport, ...]
    ranges_from: str = ""
    calibration: CalibrationReport | None
    measured_frames: int
    latency_ms: float | None = None
    inputs: tuple[InputReport, ...] = ()
    layers: tuple[LayerReport, ...]
    outputs: tuple[OutputReport, ...]
    agreement: AgreementReport | None = None
    findings: tuple[Finding, ...] = ()
    steps: tuple[StepReport, ...] = ()
    goal: GoalReport | None = None
    front: tuple[FrontPoint, ...] = ()
    search_passes: float | None = None
    passes: tuple[PassReport, ...]
    diagnostics: tuple[Diagnostic, ...]
    times: tuple[StageTime, ...]
    peak_memory_mb: float | None
    sections: Mapping[str, str] = attrs.field(factory=dict[str, str])
