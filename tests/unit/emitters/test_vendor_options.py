"""What ``tidl_options.json`` says about where layers run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lowtide
from lowtide.ir import Graph, parse_graph
from lowtide.plugin import discover

REGISTRY = discover()
DENIED, ALLOWED = "deny_list:layer_name", "allow_list:layer_name"


def detector() -> Graph:
    """A head of boxes and scores, which are put into one tensor at the end; a Round in front."""
    return parse_graph("""
    graph "n" {
    input %x: float32[1, 1, 4, 4]
    const %w: float32[4, 1, 1, 1] = [1.0, 0.5, -1.0, -0.5]
    const %v: float32[4, 1, 1, 1] = [1.0, 0.25, -1.0, -0.75]
    const %s: int64[3] = [1, 8, 16]
    %r: float32[1, 1, 4, 4] = Round(%x) name "rounded"
    %b: float32[1, 4, 4, 4] = Conv(%r, %w) name "boxes"
    %c: float32[1, 4, 4, 4] = Conv(%r, %v) name "classes"
    %p: float32[1, 4, 4, 4] = Sigmoid(%c) name "scores"
    %j: float32[1, 8, 4, 4] = Concat(%b, %p) {axis=1} name "joined"
    %y: float32[1, 8, 16] = Reshape(%j, %s) name "reshaped"
    return %y
    }
    """)


def written(folder: Path, model: Graph | Path, options: Mapping[str, object]) -> tuple[Any, Any]:
    result = lowtide.compile(model, target="am68a", data="random:2", options=options, registry=REGISTRY)
    return result, json.loads((result.save(folder) / "tidl_options.json").read_text("utf-8"))


def places(result: lowtide.CompileResult) -> dict[str, str]:
    return {entry.layer: entry.device for entry in result.placement.assignments}


def codes(result: lowtide.CompileResult) -> dict[str, object]:
    return {name: (value.type, value.constant) for name, value in result.graph.values.items()}


def test_what_the_device_could_run_and_lowtide_keeps_on_the_host_is_denied_to_the_vendors_tool(
    tmp_path: Path,
) -> None:
    result, options = written(tmp_path / "out", detector(), {})
    assert [name for name, place in places(result).items() if place == "host"] == ["r", "j", "y"]
    # The device cannot round, so nobody needs to say it.
    assert options[DENIED] == "joined, reshaped"


def test_the_denials_of_the_user_stay_in_front(tmp_path: Path) -> None:
    _, options = written(tmp_path / "out", detector(), {DENIED: "reshaped, scores"})
    assert options[DENIED] == "reshaped, scores, joined"


def test_an_allow_list_loses_what_stays_on_the_host(tmp_path: Path) -> None:
    _, options = written(tmp_path / "out", detector(), {ALLOWED: "boxes, classes, scores, joined"})
    assert options[ALLOWED] == "boxes, classes, scores"
    assert DENIED not in options


def test_nothing_is_denied_where_all_that_the_device_can_run_is_on_it(tmp_path: Path) -> None:
    _, options = written(tmp_path / "out", detector(), {"post_processing": "accelerator"})
    assert DENIED not in options


def test_the_denials_give_the_proto_and_its_network_the_same_placement_and_codes(tmp_path: Path) -> None:
    first, options = written(tmp_path / "out", detector(), {})
    options["quant_params_proto_path"] = str(tmp_path / "out" / "quant_params.prototxt")
    second, again = written(tmp_path / "again", tmp_path / "out" / "quant_params.onnx", options)
    assert places(second) == places(first)
    assert again[DENIED] == options[DENIED]
    assert codes(second) == codes(first)
