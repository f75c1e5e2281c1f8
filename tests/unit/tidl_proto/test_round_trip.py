"""The proto and the network beside it belong together: read again, they give the same codes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

import lowtide
from lowtide.ir import Array
from lowtide.plugin import discover

REGISTRY = discover()

NETWORKS = {
    "behind an input that only its frames keep above zero": """
        moved = Transpose <perm=[0, 3, 1, 2]> (x)
        y = Conv (moved, w)
    """,
    "behind a layer on the host": """
        moved = Transpose <perm=[0, 3, 1, 2]> (x)
        hosted = Round (moved)
        part = Slice (hosted, zero, three, one)
        y = Conv (part, w)
    """,
}


def network(body: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1, 4, 4, 3] x) => (float[1, 1, 4, 4] y)
        <float[1, 3, 1, 1] w = {{0.5, -0.25, 0.75}},
         int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] three = {{3}}>
        {{ {body} }}
    """)


def frames() -> dict[str, Array]:
    return {"x": np.random.default_rng(4).uniform(0, 9, (4, 4, 4, 3)).astype(np.float32)}


def compile_to(
    folder: Path,
    model: Path,
    target: str,
    *,
    data: object = None,
    options: Mapping[str, object] | None = None,
) -> lowtide.CompileResult:
    result = lowtide.compile(model, target=target, data=data, options=options, registry=REGISTRY)
    result.save(folder)
    return result


def codes(result: lowtide.CompileResult) -> dict[str, object]:
    return {name: (value.type, value.constant) for name, value in result.graph.values.items()}


@pytest.mark.parametrize("target", ["am68a", "tda4vm"])
@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in NETWORKS.items()])
def test_unsigned_codes_of_what_may_be_negative_survive_the_round_trip(
    body: str, target: str, tmp_path: Path
) -> None:
    onnx.save(network(body), tmp_path / "net.onnx")
    first = compile_to(tmp_path / "out", tmp_path / "net.onnx", target, data=frames())
    proto = {"quant_params_proto_path": str(tmp_path / "out" / "quant_params.prototxt")}
    kept = json.loads((tmp_path / "out" / "tidl_options.json").read_text("utf-8"))
    again = tmp_path / "out" / "quant_params.onnx"
    second = compile_to(tmp_path / "again", again, target, options=kept | proto)
    assert [layer.name for layer in second.report.layers] == [layer.name for layer in first.report.layers]
    assert codes(second) == codes(first)
