"""The output folder: written in one step, and read back."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs
import onnx
from onnx.external_data_helper import load_external_data_for_model

from lowtide.compiler.result import CompileResult
from lowtide.emit import Emitter
from lowtide.errors import OutputError
from lowtide.ir import Constant, Graph, parse_graph
from lowtide.plugin import EmitterSpec

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
VERSIONED = ("lowtide", "numpy", "onnx", "onnxruntime")
"""Distributions whose versions can change results."""


def write_output(result: CompileResult, folder: Path, *, force: bool) -> Path:
    """Let every default emitter write into a temporary folder beside the target, then move it into place.

    Raises:
        OutputError: when the folder exists (and may not be replaced) or cannot be written.
    """
    check_free(folder, force=force)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", place=str(folder)) from error
    try:
        _emit(result, temporary)
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", place=str(folder)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def check_free(folder: Path, *, force: bool) -> None:
    """Refuse a folder that must not be overwritten; called before the work begins, too.

    Raises:
        OutputError: when it exists without `force`, or exists and is not an earlier output.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not force:
        raise OutputError("exists already", place=str(folder), hint="choose another --output or use --force")
    if not (folder / MANIFEST).is_file():
        raise OutputError(
            f"--force replaces only folders with a {MANIFEST}, which this has not", place=str(folder)
        )


def _emit(result: CompileResult, folder: Path) -> None:
    written: list[str] = []
    for spec in result.registry.all(EmitterSpec):
        if spec.default:
            emitter: Emitter = result.registry.load(EmitterSpec, spec.name)()
            written += emitter.emit(result, folder)
    manifest = {
        "manifest_version": MANIFEST_VERSION,
        "model": result.report.model.file,
        "target": result.target.name,
        "digests": dict(result.digests),
        "outputs": {name: _digest(folder / name) for name in sorted(written)},
        "versions": {name: metadata.version(name) for name in VERSIONED},
        "options": {option.key: str(option.value) for option in result.options.effective},
        "pipelines": dict(result.pipelines),
        "times": [attrs.asdict(stage) for stage in result.report.times],
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@attrs.frozen
class SavedOutput:
    """An output folder in memory.

    Attributes:
        graph: the quantized network.
        reference: the prepared float network.
        report: the report as written, see `lowtide.report.model`.
    """

    folder: Path
    graph: Graph
    reference: Graph
    manifest: Mapping[str, Any]
    report: Mapping[str, Any]


def load_output(folder: Path) -> SavedOutput:
    """Read an output folder back.

    Raises:
        OutputError: when it is none, or when a file is missing or was changed since.
    """
    manifest = _json(folder / MANIFEST)
    for name, digest in manifest.get("outputs", {}).items():
        path = folder / name
        if not path.is_file():
            raise OutputError("a file of this output is missing", place=str(path), hint="compile again")
        if _digest(path) != digest:
            raise OutputError(
                "the file was changed after it was written", place=str(path), hint="compile again"
            )
    return SavedOutput(
        folder=folder,
        graph=_graph(folder, "graph.ir", "model.onnx"),
        reference=_graph(folder, "float.ir", "float.onnx"),
        manifest=manifest,
        report=_json(folder / "report.json"),
    )


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    except OSError as error:
        hint = "give a folder that lowtide compile wrote"
        raise OutputError(f"cannot be read: {error.strerror}", place=str(path), hint=hint) from error
    except ValueError as error:
        raise OutputError(f"is damaged: {error}", place=str(path), hint="compile again") from error
    return found


def _graph(folder: Path, text: str, model: str) -> Graph:
    """A graph from its text form; the data of large constants is in the model file beside it, by digest."""
    graph = parse_graph((folder / text).read_text("utf-8"))
    missing = [value for value in graph.constants if value.constant and not value.constant.has_data]
    if missing:
        proto = _model(folder / model)
        found = [Constant.of(onnx.numpy_helper.to_array(tensor)) for tensor in proto.graph.initializer]
        by_digest = {(data.dtype, data.shape, data.digest()): data for data in found}
        for value in missing:
            assert value.constant is not None  # noqa: S101 - filtered above
            key = (value.constant.dtype, value.constant.shape, value.constant.digest())
            if key not in by_digest:
                raise OutputError(f"the data of {value.name} is not in {model}", place=str(folder / text))
            graph.set_constant(value, by_digest[key], value.type)
    return graph


def _model(path: Path) -> onnx.ModelProto:
    proto = onnx.ModelProto.FromString(path.read_bytes())
    load_external_data_for_model(proto, str(path.parent))
    return proto
