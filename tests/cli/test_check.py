"""What `check` says before any compile: placement, borders, widths by name, heads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import lowtide
from lowtide.errors import OptionError
from support import CALIBRATION, MODEL, TEST, Run

OUTPUTS = "output_feature_16bit_names_list"


def listed(
    run: Run, names: str, *more: object, target: str = "am68a", option: str = OUTPUTS
) -> tuple[int, list[dict[str, Any]]]:
    outcome = run("check", MODEL, "--target", target, "--set", f"{option}={names}", "--json", *more)
    assert "Traceback" not in outcome.err
    return outcome.status, outcome.json["lists"]


def test_weights_that_stop_a_compile_stop_a_check(run: Run) -> None:
    model = onnx.load(MODEL)
    weights = next(entry for entry in model.graph.initializer if len(entry.dims) == 4)
    spoilt = numpy_helper.to_array(weights).copy()
    spoilt.flat[3] = np.nan
    weights.CopyFrom(numpy_helper.from_array(spoilt, weights.name))
    onnx.save(model, "nan.onnx")
    outcome = run("check", "nan.onnx", "--target", "am68a")
    assert outcome.status == 2
    assert f"{weights.name}: the weights hold NaN or infinity" in outcome.err


@pytest.mark.parametrize(
    ("names", "words", "hint"),
    [
        ("stem/rleu6", "no layer, node or tensor 'stem/rleu6'", "did you mean stem/relu6"),
        ("logits,logits", "'logits' is given 2 times", "meant to be another layer?"),
    ],
)
@pytest.mark.parametrize("option", [OUTPUTS, "params_16bit_names_list"])
def test_a_name_that_cannot_be_meant_stops_with_the_nearest_legal_one(
    run: Run, names: str, words: str, hint: str, option: str
) -> None:
    status, found = listed(run, names, option=option)
    assert status == 2
    (entry,) = found
    assert entry["stops"]
    assert words in entry["message"]
    assert hint in entry["hint"]


def test_every_wrong_name_is_listed_where_a_compile_tells_the_first_and_notes_the_others(run: Run) -> None:
    status, found = listed(run, "stem/rleu6,head/pol,logits")
    assert status == 2
    assert [entry["name"] for entry in found] == ["stem/rleu6", "head/pol"]
    with pytest.raises(OptionError, match="stem/rleu6") as caught:
        lowtide.compile(
            MODEL, target="am68a", data=str(CALIBRATION), options={OUTPUTS: "stem/rleu6,head/pol"}
        )
    assert any("head/pol" in note for note in caught.value.__notes__)


def test_the_nearest_name_of_a_wrong_one_gives_what_the_right_one_gives(run: Run) -> None:
    _, (entry,) = listed(run, "stem/rleu6")
    right = re.search(r"did you mean ([^ ?]+)", entry["hint"])[1]  # type: ignore[index]
    status, found = listed(run, right)
    assert (status, found) == (0, [])
    data = ("compile", MODEL, "--target", "tda4vm", "--data", CALIBRATION, "--frames", 12)
    report = run(*data, "--set", f"{OUTPUTS}={right}", "--json").json
    assert next(layer["bits"] for layer in report["layers"] if layer["name"] == right) == 16


def test_a_name_from_before_fusion_is_understood_and_that_of_the_layer_is_told(run: Run) -> None:
    status, found = listed(run, "stem")
    assert status == 0
    (entry,) = found
    assert not entry["stops"]
    assert entry["hint"] == "write stem/relu6"
    status, found = listed(run, "stem,stem/relu6")
    assert status == 2
    assert [(entry["name"], entry["stops"]) for entry in found] == [("stem", False), ("stem/relu6", True)]
    assert "'stem/relu6' and 'stem' are one layer" in found[1]["message"]


def test_a_layer_on_the_host_cannot_be_listed(run: Run) -> None:
    status, (entry,) = listed(run, "logits", "--set", "deny_list:layer_type=Gemm")
    assert status == 2
    assert "runs on the host, in float" in entry["message"]


def test_the_terminal_says_what_stops_a_compile(run: Run) -> None:
    outcome = run("check", MODEL, "--target", "am68a", "--set", f"{OUTPUTS}=stem/rleu6")
    assert outcome.status == 2
    assert "a compile would stop at advanced_options:output_feature_16bit_names_list" in outcome.out.replace(
        "\n", " "
    )


def test_what_crosses_to_the_host_is_counted(run: Run) -> None:
    chosen = ("--set", "deny_list:layer_name=block2/depthwise")
    outcome = run("check", MODEL, "--target", "am68a", *chosen, "--json")
    borders = outcome.json["borders"]
    # To the host, back, and past it: the shortcut of the block.
    assert [entry["to"] for entry in borders] == ["host", "accelerator", "accelerator"]
    assert borders[0]["reader"] == "block2/depthwise/relu6"
    assert all(entry["elements"] > 100 for entry in borders)
    text = run("check", MODEL, "--target", "am68a", *chosen).out
    assert re.search(r"tensors between accelerator and\s+host: 3, [\d.]+ KiB a frame", text)
    assert re.search(r"parts of the accelerator", text)
    assert re.search(r"latency +[\d.]+ ms a frame", text)


def test_latency_follows_the_widths_that_are_asked_for(run: Run) -> None:
    narrow = run("check", MODEL, "--target", "am68a", "--json").json["latency_ms"]
    wide = run("check", MODEL, "--target", "am68a", "--set", "tensor_bits=16", "--json").json["latency_ms"]
    assert wide > narrow


@pytest.mark.parametrize("option", ["mixed_precision_factor=1.2", "goal=sqnr>=30"])
def test_a_budget_or_a_goal_leaves_widths_open_and_stops_no_compile(run: Run, option: str) -> None:
    arguments = ("check", MODEL, "--target", "tda4vm")
    plain = run(*arguments, "--json").json
    outcome = run(*arguments, "--set", option, "--json")
    assert outcome.status == 0
    assert plain["left_open"] == ""
    assert f"estimated without {option}" in outcome.json["left_open"]
    assert outcome.json["latency_ms"] == plain["latency_ms"]
    assert f"estimated without {option}" in " ".join(run(*arguments, "--set", option).out.split())


def test_a_network_without_head_has_none(run: Run) -> None:
    outcome = run("check", MODEL, "--target", "am68a", "--json")
    assert outcome.json["heads"] == []
    assert outcome.json["frames"] is None


def test_frames_and_lists_are_judged_together(run: Run) -> None:
    status, found = listed(run, "stem/rleu6", "--data", TEST, "--frames", 8)
    assert status == 2
    assert len(found) == 1


def test_a_wrong_head_file_names_file_and_line(run: Run) -> None:
    Path("head.prototxt").write_text('tidl_yolo {\n  yolo_param { input: "lgits" }\n}\n', "utf-8")
    key = "object_detection:meta_layers_names_list=head.prototxt"
    outcome = run("check", MODEL, "--target", "am68a", "--set", key)
    assert outcome.status == 2
    assert "head.prototxt:2: the network has no tensor 'lgits'" in outcome.err
    assert "did you mean logits" in outcome.err
