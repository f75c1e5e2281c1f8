"""The output folder appears whole or not at all, and is checked when it is read."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import attrs
import numpy as np
import pytest

import lowtide
from lowtide.compiler.output import MANIFEST, check_free
from lowtide.compiler.result import CompileResult
from lowtide.emit import Emitter
from lowtide.errors import OutputError, PluginError
from lowtide.ir import print_graph
from lowtide.plugin import EmitterSpec, Provider, Registry, discover, hookimpl
from support import CALIBRATION, MODEL, TEST


@pytest.fixture(scope="module")
def result() -> CompileResult:
    return lowtide.compile(MODEL, target="am68a", data=str(CALIBRATION), frames=4)


@pytest.fixture
def saved(result: CompileResult, tmp_path: Path) -> Path:
    return result.save(tmp_path / "out")


Emit = Callable[[Path], tuple[str, ...]]


def with_emitter(result: CompileResult, monkeypatch: pytest.MonkeyPatch, emit: Emit) -> CompileResult:
    """The same result, where a plugin's emitter writes something too, as the last."""

    @attrs.frozen
    class Extra(Emitter):
        def emit(self, result: CompileResult, folder: Path) -> tuple[str, ...]:  # noqa: ARG002 - the base class has it
            return emit(folder)

    class Plugin:
        @hookimpl
        def lowtide_register_emitters(self) -> Iterable[EmitterSpec]:
            return [EmitterSpec(name="zz", summary="s", implementation="extra_emitter:Extra")]

    monkeypatch.setitem(sys.modules, "extra_emitter", cast(Any, SimpleNamespace(Extra=Extra)))
    registry: Registry = discover()
    registry.add_plugin(Plugin(), Provider("acme", "1", "extra"))
    return attrs.evolve(result, registry=registry)


def test_the_manifest_names_every_file_with_its_digest(saved: Path) -> None:
    manifest = json.loads((saved / MANIFEST).read_text("utf-8"))
    assert {*manifest["outputs"], MANIFEST} == {path.name for path in saved.iterdir()}
    assert manifest["digests"].keys() == {"model", "data"}
    assert manifest["pipelines"].keys() == {"prepare", "scales", "weights"}


