"""The main job as a user does it: compile, look, run, compare, evaluate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import lowtide
from support import CALIBRATION, MODEL, TEST, Run

TARGETS = ["tda4vm", "am62a", "am67a", "am68a", "am69a", "generic"]


@pytest.mark.parametrize("target", TARGETS)
def test_every_device_compiles_the_demo_network(run: Run, target: str) -> None:
    outcome = run("compile", MODEL, "--target", target, "--data", CALIBRATION, "--json")
    assert outcome.status == 0, outcome.err
    report = outcome.json
    assert report["device"]["name"] == target
    assert report["device"]["host_layers"] == 0 or any(layer["reason"] for layer in report["layers"])
    assert {"model.onnx", "report.json", "manifest.json", "graph.ir"} <= {
        p.name for p in Path("out").iterdir()
    }
    assert (Path("out") / "tidl_options.json").exists() == (target != "generic")


@pytest.mark.parametrize(
    ("target", "scale_type"), [("tda4vm", 0), ("tda4vm", 1), ("am68a", 0), ("am68a", 1), ("am68a", 4)]
)
def test_every_legal_scale_type_is_used_when_asked_for(run: Run, target: str, scale_type: int) -> None:
    key = f"advanced_options:quantization_scale_type={scale_type}"
    outcome = run("compile", MODEL, "--target", target, "--data", CALIBRATION, "--set", key, "--json")
    assert outcome.status == 0, outcome.err
    assert outcome.json["device"]["scale_type"] == scale_type


def test_the_asymmetric_network_keeps_the_accuracy_of_the_float_one(run: Run, compiled: Path) -> None:
    outcome = run("evaluate", compiled, "--data", TEST, "--metric", "top1", "--metric", "sqnr", "--json")
    assert outcome.status == 0, outcome.err
    top1 = outcome.json["metrics"]["top1"]
    assert top1["float"] > 0.97
    assert top1["fixed"] > top1["float"] - 0.01


def test_sixteen_bits_come_closer_than_eight(run: Run) -> None:
    figures = []
    for bits in (8, 16):
        arguments = ("compile", MODEL, "--target", "am68a", "--data", CALIBRATION, "--output", f"out{bits}")
        report = run(*arguments, "--set", f"tensor_bits={bits}", "--json").json
        figures.append(report["outputs"][0]["sqnr_db"])
    assert figures[1] > figures[0] + 15


def test_thirty_two_bits_leave_the_network_float(run: Run) -> None:
    arguments = (
        "compile",
        MODEL,
        "--target",
        "am68a",
        "--data",
        CALIBRATION,
        "--set",
        "tensor_bits=32",
        "--json",
    )
    report = run(*arguments).json
    assert all(layer["bits"] is None for layer in report["layers"])
    assert report["outputs"][0]["sqnr_db"] == "inf"


def test_the_model_file_runs_on_onnx_runtime_with_the_results_of_lowtide_run(
    run: Run, compiled: Path
) -> None:
    assert run("run", compiled, "--data", TEST, "--frames", 20, "--output", "results.npz").status == 0
    with np.load("results.npz") as results, np.load(TEST) as data:
        scores = results["logits"]
        options = ort.SessionOptions()
        # Fused integer kernels saturate sums of two products on machines without VNNI instructions.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        session = ort.InferenceSession(compiled / "model.onnx", options, providers=["CPUExecutionProvider"])
        chosen = [data["image"][k * len(data["image"]) // 20] for k in range(20)]
        plain = np.stack(
            [np.asarray(session.run(None, {"image": x[None].astype(np.float32)})[0]) for x in chosen]
        )
    step = np.abs(scores).max() / 127
    assert np.abs(scores - plain).max() < 2 * step
    assert np.array_equal(scores.argmax(-1), plain.argmax(-1))


def test_float_mode_gives_the_outputs_of_the_original_model(run: Run, compiled: Path) -> None:
    arguments = ("run", compiled, "--data", TEST, "--frames", 5, "--mode", "float", "--output", "results.npz")
    assert run(*arguments).status == 0
    with np.load("results.npz") as results, np.load(TEST) as data:
        session = ort.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
        first = session.run(None, {"image": data["image"][:1].astype(np.float32)})[0]
        np.testing.assert_allclose(results["logits"][0], np.asarray(first), rtol=1e-4, atol=1e-4)


def test_compare_lists_layers_worst_first(run: Run, compiled: Path) -> None:
    outcome = run("compare", compiled, "--data", TEST, "--frames", 10)
    assert outcome.status == 0, outcome.err
    assert "worst first" in outcome.out
    found = run("compare", compiled, "--data", TEST, "--frames", 10, "--json").json
    assert found["frames"] == 10
    assert found["outputs"]["logits"] > 15


def test_inspect_shows_scales(run: Run, compiled: Path) -> None:
    outcome = run("inspect", compiled)
    assert outcome.status == 0
    assert "uint8" in outcome.out
    text = run("inspect", compiled, "--text").out
    assert lowtide.load_output(compiled).graph.name in text


@pytest.mark.parametrize("flags", [("--no-cache",), ("--set", "mixed_precision_factor=1.005")])
def test_two_compiles_give_the_same_bytes_but_for_the_timings_with_and_without_a_cache(
    run: Run, flags: tuple[str, ...]
) -> None:
    for name in ("a", "b"):
        arguments = ("compile", MODEL, "--target", "tda4vm", "--data", CALIBRATION, "--output", name)
        outcome = run(*arguments, *flags)
        assert outcome.status == 0
        assert ("the search for widths" in outcome.out) == ("--no-cache" not in flags)
    for path in sorted(Path("a").iterdir()):
        if path.name != "manifest.json":
            assert path.read_bytes() == (Path("b") / path.name).read_bytes(), path.name
    one, two = (json.loads((Path(name) / "manifest.json").read_text("utf-8")) for name in ("a", "b"))
    assert one.pop("times") != two.pop("times")
    assert one == two


def test_a_second_compile_takes_statistics_from_the_cache_and_gives_the_same_model(run: Run) -> None:
    first = run("compile", MODEL, "--target", "am68a", "--data", CALIBRATION, "--output", "a", "--json").json
    second = run("compile", MODEL, "--target", "am68a", "--data", CALIBRATION, "--output", "b", "--json").json
    for report, cached in ((first, False), (second, True)):
        assert {time["cached"] for time in report["times"] if time["stage"] == "collect"} == {cached}
    assert Path("a/model.onnx").read_bytes() == Path("b/model.onnx").read_bytes()


def test_python_gives_what_the_command_line_gives(run: Run) -> None:
    assert run("compile", MODEL, "--target", "am68a", "--data", CALIBRATION).status == 0
    result = lowtide.compile(MODEL, target="am68a", data=str(CALIBRATION))
    result.save("python")
    assert Path("python/model.onnx").read_bytes() == Path("out/model.onnx").read_bytes()
    with np.load(TEST) as data:
        outputs = result.run({"image": data["image"][:1].astype(np.float32)})
    assert outputs["logits"].shape == (1, 10)


def test_every_tensor_of_the_quantized_network_obeys_symmetric_arithmetic_on_tda4vm(run: Run) -> None:
    assert run("compile", MODEL, "--target", "tda4vm", "--data", CALIBRATION).status == 0
    graph = lowtide.load_output(Path("out")).graph
    quantized = [value.type.quant for value in graph.values.values() if value.type.quant]
    assert quantized
    assert all(quant.is_symmetric for quant in quantized)
    assert all(len(quant.scale) == 1 for quant in quantized)


def test_a_denied_operator_runs_on_the_host_in_float(run: Run) -> None:
    arguments = ("compile", MODEL, "--target", "am68a", "--data", CALIBRATION, "--json")
    report = run(*arguments, "--set", "deny_list:layer_type=Gemm").json
    gemm = next(layer for layer in report["layers"] if layer["operator"] == "Gemm")
    assert gemm["placement"] == "host"
    assert "deny_list" in gemm["reason"]
    assert gemm["weight_bits"] is None


def test_the_demo_compiles_evaluates_and_leaves_the_output_folder(run: Run) -> None:
    outcome = run("demo")
    assert outcome.status == 0, outcome.err
    assert "top1" in outcome.out
    assert (Path("demo-out") / "model.onnx").exists()


def test_opt_runs_passes_on_the_text_form(run: Run, compiled: Path) -> None:
    outcome = run("opt", compiled / "float.ir", "--passes", "infer-shapes,prune", "--print-after")
    assert outcome.status == 0, outcome.err
    assert outcome.out.count("// after") == 2


@pytest.mark.parametrize(
    "listing", ["targets", "calibrators", "strategies", "passes", "emitters", "metrics", "plugins"]
)
def test_every_listing_names_the_provider(run: Run, listing: str) -> None:
    outcome = run(listing)
    assert outcome.status == 0
    assert "lowtide" in outcome.out
    rows = run(listing, "--json").json
    assert all(row["distribution"] for row in rows)


def test_help_names_every_command(run: Run) -> None:
    outcome = run("--help")
    assert outcome.status == 0
    for command in ("compile", "run", "compare", "evaluate", "inspect", "opt", "demo", "plugins"):
        assert command in outcome.out


def test_a_calibrator_takes_options(run: Run) -> None:
    ranges: list[float] = []
    for calibrator in ("percentile", "percentile{shrink=5}"):
        arguments = ("compile", MODEL, "--target", "am68a", "--data", CALIBRATION, "--calibrator", calibrator)
        report = run(*arguments, "--output", f"out-{len(ranges)}", "--json").json
        assert report["calibration"]["calibrator"].startswith(f"{calibrator} of lowtide")
        ranges.append(report["layers"][0]["range"][1])
    assert ranges[1] < ranges[0]


def test_mean_and_scale_of_the_input_are_folded_into_the_network(run: Run) -> None:
    options = ("--set", "input_mean=100", "--set", "input_scale=0.01", "--set", "input_optimization=1")
    arguments = ("compile", MODEL, "--target", "am68a", "--data", CALIBRATION, "--json")
    report = run(*arguments, *options).json
    assert any(item["counters"].get("normalized") for item in report["passes"])
    plain = run("run", MODEL, "--data", "shifted.npz", "--mode", "float", "--output", "a.npz")
    assert plain.status == 2
    with np.load(TEST) as data:
        np.savez("shifted.npz", image=(data["image"][:3].astype(np.float32) - 100) * 0.01)
        np.savez("pixels.npz", image=data["image"][:3])
    assert run("run", MODEL, "--data", "shifted.npz", "--mode", "float", "--output", "a.npz").status == 0
    assert run("run", "out", "--data", "pixels.npz", "--mode", "float", "--output", "b.npz").status == 0
    with np.load("a.npz") as a, np.load("b.npz") as b:
        np.testing.assert_allclose(a["logits"], b["logits"], rtol=1e-3, atol=1e-3)


def test_an_interrupted_compile_leaves_no_output(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lowtide.compiler.stages.measure_exact_layers", interrupt)
    outcome = run("compile", MODEL, "--target", "am68a", "--data", CALIBRATION)
    assert outcome.status == 130
    assert "interrupted; finished statistics are kept, the same command goes on from there" in outcome.err
    assert not Path("out").exists()
    outcome = run("compile", MODEL, "--target", "am68a", "--data", CALIBRATION, "--no-cache")
    assert outcome.status == 130
    assert outcome.err.endswith("error: interrupted\n")


def test_statistics_are_kept_in_the_folder_that_is_named(run: Run, tmp_path: Path) -> None:
    command = ("compile", MODEL, "--target", "am68a", "--data", CALIBRATION, "--set", "accuracy_level=0")
    assert run(*command, "--cache", "kept").status == 0
    assert list(Path("kept").rglob("*.npz"))
    assert not (tmp_path / "cache").exists()
    outcome = run(*command, "--cache", "kept", "--no-cache")
    assert outcome.status == 2
    assert "--cache and --no-cache exclude each other" in outcome.err


@pytest.mark.parametrize("mode", ["exact", "qdq", "float"])
def test_commands_on_an_output_folder_take_every_mode(run: Run, compiled: Path, mode: str) -> None:
    data = ("--data", TEST, "--frames", 4, "--mode", mode)
    assert run("run", compiled, *data, "--output", "results.npz").status == 0
    compared = run("compare", compiled, *data, "--json").json
    evaluated = run("evaluate", compiled, *data, "--metric", "sqnr", "--json").json
    lossless = compared["outputs"]["logits"] == "inf"
    figures = evaluated["metrics"]["sqnr"]
    assert figures["float"] == "inf"
    assert lossless == ("fixed" not in figures) == (mode == "float")
    heading = run("evaluate", compiled, *data, "--metric", "sqnr").out
    assert ("fixed" in heading) == (mode != "float")
