"""Reports to look at: of the demo network, and of a deep one with everything that a report can have."""

from __future__ import annotations

import attrs
import numpy as np

import lowtide
from lowtide.ir import Constant, Graph, TensorType, Value
from lowtide.ir.node import AttributeValue
from lowtide.report import Report
from lowtide.report.model import Finding, FrontPoint, LayerReport, StepReport
from support import CALIBRATION, MODEL
from unit.report.reports import FULL

BLOCKS = 99
START_MS = 30.0
WIDE = "stage1/block30/depthwise/relu"
WIDE_WEIGHTS = "stage2/block40/expand/relu"
NASTY = 'stage0/</script><b title="&amp;">block'


def demo() -> Report:
    return lowtide.compile(MODEL, target="am68a", data=str(CALIBRATION), frames=8).report


def odd() -> Report:
    """Figures that are infinite, undefined or tiny, and names that look like markup."""
    return FULL


def bare() -> Report:
    """Nothing was measured, and there is not even a layer."""
    return attrs.evolve(
        FULL,
        layers=(),
        inputs=(),
        outputs=(),
        calibration=None,
        measured_frames=0,
        latency_ms=None,
        findings=(),
        steps=(),
        front=(),
        passes=(),
        diagnostics=(),
        options=(),
        sections={},
    )


def deep() -> Report:
    """About 300 layers with skips, one in 16 bits, one with such weights alone, two on the host, and more.

    Latency, findings, steps and the front are made up: what they look like is tested here, not what they say.
    """
    options = {
        "advanced_options:output_feature_16bit_names_list": WIDE,
        "advanced_options:params_16bit_names_list": WIDE_WEIGHTS,
        "accuracy_level": 0,
    }
    report = lowtide.compile(_deep(), target="am68a", data="random:1", options=options).report
    layers = tuple(
        attrs.evolve(
            layer,
            latency_ms=0.01 + (index * 37 % 100) / 100,
            bound="host" if layer.placement == "host" else ("overhead", "compute")[index % 2],
        )
        for index, layer in enumerate(report.layers)
    )
    return attrs.evolve(
        report,
        layers=layers,
        latency_ms=sum(layer.latency_ms or 0.0 for layer in layers) + START_MS,
        findings=tuple(_findings(layers)),
        steps=(
            StepReport(step="equalize", sqnr_before_db=20.0, sqnr_after_db=24.0, kept=True, seconds=1.0),
            StepReport(step="correct-bias", sqnr_before_db=24.0, sqnr_after_db=23.5, kept=False, seconds=1.0),
        ),
        front=tuple(
            FrontPoint(
                latency_ms=10.0 + i,
                error_db=20 + 5 * np.log1p(i),
                label=f"{i} layers",
                chosen=i == 3,
                measured=i % 2 == 1,
            )
            for i in range(8)
        ),
        sections={"a plugin's section": "first line\nsecond line"},
    )


def _findings(layers: tuple[LayerReport, ...]) -> list[Finding]:
    return [
        Finding(
            code="LT891",
            layer=layer.name,
            cause="The range is dominated by outliers.",
            evidence="99.9 % of the elements use 12 of 255 codes.",
            remedy="--set calibrator=percentile",
        )
        for layer in layers[10:200:10]
    ]


def _deep() -> Graph:
    graph, rng = Graph("deep"), np.random.default_rng(0)

    def kind(channels: int) -> TensorType:
        return TensorType("float32", [1, channels, 8, 8])

    def conv(x: Value, name: str, channels: int, groups: int = 1) -> Value:
        shape = (channels, x.type.static_shape[1] // groups, 3, 3)
        spread = np.exp(rng.standard_normal((channels, 1, 1, 1)))
        weights = (rng.standard_normal(shape) * spread / np.sqrt(9 * shape[1])).astype(np.float32)
        w = graph.add_constant(f"{name}/weights", Constant.of(weights))
        attributes: dict[str, AttributeValue] = {"pads": (1, 1, 1, 1), "group": groups}
        made = graph.add_node("Conv", [x, w], [(f"{name}/conv", kind(channels))], attributes).output
        return graph.add_node("Relu", [made], [(f"{name}/relu", kind(channels))]).output

    x = conv(graph.add_input("image", kind(3)), "stem", 4)
    for block in range(BLOCKS):
        name = f"stage{block // 20}/block{block}" if block != 5 else NASTY
        inner = conv(conv(x, f"{name}/expand", 4), f"{name}/depthwise", 4, 4)
        x = graph.add_node("Add", [x, inner], [(f"{name}/add", kind(4))]).output
        if block % 50 == 25:
            x = graph.add_node("Erf", [x], [(f"{name}/erf", kind(4))]).output
    graph.set_outputs([x])
    return graph
