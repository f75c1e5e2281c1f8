"""The output folder: written in one step, and read back."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs
import onnx
from onnx.external_data_helper import load_external_data_for_model

from lowtide.compiler.result import CompileResult
from lowtide.compiler.run import Device
from lowtide.data import Preprocess
from lowtide.emit import Emitter
from lowtide.errors import OutputError, PluginError
from lowtide.exact import find_profile
from lowtide.ir import Constant, Graph, parse_graph
from lowtide.narrow import is_iterable, is_mapping
from lowtide.plugin import EmitterSpec, plugin_code

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
VERSIONED = ("lowtide", "numpy", "onnx", "onnxruntime")
"""Distributions whose versions can change results."""


def write_output(
    result: CompileResult, folder: Path, *, force: bool, beside: Callable[[Path], None] | None = None
) -> Path:
    """Let every default emitter write into a temporary folder beside the target, then move it into place.

    Args:
        result: what to write.
        folder: where to.
        force: replace an earlier output.
        beside: writes more into the new folder before it is moved.

    Raises:
        OutputError: when the folder exists (and may not be replaced) or cannot be written.
        PluginError: naming an emitter that fails, or returns something else than names of
            files in the folder.
    """
    check_free(folder, force=force)
    final = folder.resolve()
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", place=str(folder)) from error
    try:
        # Not the temporary folder itself, which only its owner may read.
        (temporary / "new").mkdir()
        _emit(result, temporary / "new")
        if beside is not None:
            beside(temporary / "new")
        _move(temporary, final)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", place=str(folder)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _move(temporary: Path, final: Path) -> None:
    """Put the new folder in the place of the old one, which comes back when that fails."""
    replaced = final.exists()
    if replaced:
        final.rename(temporary / "old")
    try:
        (temporary / "new").rename(final)
    except OSError:
        if replaced:
            (temporary / "old").rename(final)
        raise


def check_free(folder: Path, *, force: bool) -> None:
    """Refuse a folder that must not be overwritten; called before the work begins, too.

    Raises:
        OutputError: when it exists without `force`, or exists and is not an earlier output.
    """
    try:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return
    except OSError as error:
        raise OutputError(f"cannot be read: {error.strerror}", place=str(folder)) from error
    if not force:
        raise OutputError("exists already", place=str(folder), hint="choose another --output or use --force")
    try:
        read_manifest(folder)
    except OutputError as error:
        raise OutputError(
            f"--force replaces only what an earlier compile wrote, which has a {MANIFEST}",
            place=str(folder),
            hint="choose another --output",
        ) from error


def _emit(result: CompileResult, folder: Path) -> None:
    written: dict[str, str] = {}
    for spec in result.registry.all(EmitterSpec):
        if not spec.default:
            continue
        place = result.registry.describe(spec)
        for name in emitted(result.registry.load(EmitterSpec, spec.name), result, folder, place):
            if name in written or name == MANIFEST:
                raise PluginError(
                    f"writes {name}, which {written.get(name, 'a compile')} writes", place=place
                )
            written[name] = place
    manifest = {
        "manifest_version": MANIFEST_VERSION,
        "model": result.report.model.file,
        "target": result.target.name,
        "digests": dict(result.digests),
        "outputs": {name: _digest(folder / name) for name in sorted(written)},
        "versions": {name: metadata.version(name) for name in VERSIONED},
        "options": {option.key: str(option.value) for option in result.options.effective},
        "preprocess": None if result.preprocess is None else result.preprocess.as_mapping(),
        "arithmetic": result.device.profile.name,
        "pipelines": dict(result.pipelines),
        "times": [attrs.asdict(stage) for stage in result.report.times],
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")


def emitted(kind: type[Emitter], result: CompileResult, folder: Path, place: str) -> tuple[str, ...]:
    """Let an emitter write into a folder; the names of its files.

    Raises:
        PluginError: naming it with `place`, when it fails, or what it returns are no names of files that are
            in the folder now.
        OSError: when it cannot write.
    """
    with plugin_code(place, passing=(OSError,)):
        found: object = kind().emit(result, folder)
        names: tuple[object, ...] | None = tuple(found) if is_iterable(found) else None
    if names is None:
        raise PluginError(f"emit should return a tuple of file names, found {found!r}", place=place)
    files = tuple(_inside(name, folder, place) for name in names)
    for name in files:
        if not (folder / name).is_file():
            raise PluginError(f"did not write {name}, which it returned", place=place)
    return files


def _inside(name: object, folder: Path, place: str) -> str:
    if not isinstance(name, str):
        raise PluginError(f"emit should return file names as text, found {name!r}", place=place)
    path = Path(name)
    leaves = path.is_absolute() or ".." in path.parts
    if leaves or not (folder / path).resolve().is_relative_to(folder.resolve()):
        raise PluginError(
            f"emit should return names of files in the folder, relative to it, found {name!r}", place=place
        )
    return name


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@attrs.frozen
class SavedOutput:
    """An output folder in memory.

    Attributes:
        graph: the quantized network.
        reference: the prepared float network.
        conditioned: the float network that was quantized; the reference itself where that is the same.
        report: the report as written, see `lowtide.report.model`.
    """

    folder: Path
    graph: Graph
    reference: Graph
    conditioned: Graph
    manifest: Mapping[str, Any]
    report: Mapping[str, Any]

    @property
    def preprocess(self) -> Preprocess | None:
        """How images became arrays in the compile; ``None`` where nothing was said about that."""
        block = self.manifest.get("preprocess")
        return None if block is None else Preprocess.from_mapping(block, place=str(self.folder / MANIFEST))

    @property
    def device(self) -> Device:
        """How the device rounds, and what runs on the host."""
        host = (layer["name"] for layer in self.report["layers"] if layer["placement"] == "host")
        return Device(find_profile(str(self.manifest.get("arithmetic"))), frozenset(host))


def load_output(folder: str | Path) -> SavedOutput:
    """Read an output folder back.

    Raises:
        OutputError: when it is none, or when a file is missing or was changed since.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    for name, digest in manifest["outputs"].items():
        path = folder / name
        if not path.is_file():
            raise OutputError("a file of this output is missing", place=str(path), hint="compile again")
        if _digest(path) != digest:
            raise OutputError(
                "the file was changed after it was written", place=str(path), hint="compile again"
            )
    reference = _graph(folder, "float.ir", "float.onnx")
    scaled = "conditioned.ir" in manifest["outputs"]
    return SavedOutput(
        folder=folder,
        graph=_graph(folder, "graph.ir", "model.onnx"),
        reference=reference,
        conditioned=_graph(folder, "conditioned.ir", "conditioned.onnx") if scaled else reference,
        manifest=manifest,
        report=_json(folder / "report.json"),
    )


