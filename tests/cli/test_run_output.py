"""``lowtide run --output FILE``: where outputs go, and what they never replace."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from support import MODEL, TEST, Run


@pytest.fixture
def data() -> Path:
    with np.load(TEST) as arrays:
        np.savez("d.npz", image=arrays["image"][:3])
    return Path("d.npz")


def test_run_says_where_the_outputs_are(run: Run, compiled: Path, data: Path) -> None:
    outcome = run("run", compiled, "--data", data, "--output", "y.npz")
    assert outcome.status == 0, outcome.err
    assert "written to y.npz" in outcome.err


def test_a_file_that_exists_is_replaced_only_by_force(run: Run, compiled: Path, data: Path) -> None:
    Path("y.npz").write_text("mine", "utf-8")
    outcome = run("run", compiled, "--data", data, "--output", "y.npz")
    assert outcome.status == 2
    assert "y.npz: exists already (choose another --output or use --force)" in outcome.err
    assert Path("y.npz").read_text("utf-8") == "mine"
    assert run("run", compiled, "--data", data, "--output", "y.npz", "--force").status == 0
    with np.load("y.npz") as results:
        assert len(results["logits"]) == 3
    assert not list(Path().glob(".*.new"))


@pytest.mark.parametrize("output", ["d.npz", "net.onnx", "labels.txt", "options.yaml", "frames/2.npy"])
def test_outputs_never_replace_what_is_read(run: Run, data: Path, output: str) -> None:
    shutil.copy(MODEL, "net.onnx")
    Path("labels.txt").write_text("1\n2\n3\n", "utf-8")
    Path("options.yaml").write_text("tensor_bits: 8\n", "utf-8")
    Path("frames").mkdir()
    with np.load(data) as arrays:
        np.save("frames/1.npy", arrays["image"][0])
    spec = "frames" if output.startswith("frames") else data
    labels = () if output.startswith("frames") else ("--labels", "labels.txt")
    before = {path: path.read_bytes() for path in Path().rglob("*.*") if path.is_file()}
    arguments = ("run", "net.onnx", "--data", spec, *labels, "--options", "options.yaml", "--mode", "float")
    outcome = run(*arguments, "--output", output, "--force")
    assert outcome.status == 2
    assert f"{output}: outputs would go into" in outcome.err
    assert {path: path.read_bytes() for path in Path().rglob("*.*") if path.is_file()} == before


@pytest.mark.parametrize("source", ["compiled", "model"])
def test_outputs_never_go_into_a_folder_that_a_compile_wrote(
    run: Run, compiled: Path, data: Path, source: str
) -> None:
    read = compiled if source == "compiled" else MODEL
    before = (compiled / "report.json").read_bytes()
    outcome = run(
        "run", read, "--data", data, "--mode", "float", "--output", compiled / "report.json", "--force"
    )
    assert outcome.status == 2
    assert "report.json" in outcome.err
    assert (compiled / "report.json").read_bytes() == before


def test_a_folder_is_no_name_for_the_file_of_outputs(run: Run, compiled: Path, data: Path) -> None:
    Path("folder").mkdir()
    outcome = run("run", compiled, "--data", data, "--output", "folder")
    assert outcome.status == 2
    assert "folder: is a folder, expected the name of a file" in outcome.err
