"""Bad input: status 2, a message with place and remedy, no traceback, nothing left behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from support import CALIBRATION, MODEL, Outcome, Run


def refused(outcome: Outcome, *words: str) -> None:
    assert outcome.status == 2, outcome.out + outcome.err
    assert "Traceback" not in outcome.err + outcome.out
    for word in words:
        assert word in outcome.err, outcome.err
    left = [path.name for path in Path().iterdir() if path.name.startswith((".out", "out"))]
    assert not left


def compile_with(run: Run, *arguments: object, model: object = MODEL, target: str = "am68a") -> Outcome:
    data = () if "--data" in arguments else ("--data", CALIBRATION)
    return run("compile", model, "--target", target, *data, *arguments)


def test_a_missing_model(run: Run) -> None:
    refused(compile_with(run, model="nowhere.onnx"), "nowhere.onnx", "no such file")


def test_a_file_that_is_no_onnx_model(run: Run) -> None:
    Path("text.onnx").write_text("hello, I am no network\n" * 50, "utf-8")
    refused(compile_with(run, model="text.onnx"), "text.onnx", "LT4")


def test_a_truncated_model(run: Run) -> None:
    Path("cut.onnx").write_bytes(MODEL.read_bytes()[:9000])
    refused(compile_with(run, model="cut.onnx"), "cut.onnx")


def test_an_unknown_file_type(run: Run) -> None:
    Path("net.caffemodel").write_bytes(b"x")
    refused(compile_with(run, model="net.caffemodel"), ".caffemodel", ".onnx")


def test_an_operator_of_another_domain(run: Run) -> None:
    shape = helper.make_tensor_value_info("x", 1, [1, 2])
    node = helper.make_node("Magic", ["x"], ["y"], "spell", domain="acme.ops")
    graph = helper.make_graph([node], "g", [shape], [helper.make_tensor_value_info("y", 1, [1, 2])])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("acme.ops", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), "magic.onnx")
    refused(compile_with(run, model="magic.onnx"), "Magic", "spell", "acme.ops")


def test_an_unknown_target_suggests_near_names(run: Run) -> None:
    refused(compile_with(run, target="am68"), "am68a")


def test_only_devices_that_can_be_selected_are_suggested(run: Run) -> None:
    for name in ("zzz", "tidl-25"):
        outcome = compile_with(run, target=name)
        refused(outcome, "known: am62a, am67a" if name == "zzz" else "known: am62a, ")
        assert "tidl," not in outcome.err
        assert "tidl-256" not in outcome.err


def test_a_key_that_is_set_twice_shows_what_it_overrides(run: Run) -> None:
    twice = ("--set", "seed=1", "--set", "tensor_bits=8", "--set", "seed=2")
    found = {option["option"]: option for option in run("options", *twice, "--json").json["options"]}
    assert (found["seed"]["value"], found["tensor_bits"]["value"]) == (2, 8)
    assert found["seed"]["overridden"] == [{"value": 1, "from": "--set"}]
    shapes = ("--set", "input_shapes.a=1x2", "--set", "input_shapes.b=3")
    (both,) = run("options", *shapes, "--json").json["options"]
    assert (both["value"], both["overridden"]) == ({"a": [1, 2], "b": [3]}, [])


def test_passes_run_on_the_text_form_and_say_so_of_a_model_file(run: Run) -> None:
    refused(run("opt", MODEL, "--passes", "prune"), "text form of a graph, such as graph.ir", "LT401")


def test_an_unknown_calibrator_suggests_near_names(run: Run) -> None:
    refused(compile_with(run, "--calibrator", "min-max"), "minmax")


def test_an_unknown_option_suggests_near_names(run: Run) -> None:
    refused(compile_with(run, "--set", "tensor_bit=8"), "tensor_bits")


def test_an_unknown_pass_suggests_near_names(run: Run) -> None:
    refused(compile_with(run, "--set", "prepare=fold-batchnorm"), "fold-batch-norm")


def test_an_unknown_pass_option_points_at_its_column(run: Run) -> None:
    refused(compile_with(run, "--pipeline", "correct-bias{frame=3}"), "column", "frames")


def test_an_unknown_command_suggests_near_names(run: Run) -> None:
    refused(run("compil"), "compile")


def test_a_value_out_of_range(run: Run) -> None:
    refused(compile_with(run, "--set", "tensor_bits=7"), "tensor_bits", "7")


def test_scale_type_four_on_tda4vm_says_what_to_use(run: Run) -> None:
    outcome = compile_with(run, "--set", "quantization_scale_type=4", target="tda4vm")
    refused(outcome, "tda4vm", "1")


def test_contradicting_lists(run: Run) -> None:
    lists = ("--set", "deny_list:layer_type=Conv", "--set", "allow_list:layer_name=logits")
    refused(compile_with(run, *lists), "allow_list")


def test_an_unknown_layer_name_suggests_near_names(run: Run) -> None:
    refused(compile_with(run, "--set", "deny_list:layer_name=logit"), "logits")


def test_no_data(run: Run) -> None:
    refused(run("compile", MODEL, "--target", "am68a"), "--data")


def test_missing_data(run: Run) -> None:
    refused(compile_with(run, "--data", "nowhere.npz"), "nowhere.npz")


def test_an_empty_folder(run: Run) -> None:
    Path("frames").mkdir()
    refused(compile_with(run, "--data", "frames"), "frames")


def test_no_frames(run: Run, frames: NDArray[Any]) -> None:
    np.savez("none.npz", image=frames[:0])
    refused(compile_with(run, "--data", "none.npz"), "none.npz")


def test_frames_of_the_wrong_shape(run: Run) -> None:
    np.savez("wide.npz", image=np.zeros((4, 1, 16, 20), np.float32))
    refused(compile_with(run, "--data", "wide.npz"), "16", "20")


def test_frames_of_the_wrong_dtype(run: Run) -> None:
    np.savez("text.npz", image=np.array(["a", "b"]))
    refused(compile_with(run, "--data", "text.npz"), "text.npz")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_in_a_frame(run: Run, frames: NDArray[Any], bad: float) -> None:
    data = frames[:5].astype(np.float32)
    data[3, 0, 2, 1] = bad
    np.savez("bad.npz", image=data)
    refused(compile_with(run, "--data", "bad.npz"), "3", "image")


def test_a_constant_frame_is_reported_and_does_not_stop(run: Run, frames: NDArray[Any]) -> None:
    data = frames[:8].astype(np.float32)
    data[2] = 7
    np.savez("flat.npz", image=data)
    outcome = compile_with(run, "--data", "flat.npz", "--json")
    assert outcome.status == 0, outcome.err
    assert any("2" in found["place"] and found["code"] == "LT752" for found in outcome.json["diagnostics"])


def test_an_all_zero_input_compiles_without_a_division_by_zero(run: Run) -> None:
    np.savez("zero.npz", image=np.zeros((4, 1, 16, 16), np.float32))
    outcome = compile_with(run, "--data", "zero.npz", "--json")
    assert outcome.status == 0, outcome.err


def test_an_existing_output_folder_is_kept(run: Run) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("precious", "utf-8")
    refused(compile_with(run, "--output", "mine"), "mine", "--force")
    refused(compile_with(run, "--output", "mine", "--force"), "mine", "manifest.json")
    assert Path("mine/thesis.txt").read_text("utf-8") == "precious"


def test_force_replaces_an_earlier_output(run: Run) -> None:
    assert compile_with(run, "--output", "o").status == 0
    assert compile_with(run, "--output", "o").status == 2
    assert compile_with(run, "--output", "o", "--force").status == 0


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_output_folder(run: Run) -> None:
    Path("locked").mkdir(mode=0o500)
    refused(compile_with(run, "--output", "locked/o"), "locked")


def test_an_output_below_a_file(run: Run) -> None:
    Path("file").write_text("x", "utf-8")
    refused(compile_with(run, "--output", "file/o"), "file")


def test_a_folder_that_is_no_output(run: Run) -> None:
    Path("empty").mkdir()
    refused(run("compare", "empty", "--data", CALIBRATION), "manifest.json")


def test_an_output_that_was_changed(run: Run, compiled: Path) -> None:
    with (compiled / "model.onnx").open("ab") as file:
        file.write(b"x")
    refused(run("compare", compiled, "--data", CALIBRATION), "model.onnx", "changed")


def test_missing_labels_for_a_metric(run: Run, compiled: Path, frames: NDArray[Any]) -> None:
    np.savez("plain.npz", image=frames[:3])
    refused(run("evaluate", compiled, "--data", "plain.npz", "--metric", "top1"), "label")


def test_an_options_file_that_does_not_parse(run: Run) -> None:
    Path("bad.yaml").write_text("tensor_bits: [8\n", "utf-8")
    refused(compile_with(run, "--options", "bad.yaml"), "bad.yaml")


def test_a_text_form_that_does_not_parse(run: Run) -> None:
    Path("bad.ir").write_text('graph "g" {\n  %x = \n}\n', "utf-8")
    refused(run("opt", "bad.ir", "--passes", "prune"), "LT102", "2:")