def read_manifest(folder: Path) -> Mapping[str, Any]:
    """The manifest of an output folder.

    Raises:
        OutputError: when there is none, or it is not one of ours, or of another version.
    """
    manifest, place = _json(folder / MANIFEST), str(folder / MANIFEST)
    version = manifest.get("manifest_version")
    if version is None or not is_mapping(manifest.get("outputs")):
        raise OutputError(
            "is not the manifest of a compile", place=place, hint="give a folder that lowtide compile wrote"
        )
    if version != MANIFEST_VERSION:
        raise OutputError(
            f"expected manifest version {MANIFEST_VERSION}, found {version}",
            place=place,
            hint="compile again, or read it with the Lowtide that wrote it",
        )
    return manifest


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found: object = json.loads(path.read_text("utf-8"))
    except OSError as error:
        hint = "give a folder that lowtide compile wrote"
        raise OutputError(f"cannot be read: {error.strerror}", place=str(path), hint=hint) from error
    except ValueError as error:
        raise OutputError(f"is damaged: {error}", place=str(path), hint="compile again") from error
    if not is_mapping(found):
        raise OutputError("is damaged: expected a JSON object", place=str(path), hint="compile again")
    return found


def _graph(folder: Path, text: str, model: str) -> Graph:
    """A graph from its text form; the data of large constants is in the model file beside it, by digest."""
    graph = parse_graph(_read(folder / text).decode("utf-8"))
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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OutputError(
            f"cannot be read: {error.strerror}", place=str(path), hint="compile again"
        ) from error


def _model(path: Path) -> onnx.ModelProto:
    proto = onnx.ModelProto.FromString(_read(path))
    load_external_data_for_model(proto, str(path.parent))
    return proto