def test_the_folder_has_the_permissions_that_the_user_gives_to_folders(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert saved.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_an_emitter_adds_is_in_the_manifest(
    result: CompileResult, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def emit(folder: Path) -> tuple[str, ...]:
        (folder / "notes").mkdir()
        (folder / "notes" / "a.txt").write_text("a", "utf-8")
        return ("notes/a.txt",)

    folder = with_emitter(result, monkeypatch, emit).save(tmp_path / "out")
    assert "notes/a.txt" in lowtide.load_output(folder).manifest["outputs"]


def fails(folder: Path) -> tuple[str, ...]:
    (folder / "half.txt").write_text("half", "utf-8")
    raise RuntimeError("out of ideas")


def fills_the_disk(_folder: Path) -> tuple[str, ...]:
    raise OSError(28, "No space left on device")


def promises(_folder: Path) -> tuple[str, ...]:
    return ("missing.txt",)


def overwrites(folder: Path) -> tuple[str, ...]:
    (folder / "model.onnx").write_text("mine", "utf-8")
    return ("model.onnx",)


@pytest.mark.parametrize(
    "case",
    [
        (fails, PluginError, ("zz", "acme 1", "RuntimeError", "out of ideas")),
        (fills_the_disk, OutputError, ("out", "No space left")),
        (promises, PluginError, ("zz", "missing.txt")),
        (overwrites, PluginError, ("zz", "model.onnx", "onnx-qdq")),
    ],
)
def test_an_emitter_that_fails_leaves_nothing_behind(
    case: tuple[Emit, type[Exception], tuple[str, ...]],
    result: CompileResult,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    emit, error, words = case
    with pytest.raises(error) as caught:
        with_emitter(result, monkeypatch, emit).save(tmp_path / "out")
    for word in words:
        assert word in str(caught.value)
    assert not list(tmp_path.iterdir())


def write_beside(folder: Path) -> str:
    (folder.parent / "outside.txt").write_text("x", "utf-8")
    return "../outside.txt"


@pytest.mark.parametrize(
    ("emit", "words"),
    [
        (lambda _: None, "emit should return a tuple of file names, found None"),
        (lambda _: 3, "emit should return a tuple of file names, found 3"),
        (lambda _: "notes.txt", "emit should return a tuple of file names, found 'notes.txt'"),
        (lambda folder: (folder / "x.txt",), "emit should return file names as text, found "),
        (lambda folder: (write_beside(folder),), "relative to it, found '../outside.txt'"),
        (lambda folder: (str(folder / "x.txt"),), "relative to it, found "),
        (lambda _: ("a/../x.txt",), "relative to it, found 'a/../x.txt'"),
        (lambda _: (name for name in ["x", 1 // 0]), "failed with ZeroDivisionError"),
        (lambda _: sys.exit(0), "failed with SystemExit"),
    ],
)
def test_an_emitter_that_does_not_return_names_of_its_files_is_named(
    emit: Any, words: str, result: CompileResult, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(PluginError) as caught:
        with_emitter(result, monkeypatch, emit).save(tmp_path / "out")
    assert words in caught.value.message
    assert caught.value.place == "the emitter zz of acme 1 (extra)"
    assert not list(tmp_path.iterdir())


def test_an_emitter_that_fails_keeps_the_earlier_output(
    result: CompileResult, saved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    with pytest.raises(PluginError):
        with_emitter(result, monkeypatch, fails).save(saved, force=True)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert list(tmp_path.iterdir()) == [saved]


def test_a_move_that_fails_brings_the_earlier_output_back(
    result: CompileResult, saved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rename = Path.rename

    def refuse_new(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise OSError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_new)
    with pytest.raises(OutputError, match="Permission denied"):
        result.save(saved, force=True)
    assert lowtide.load_output(saved).folder == saved
    assert list(tmp_path.iterdir()) == [saved]


def test_force_leaves_no_file_of_the_earlier_output(
    result: CompileResult, saved: Path, tmp_path: Path
) -> None:
    (saved / "quant.old").write_text("old", "utf-8")
    result.save(saved, force=True)
    assert not (saved / "quant.old").exists()
    assert list(tmp_path.iterdir()) == [saved]


def test_an_existing_folder_is_refused_without_force(result: CompileResult, saved: Path) -> None:
    with pytest.raises(OutputError, match="--force"):
        result.save(saved)


def test_an_empty_folder_is_taken_and_missing_parents_are_made(result: CompileResult, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert (result.save(tmp_path / "empty") / MANIFEST).is_file()
    assert (result.save(tmp_path / "a" / "b" / "c") / MANIFEST).is_file()


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_the_folder_behind_a_link_is_replaced_and_the_link_stays(
    result: CompileResult, saved: Path, tmp_path: Path
) -> None:
    link = tmp_path / "latest"
    link.symlink_to(saved, target_is_directory=True)
    result.save(link, force=True)
    assert link.is_symlink()
    assert lowtide.load_output(link).folder == link


@pytest.mark.parametrize(
    "manifest", ["", "[]", "{}", '{"name": "web app"}', '{"manifest_version": 1}', '{"manifest_version": 2}']
)
def test_force_replaces_no_folder_with_the_manifest_of_something_else(manifest: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(manifest, "utf-8")
    with pytest.raises(OutputError, match="earlier compile"):
        check_free(tmp_path, force=True)
    with pytest.raises(OutputError, match=MANIFEST):
        lowtide.load_output(tmp_path)


def test_force_does_not_replace_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x", "utf-8")
    with pytest.raises(OutputError, match="earlier compile"):
        check_free(file, force=True)


def test_an_output_is_read_back_as_it_was_written(result: CompileResult, saved: Path) -> None:
    loaded = lowtide.load_output(saved)
    assert print_graph(loaded.graph) == print_graph(result.graph)
    assert print_graph(loaded.reference) == print_graph(result.reference)
    assert loaded.report["device"]["name"] == "am68a"
    for mine, read in zip(result.graph.constants, loaded.graph.constants, strict=True):
        assert mine.constant
        assert read.constant
        np.testing.assert_array_equal(mine.constant.array(), read.constant.array())


@pytest.mark.parametrize("name", ["model.onnx", "graph.ir", "float.ir", "float.onnx", "report.json"])
def test_a_file_that_was_changed_or_removed_is_named(saved: Path, name: str) -> None:
    with (saved / name).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(OutputError, match=f"{name}.*changed"):
        lowtide.load_output(saved)
    (saved / name).unlink()
    with pytest.raises(OutputError, match=f"{name}.*missing"):
        lowtide.load_output(saved)


@pytest.mark.parametrize("name", ["graph.ir", "float.ir", "report.json"])
def test_a_file_that_the_manifest_lost_is_named(saved: Path, name: str) -> None:
    manifest = json.loads((saved / MANIFEST).read_text("utf-8"))
    del manifest["outputs"][name]
    (saved / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    (saved / name).unlink()
    with pytest.raises(OutputError, match=name):
        lowtide.load_output(saved)


def test_constants_that_are_not_in_the_model_file_are_named(saved: Path) -> None:
    manifest = json.loads((saved / MANIFEST).read_text("utf-8"))
    del manifest["outputs"]["model.onnx"]
    (saved / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    (saved / "model.onnx").write_bytes(b"")
    with pytest.raises(OutputError, match=r"weight is not in model\.onnx"):
        lowtide.load_output(saved)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere.*lowtide compile"):
        lowtide.load_output(tmp_path / "nowhere")


def test_the_saved_network_computes_what_the_result_computes(result: CompileResult, saved: Path) -> None:
    loaded = attrs.evolve(result, graph=lowtide.load_output(saved).graph)
    with np.load(TEST) as data:
        feeds = {"image": data["image"][:1].astype(np.float32)}
    np.testing.assert_array_equal(loaded.run(feeds)["logits"], result.run(feeds)["logits"])
