from __future__ import annotations

import json
from pathlib import Path

import pytest

from lowtide.compiler.output import load_output
from support import CALIBRATION, MODEL, Run


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_fits_the_terminal_and_adds_up(
    run: Run, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    outcome = run("estimate", MODEL, "--target", "am68a")
    assert outcome.status == 0, outcome.err
    lines = outcome.out.splitlines()
    assert max(map(len, lines)) <= width
    found = run("estimate", MODEL, "--target", "am68a", "--json").json
    assert found["total_ms"] == pytest.approx(
        found["call_ms"] + sum(layer["ms"] for layer in found["layers"])
    )
    text = " ".join(outcome.out.split())
    assert "ms a frame" in text
    assert f"on other networks the model is {found['stated_error']:.0%} off on average" in text
    for layer in found["layers"]:
        assert any(line.startswith(layer["name"][:8]) for line in lines)


def test_sixteen_bits_take_longer_and_say_that_they_are_extrapolated(run: Run) -> None:
    narrow, wide = (
        run("estimate", MODEL, "--target", "tda4vm", "--bits", bits, "--json").json for bits in ("8", "16")
    )
    assert wide["total_ms"] > narrow["total_ms"]
    for one, other in zip(narrow["layers"], wide["layers"], strict=True):
        assert other["ms"] >= one["ms"], one["name"]
        assert not one["extrapolated"]
    assert "codes of more than 8 bits" in {layer["extrapolated"] for layer in wide["layers"]}
    text = run("estimate", MODEL, "--target", "tda4vm", "--bits", 16).out
    assert "beyond what the model was fitted on: codes of more than 8 bits" in " ".join(text.split())


def test_without_bits_a_float_model_has_the_widths_of_its_options(run: Run) -> None:
    wide = run("estimate", MODEL, "--target", "am68a", "--set", "tensor_bits=16", "--json").json
    assert wide == run("estimate", MODEL, "--target", "am68a", "--bits", 16, "--json").json
    first = wide["layers"][0]["name"]
    option = f"advanced_options:output_feature_16bit_names_list={first}"
    mixed = run("estimate", MODEL, "--target", "am68a", "--set", option, "--json").json
    assert [layer["bits"] for layer in mixed["layers"] if layer["name"] == first] == [16]
    narrow = run("estimate", MODEL, "--target", "am68a", "--json").json
    assert narrow["total_ms"] < mixed["total_ms"] < wide["total_ms"]


@pytest.mark.parametrize("option", ["mixed_precision_factor: 1.2", "goal: sqnr>=30", "budget_ms: 1000"])
def test_without_data_a_budget_or_a_goal_leaves_widths_open_and_says_so(
    run: Run, tmp_path: Path, option: str
) -> None:
    options = tmp_path / "options.yaml"
    options.write_text(option, "utf-8")
    arguments = ("estimate", MODEL, "--target", "tda4vm")
    plain = run(*arguments, "--json").json
    found = run(*arguments, "--options", options, "--json").json
    assert plain["left_open"] == ""
    assert found["layers"] == plain["layers"]
    assert f"estimated without {option.replace(': ', '=')}" in found["left_open"]
    budget = {"mixed_precision_factor": 1.2 * plain["total_ms"], "budget_ms": 1000}
    assert found["budget_ms"] == pytest.approx(budget.get(option.partition(":")[0]))
    text = " ".join(run(*arguments, "--options", options).out.split())
    assert "for which `lowtide compile` measures on calibration data" in text
    assert ("the budget is" in text) == ("goal" not in option)


def test_layers_that_are_listed_beside_a_budget_have_their_16_bits_in_an_estimate(run: Run) -> None:
    arguments = ("estimate", MODEL, "--target", "am68a", "--json", "--set", "params_16bit_names_list=stem")
    listed = run(*arguments).json
    both = run(*arguments, "--set", "mixed_precision_factor=1.5").json
    assert both["layers"] == listed["layers"]


def test_a_folder_has_the_widths_of_its_codes_and_agrees_with_its_report(run: Run, tmp_path: Path) -> None:
    first = run("estimate", MODEL, "--target", "am68a", "--json").json["layers"][0]["name"]
    folder = tmp_path / "mixed"
    option = f"advanced_options:output_feature_16bit_names_list={first}"
    outcome = run(
        *("compile", MODEL, "--target", "am68a", "--data", CALIBRATION, "--frames", 4),
        *("--output", folder, "--set", option),
    )
    assert outcome.status == 0, outcome.err
    found = run("estimate", folder, "--json").json
    assert {layer["bits"] for layer in found["layers"]} >= {8, 16}
    report = load_output(folder).report
    assert found["total_ms"] == pytest.approx(report["latency_ms"])
    for layer, reported in zip(found["layers"], report["layers"], strict=True):
        assert (layer["name"], layer["bound"]) == (reported["name"], reported["bound"])
        assert layer["ms"] == pytest.approx(reported["latency_ms"])
        assert layer["bits"] in {reported["bits"], None}
    model = run("estimate", MODEL, "--target", "am68a", "--set", option, "--json").json
    assert model["total_ms"] == pytest.approx(found["total_ms"])


def test_a_folder_can_be_estimated_for_another_device(run: Run, compiled: Path) -> None:
    here = run("estimate", compiled, "--json").json
    there = run("estimate", compiled, "--target", "am62a", "--json").json
    assert (here["target"], there["target"]) == ("am68a", "am62a")
    assert there["total_ms"] > here["total_ms"]


def test_the_slowest_layers_come_first(run: Run) -> None:
    layers = run("estimate", MODEL, "--target", "am68a", "--json").json["layers"]
    slowest = max(layers, key=lambda layer: layer["ms"])["name"]
    text = run("estimate", MODEL, "--target", "am68a", "--slowest", 2).out
    rows = text.split("\n\n")[0].splitlines()[3:]
    assert len(rows) == 2
    assert rows[0].startswith(slowest)


def test_check_says_the_latency_and_leaves_it_out_where_nobody_knows_it(run: Run) -> None:
    total = run("estimate", MODEL, "--target", "am68a", "--json").json["total_ms"]
    assert run("check", MODEL, "--target", "am68a", "--json").json["latency_ms"] == pytest.approx(total)
    assert "ms a frame" in run("check", MODEL, "--target", "am68a").out
    assert run("check", MODEL, "--target", "generic", "--json").json["latency_ms"] is None
    assert "ms a frame" not in run("check", MODEL, "--target", "generic").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((MODEL, "--target", "generic"), "LT502 generic: the device has no latency model"),
        ((MODEL,), "no device is given"),
        (("--target", "am68a"), "no model is given"),
        ((MODEL, "--target", "am68a", "--bits", "12"), "'12' is not one of '8', '16'"),
        ((MODEL, "--target", "am68a", "--set", "tensor_bits=32"), "a float network has no latency"),
        (("nothing.onnx", "--target", "am68a"), "LT401"),
        (("empty",), "manifest.json"),
    ],
)
def test_what_cannot_be_estimated_is_refused_with_a_reason(
    run: Run, arguments: tuple[str, ...], message: str
) -> None:
    Path("empty").mkdir()
    outcome = run("estimate", *arguments)
    assert outcome.status == 2
    assert message in " ".join(outcome.err.split())
    assert "Traceback" not in outcome.err


def test_the_folder_of_a_float_network_has_no_latency_and_no_proto(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    named = f"quant_params_proto_path={tmp_path / 'p.prototxt'}"
    outcome = run(
        "compile", MODEL, "--target", "am68a", "--output", folder, "--set", "tensor_bits=32", "--set", named
    )
    assert outcome.status == 0, outcome.err
    assert "without effect" in outcome.out
    assert not list(tmp_path.rglob("*.prototxt"))
    assert not (folder / "quant_params.onnx").exists()
    outcome = run("estimate", folder)
    assert outcome.status != 0
    assert "LT601 tensor_bits: a float network has no latency" in outcome.err


def test_a_folder_does_not_take_widths(run: Run, compiled: Path) -> None:
    outcome = run("estimate", compiled, "--bits", 8)
    assert outcome.status == 2
    assert "an output folder has its own widths" in outcome.err


def test_a_compile_for_a_device_without_model_has_no_latency_in_its_report(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    outcome = run(
        *("compile", MODEL, "--target", "generic", "--data", CALIBRATION, "--frames", 2, "--output", folder)
    )
    assert outcome.status == 0, outcome.err
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert report["latency_ms"] is None
    assert {layer["latency_ms"] for layer in report["layers"]} == {None}
