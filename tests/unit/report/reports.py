"""A report made by hand, with everything that is hard to print."""

from __future__ import annotations

import math

from lowtide.diagnostics import Diagnostic, Severity
from lowtide.report.model import (
    CalibrationReport,
    DeviceReport,
    Finding,
    FrontPoint,
    HistogramReport,
    InputReport,
    LayerReport,
    ModelReport,
    OptionReport,
    OutputReport,
    PassReport,
    Report,
    SpreadReport,
    StageTime,
    StepReport,
)

LONG = "backbone/stage_4/block_17/inverted_residual/expand_and_project_pointwise_convolution/BiasAdd_output_0"

LAYERS = (
    LayerReport(
        name="stem/relu",
        operator="Conv+Relu",
        layer_type="TIDL_ConvolutionLayer",
        nodes=("stem/conv", "stem/relu"),
        inputs=("image",),
        placement="accelerator",
        subgraph=0,
        bits=8,
        weight_bits=8,
        weight_scales=16,
        dtype="uint8",
        scale=0.0235,
        zero_point=0,
        range=(0.0, 6.0),
        clip=(0.0, 5.9925),
        histogram=HistogramReport(low=0.0, high=6.0, counts=(5, 3, 0, 1), above=2),
        weights=SpreadReport(channels=3, largest=(1.5, 0.25, 0.0), scale=(0.0118, 0.00197, 0.0118)),
        sqnr_isolated_db=44.25,
        sqnr_cumulative_db=41.5,
        max_error=0.012,
        latency_ms=0.75,
        bound="compute",
    ),
    LayerReport(
        name=LONG,
        operator="Conv",
        layer_type="TIDL_ConvolutionLayer",
        nodes=(LONG,),
        inputs=("stem/relu", "image"),
        placement="accelerator",
        subgraph=0,
        bits=16,
        weight_bits=16,
        dtype="int16",
        range=(-1.234567e-7, 9.87654321e12),
        sqnr_isolated_db=math.inf,
        sqnr_cumulative_db=-math.inf,
        max_error=math.inf,
        latency_ms=0.0004,
        bound="memory [DDR]",
    ),
    LayerReport(
        name="[bold]gate[/]",
        operator="Sigmoid",
        layer_type="TIDL_SigmoidLayer",
        nodes=("gate",),
        placement="accelerator",
        subgraph=1,
        bits=8,
        dtype="int8",
        range=(-1.0, 1.0),
        sqnr_isolated_db=math.nan,
        sqnr_cumulative_db=12.0,
    ),
    LayerReport(
        name="scores",
        operator="Softmax",
        layer_type="TIDL_SoftMaxLayer",
        nodes=("softmax",),
        placement="host",
        reason="it works along width or height only (axis in (-1, -2))",
        sqnr_cumulative_db=20.0,
    ),
)

FULL = Report(
    lowtide_version="1.2.3",
    model=ModelReport(
        file="net.onnx",
        digest="ab12",
        nodes=7,
        layers=4,
        parameters=1234567,
        inputs={"image": "float32[1, 3, 8, 8]"},
        outputs={"scores": "float32[1, 10]"},
    ),
    device=DeviceReport(
        name="acme",
        title="ACME One (rev. [b])",
        scale_type=4,
        scale_rule="asymmetric",
        accelerator_layers=3,
        host_layers=1,
        subgraphs=2,
    ),
    options=(
        OptionReport(name="tensor_bits", value="8", origin="default"),
        OptionReport(
            name="accuracy_level", value="0", origin="--set", overrode=("1 (net.yaml)",), note="no effect [x]"
        ),
    ),
    calibration=CalibrationReport(
        data="frames/", frames=100, array_frames=64, synthetic=True, calibrator="minmax of acme"
    ),
    measured_frames=8,
    latency_ms=1.25,
    inputs=(InputReport(name="image", dtype="uint8", scale=1.0, zero_point=0, range=(0.0, 255.0)),),
    layers=LAYERS,
    outputs=(
        OutputReport(name="scores", sqnr_db=28.125, cosine=0.99923456, max_error=0.03125),
        OutputReport(name="zero", sqnr_db=math.inf, cosine=math.nan, max_error=0.0),
    ),
    findings=(
        Finding(
            code="LT891",
            layer=LONG,
            cause="the range is dominated by outliers [sic]",
            evidence="99.9 % of the elements use 12 of 255 codes",
            remedy="--set calibrator=percentile",
        ),
        Finding(code="LT895", layer="stem/relu", cause="dead channels", evidence="1 of 3", remedy=""),
    ),
    steps=(
        StepReport(step="equalize", sqnr_before_db=24.0, sqnr_after_db=28.125, kept=True, seconds=1.5),
        StepReport(
            step="correct-bias{frames=[8]}",
            sqnr_before_db=28.125,
            sqnr_after_db=28.0,
            kept=False,
            seconds=0.25,
        ),
    ),
    front=(
        FrontPoint(latency_ms=2.5, error_db=41.0, label="all", chosen=False, number=3, measured=False),
        FrontPoint(latency_ms=1.0, error_db=14.0, label="nothing", chosen=False, number=1, measured=True),
        FrontPoint(
            latency_ms=1.25, error_db=28.125, label="2 layers [a, b]", chosen=True, number=2, measured=True
        ),
    ),
    passes=(
        PassReport(
            text="fold-batch-norm{leading=false}",
            stage="prepare",
            changed=True,
            counters={"folded": 3, "skipped": 0},
            refusals=("bn7: in training mode", "bn9: no neighbour"),
            seconds=0.25,
        ),
        PassReport(text="prune", stage="prepare", changed=False, counters={}, refusals=(), seconds=0.125),
    ),
    diagnostics=(
        Diagnostic(Severity.INFO, "LT451", "image", "the batch size is open and becomes 1"),
        Diagnostic(
            Severity.WARNING, "LT755", "random:100", "the data is random", "give real frames with --data"
        ),
    ),
    times=(
        StageTime(stage="import", wall=0.5, cpu=0.25),
        StageTime(stage="place", wall=0.01, cpu=0.01),
        StageTime(stage="collect", wall=0.02, cpu=0.01, cached=True),
    ),
    peak_memory_mb=321.5,
    sections={"a [section]": "first line\nan [unclosed tag"},
)
