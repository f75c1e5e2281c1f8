"""What a compile has to tell, as frozen data; JSON is this, field by field, under a schema version."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from lowtide.diagnostics import Diagnostic

SCHEMA_VERSION = 1


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
        cached: whether the statistics came from the cache.
    """

    data: str
    frames: int
    array_frames: int
    synthetic: bool
    calibrator: str
    cached: bool


@attrs.frozen(kw_only=True)
class LayerReport:
    """One layer. Figures are ``None`` where the layer has no codes or was not measured.

    Attributes:
        name: its last output tensor.
        nodes: the original nodes that were fused into it.
        reason: why it runs on the host; empty on the accelerator.
        bits: width of its output codes.
        weight_bits: width of its weight codes.
        dtype: of its output codes.
        scale: of its output.
        range: the calibrated range of its output.
        sqnr_isolated_db: with this layer alone quantized.
        sqnr_cumulative_db: with everything up to here quantized.
        max_error: largest cumulative difference, in the units of the tensor.
    """

    name: str
    operator: str
    layer_type: str
    nodes: tuple[str, ...]
    placement: str
    reason: str = ""
    subgraph: int | None = None
    bits: int | None = None
    weight_bits: int | None = None
    weight_scales: int = 0
    dtype: str = ""
    scale: float | None = None
    zero_point: int | None = None
    range: tuple[float, float] | None = None
    sqnr_isolated_db: float | None = None
    sqnr_cumulative_db: float | None = None
    max_error: float | None = None


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
        output_share: from end to end, the share of codes that differ.
        output_largest: from end to end, the largest difference.
    """

    arithmetic: str
    layers: int
    layer_share: float
    layer_largest: int
    output_share: float
    output_largest: int


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
    """Seconds of one stage: wall time and process CPU time."""

    stage: str
    wall: float
    cpu: float


@attrs.frozen(kw_only=True)
class Report:
    """Everything.

    Attributes:
        ranges_from: what was known before calibration: a file, or the model itself; empty when nothing was.
        measured_frames: how many frames the error figures rest on.
        peak_memory_mb: the largest resident size of the process so far, in MiB; ``None`` where the system
            does not tell.
        agreement: how exact execution and the emulation differ, ``None`` where nothing was measured.
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
    layers: tuple[LayerReport, ...]
    outputs: tuple[OutputReport, ...]
    agreement: AgreementReport | None = None
    passes: tuple[PassReport, ...]
    diagnostics: tuple[Diagnostic, ...]
    times: tuple[StageTime, ...]
    peak_memory_mb: float | None
    sections: Mapping[str, str] = attrs.field(factory=dict[str, str])
