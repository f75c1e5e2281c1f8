"""What commands print, to whom, and how wide."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from support import CALIBRATION, MODEL, TEST, Run

LISTINGS = ("targets", "calibrators", "strategies", "passes", "emitters", "metrics", "plugins")


def refuse(literal: str) -> float:
    raise AssertionError(literal)


def test_names_between_colons_are_no_emoji(run: Run) -> None:
    outcome = run("compile", MODEL, "--target", "am68a", "--data", "random:x:y")
    assert "random:x:y: expected a number of frames" in outcome.err


def relu_model(path: str, name: str, shape: list[int | str]) -> None:
    values = [helper.make_tensor_value_info(value, 1, shape) for value in ("x", name)]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], [name])], "[g]", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.mark.parametrize("listing", LISTINGS)
@pytest.mark.parametrize("width", [60, 80])
def test_listings_fit_the_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch, listing: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    names = [row["name"] for row in run(listing, "--json").json if "name" in row]
    for arguments in ((listing,), *((listing, name) for name in names)):
        outcome = run(*arguments)
        assert outcome.status == 0
        assert max(map(len, outcome.out.splitlines())) <= width, arguments


def test_a_device_shows_its_scale_types_operators_and_conditions(run: Run) -> None:
    text = run("targets", "tda4vm").out
    assert "1 (default)" in text
    assert "scale type 4 is refused: " in text
    assert re.search(r"^Conv +TIDL_ConvolutionLayer +mac", text, re.MULTILINE)
    assert re.search(r"^Conv +stride_h == stride_w +its strides differ", text, re.MULTILINE)


def test_targets_that_can_only_be_extended_are_not_listed_as_devices(run: Run) -> None:
    assert "tidl" not in {line.split()[0] for line in run("targets").out.splitlines()}
    assert "extended by tda4vm" in run("targets", "tidl").out


def test_a_pass_shows_its_options_with_their_defaults(run: Run) -> None:
    text = run("passes", "fold-batch-norm").out
    assert re.search(r"^leading +bool +true", text, re.MULTILINE)
    assert re.search(r"^ {4}leading: ", text, re.MULTILINE)


def test_the_document_of_a_device_holds_what_the_tables_show(run: Run) -> None:
    (found,) = run("targets", "tda4vm", "--json").json
    device = found["device"]
    assert (device["default_scale_type"], device["cores"], device["max_subgraphs"]) == (1, 1, 16)
    assert device["scale_rules"]["1"]["weight_scale"] == "power-of-two"
    assert "neither zero points" in device["refused_scale_types"]["4"]
    conv = device["operators"]["Conv"]
    assert (conv["layer_type"], conv["kind"]) == ("TIDL_ConvolutionLayer", "mac")
    assert "stride_h == stride_w" in [condition["require"] for condition in conv["constraints"]]
    assert "tda4vm" in run("targets", "tidl", "--json").json[0]["extended_by"]


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("passes", "equalize"), {"option": "limit", "type": "float", "default": 256.0}),
        (("passes", "fold-batch-norm"), {"option": "leading", "type": "bool", "default": True}),
        (("calibrators", "percentile"), {"option": "shrink", "type": "float", "default": 0.01}),
    ],
)
def test_the_document_of_what_has_options_holds_types_and_defaults(
    run: Run, arguments: tuple[str, str], option: dict[str, object]
) -> None:
    (found,) = run(*arguments, "--json").json
    assert {**option, "required": False} in found["options"]


@pytest.mark.parametrize("listing", [*LISTINGS[:-1], "diagnoses"])
def test_everything_that_is_listed_has_a_document(run: Run, listing: str) -> None:
    for row in run(listing, "--json").json:
        (found,) = run(listing, row["name"], "--json").json
        assert set(row) < set(found)
        assert {key: found[key] for key in row} == row


def test_paragraphs_of_a_description_wrap_at_the_width_of_the_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    lines = [line.rstrip() for line in run("passes", "fold-batch-norm").out.splitlines()]
    body = lines[lines.index("Attributes:") - 6 : lines.index("Attributes:") - 1]
    assert all(len(line) > 50 for line in body[:-1])


def test_names_that_look_like_markup_are_printed_as_they_are(run: Run) -> None:
    relu_model("odd.onnx", "[/y]", [1, 3])
    text = run("inspect", "odd.onnx").out
    assert "[/y]" in text
    assert text.startswith("[g]: 1 node, 2 tensors")


def test_inspect_and_run_take_the_shapes_of_open_inputs(run: Run) -> None:
    relu_model("open.onnx", "y", ["n", "m"])
    option = ("--set", "input_shapes.x=1,5")
    assert "float32[1,5]" in run("inspect", "open.onnx", *option).out
    np.savez("x.npz", x=np.full((2, 1, 5), -1, np.float32))
    outcome = run("run", "open.onnx", "--data", "x.npz", *option, "--output", "y.npz")
    assert outcome.status == 0, outcome.err
    with np.load("y.npz") as results:
        assert results["y"].shape == (2, 1, 5)


def test_run_names_a_folder_that_is_not_there(run: Run) -> None:
    outcome = run("run", MODEL, "--data", TEST, "--output", "nowhere/y.npz")
    assert outcome.status == 2
    assert "nowhere" in outcome.err


def test_exact_results_give_json_that_every_parser_takes(run: Run) -> None:
    arguments = ("compile", MODEL, "--target", "am68a", "--data", CALIBRATION, "--set", "tensor_bits=32")
    assert run(*arguments, "--frames", 2).status == 0
    found = run("compare", "out", "--data", TEST, "--frames", 2, "--json").out
    assert json.loads(found, parse_constant=refuse)["outputs"] == {"logits": "inf"}
    found = run("evaluate", "out", "--data", TEST, "--frames", 2, "--metric", "sqnr", "--json").out
    assert json.loads(found, parse_constant=refuse)["metrics"] == {"sqnr": {"float": "inf", "fixed": "inf"}}


def test_the_graph_after_every_pass_goes_to_standard_error(run: Run) -> None:
    arguments = ("compile", MODEL, "--target", "am68a", "--data", CALIBRATION, "--frames", 2, "--json")
    outcome = run(
        *arguments, "--set", "recipe=use calibrator minmax; use weights correct-bias", "--print-after"
    )
    texts = [item["text"] for item in outcome.json["passes"]]
    assert re.findall(r"^// after (.*)$", outcome.err, re.MULTILINE) == texts


@pytest.mark.parametrize(
    "arguments", [("--help",), ("targets", "am68a"), ("plugins", "--json"), ("inspect", str(MODEL), "--text")]
)
@pytest.mark.skipif(os.name == "nt", reason="pipes break differently there")
def test_a_reader_that_goes_away_is_no_failure(arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code = "import sys; from lowtide.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603 - our own interpreter
    os.close(writer)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_help_imports_neither_onnx_nor_onnxruntime_nor_rich() -> None:
    code = (
        "import sys; from lowtide.cli import main; main(['--help']);"
        "print(sorted({'onnx', 'onnxruntime', 'rich', 'numpy'} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own interpreter
    assert done.stderr.strip() == "[]"


def test_the_demo_writes_an_output_that_can_be_inspected(run: Run) -> None:
    outcome = run("demo", "--output", "d")
    assert outcome.status == 0, outcome.err
    assert "top1" in outcome.out
    assert run("inspect", "d").status == 0
    assert run("demo", "--output", "d").status == 2
    assert Path("d/manifest.json").is_file()


def test_one_frame_one_node_and_one_part_are_no_plurals(run: Run) -> None:
    relu_model("small.onnx", "y", [1, 3])
    data = ("--data", "random:1")
    made = run("compile", "small.onnx", "--target", "am68a", *data, "--output", "o")
    texts = [
        made.out,
        run("check", "small.onnx", "--target", "am68a", *data).out,
        run("estimate", "small.onnx", "--target", "am68a").out,
        run("evaluate", "o", "--data", "random:1", "--metric", "sqnr").out,
    ]
    assert "1 frame" in texts[0]
    for text in texts:
        assert not re.search(
            r"(?<![\d.,])1 (frames|nodes|layers|parts|tensors|files|parameters)\b(?! a second)", text
        )
