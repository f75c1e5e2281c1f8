"""Golden vectors as a user writes them, and traces held against them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lowtide.compiler.output import load_output
from lowtide.ir import layers
from support import CALIBRATION, MODEL, TEST, Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import lowtide

    out = tmp_path_factory.mktemp("vectors") / "out"
    lowtide.compile(MODEL, target="tda4vm", data=str(CALIBRATION)).save(out)
    return out


@pytest.fixture
def vectors(run: Run, folder: Path, tmp_path: Path) -> Path:
    made = tmp_path / "golden"
    outcome = run(
        "run",
        str(folder),
        "--data",
        str(TEST),
        "--frames",
        "2",
        "--mode",
        "exact",
        "--dump-layers",
        str(made),
    )
    assert outcome.status == 0, outcome.err
    return made


def test_every_layer_has_its_codes_and_what_they_mean(vectors: Path, folder: Path) -> None:
    manifest = json.loads((vectors / "vectors.json").read_text("utf-8"))
    graph = load_output(folder).graph
    assert [entry["name"] for entry in manifest["layers"]] == [layer.name for layer in layers(graph)]
    assert manifest["arithmetic"] == "shift"
    for entry in manifest["layers"]:
        quant = graph.values[entry["name"]].type.quant
        assert quant is not None
        assert (entry["scale"], entry["zero_point"]) == (quant.scale[0], quant.zero_point[0])
        for frame in ("frame_0000", "frame_0001"):
            array = np.load(vectors / frame / f"{entry['file']}.npy")
            assert (array.dtype, list(array.shape)) == (quant.dtype.numpy, entry["shape"])
    stem = manifest["layers"][0]
    assert stem["nodes"] == ["stem", "stem/bn", "stem/relu6"]


def test_the_last_layer_is_what_a_run_returns(vectors: Path, run: Run, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "outputs.npz"
    args = ("--data", str(TEST), "--frames", "2", "--mode", "exact", "--output", str(output))
    assert run("run", str(folder), *args).status == 0
    last = json.loads((vectors / "vectors.json").read_text("utf-8"))["layers"][-1]
    codes = np.load(vectors / "frame_0001" / f"{last['file']}.npy").astype(np.float32)
    real = (codes - last["zero_point"]) * np.float32(last["scale"])
    assert np.array_equal(np.load(output)[last["name"]][1], real)


def test_equal_traces_are_equal(vectors: Path, run: Run, tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    shutil.copytree(vectors, traces)
    outcome = run("compare", str(vectors), str(traces))
    assert outcome.status == 0
    assert "are equal" in outcome.out


def test_the_first_layer_that_differs_is_found_among_raw_files_and_gaps(
    vectors: Path, run: Run, tmp_path: Path
) -> None:
    traces = tmp_path / "traces"
    shutil.copytree(vectors, traces)
    files = sorted((traces / "frame_0001").glob("0*.npy"))
    for path in (files[3], files[6]):
        array = np.load(path)
        array.flat[5] += 3
        path.unlink()
        array.tofile(path.with_suffix(".bin"))
    for path in traces.glob("*/0001_*"):
        path.unlink()
    outcome = run("compare", str(vectors), str(traces), "--json")
    assert outcome.status == 1
    found = outcome.json
    names = [entry["name"] for entry in json.loads((vectors / "vectors.json").read_text("utf-8"))["layers"]]
    assert found["first"] == names[3]
    assert found["layers"][3]["largest"] == 3
    assert found["layers"][1]["differing"] is None
    assert f"{names[3]} is the first layer that differs" in " ".join(
        run("compare", str(vectors), str(traces)).out.split()
    )


def test_traces_of_another_shape_are_named(vectors: Path, run: Run, tmp_path: Path) -> None:
    traces = tmp_path / "traces" / "frame_0000"
    traces.mkdir(parents=True)
    name = next((vectors / "frame_0000").glob("0002_*")).stem
    (traces / f"{name}.bin").write_bytes(b"123")
    outcome = run("compare", str(vectors), str(traces.parent))
    assert outcome.status == 2
    assert f"{name}.bin" in outcome.err
    assert "expected uint8" in outcome.err


def test_folders_without_vectors_or_without_any_layer_are_refused(
    vectors: Path, run: Run, folder: Path, tmp_path: Path
) -> None:
    assert "holds no golden vectors" in run("compare", str(folder), str(vectors)).err
    outcome = run("compare", str(vectors), str(tmp_path))
    assert outcome.status == 2
    assert "frame_0000/0000_stem_relu6.npy" in outcome.err


def test_codes_exist_in_exact_execution_only(run: Run, folder: Path, tmp_path: Path) -> None:
    made = str(tmp_path / "golden")
    outcome = run("run", str(folder), "--data", str(TEST), "--mode", "qdq", "--dump-layers", made)
    assert outcome.status == 2
    assert "--mode exact" in outcome.err
    outcome = run("run", str(MODEL), "--data", str(TEST), "--mode", "exact", "--dump-layers", made)
    assert outcome.status == 2
    assert "compile" in outcome.err
    outcome = run("run", str(folder), "--data", str(TEST), "--mode", "exact")
    assert outcome.status == 2
    assert "--output" in outcome.err
