"""On networks with trained weights, reductions inside the network see what ONNX Runtime returns."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lowtide.calibrate import collect
from lowtide.compiler.run import input_specs
from lowtide.data import DataSource, open_data
from lowtide.frontend import ImportRequest, load_model
from lowtide.passes import PassContext, parse_pipeline, run_pipeline
from lowtide.plugin import discover
from lowtide.runtime import Session, to_model
from lowtide.target import load_target
from lowtide_plugins.calibrators.histogram import Histogram

pytestmark = pytest.mark.real

MODELS = [
    "mobilenet_v1_0.25_224.onnx",
    "mobilenet_v2_1.0_224_dequant_ptq.onnx",
    "cifar10_resnet20.onnx",
    "ultraface_rfb_320.onnx",
]
FRAMES = 3


@pytest.fixture(params=MODELS)
def prepared(request: pytest.FixtureRequest) -> tuple[Any, DataSource]:
    folder = os.environ.get("LOWTIDE_REAL_DATA")
    if not folder:
        pytest.skip("LOWTIDE_REAL_DATA is not set")
    registry = discover()
    graph = load_model(Path(folder) / "models" / request.param, registry, ImportRequest())
    target = load_target("generic", registry)
    run_pipeline(
        graph, parse_pipeline(target.prepare, registry), PassContext(target=target), registry=registry
    )
    return graph, open_data(f"random:{FRAMES}", input_specs(graph))


def test_extremes_are_those_of_the_exposed_tensors_to_the_last_bit(prepared: tuple[Any, DataSource]) -> None:
    graph, source = prepared
    collected = collect(graph, source, [])
    names = [name for name in collected.infos if graph.values[name].producer is not None]
    session = Session(to_model(graph, quantized=False, outputs=names))
    seen = [session.run(frame.feeds) for frame in source.frames()]
    for name in names:
        info, extremes = collected.infos[name], collected.minmax(name)
        stacked = np.stack([run[name] for run in seen])
        channels = 0 if info.channel_axis is None else 1 + info.channel_axis  # behind the frames
        rows = np.moveaxis(stacked, channels, 0).reshape(info.channels, -1)
        np.testing.assert_array_equal(extremes.max, rows.max(axis=1), err_msg=name)
        low = rows.min(axis=1)
        if info.nonnegative:
            assert low.min() >= 0, name
        else:
            np.testing.assert_array_equal(extremes.min, low, err_msg=name)


def test_frames_seen_whole_and_frames_reduced_inside_give_the_same_extremes(
    prepared: tuple[Any, DataSource],
) -> None:
    graph, source = prepared
    inside = collect(graph, source, [Histogram], array_frames=0)
    whole = collect(graph, source, [Histogram])
    for name in inside.infos:
        np.testing.assert_array_equal(inside.minmax(name).max, whole.minmax(name).max, err_msg=name)
        np.testing.assert_array_equal(inside.minmax(name).min, whole.minmax(name).min, err_msg=name)
