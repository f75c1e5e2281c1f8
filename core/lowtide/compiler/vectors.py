"""Golden vectors: the codes of every layer in exact execution, for comparison with traces from a board."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from lowtide.compiler.run import Device
from lowtide.data import DataSource
from lowtide.errors import OutputError
from lowtide.exact import ExactSession
from lowtide.ir import Array, Graph, Layer, Value, layers
from lowtide.measure import CodeDifference
from lowtide.narrow import is_mapping

MANIFEST = "vectors.json"
VERSION = 1
RAW = (".bin", ".raw")
"""Endings of files that hold nothing but the elements, little-endian, in the order of the shape."""


@attrs.frozen
class LayerDifference:
    """One layer of two sets of vectors.

    Attributes:
        codes: what differs, ``None`` when the second set does not have the layer.
    """

    layer: str
    codes: CodeDifference | None


def write_vectors(
    graph: Graph,
    device: Device,
    frames: DataSource,
    folder: Path,
    *,
    progress: Callable[[int, int | None], None] | None = None,
) -> int:
    """Run frames exactly and write what goes in and what every layer gives.

    A frame is a folder ``frame_0000`` with one ``.npy`` file for an input or layer; the manifest has the
    names in the original model, shapes, types, scales and zero points. The folder appears whole or not at
    all.

    Returns:
        The number of layers.

    Raises:
        OutputError: when the folder exists or cannot be written.
    """
    if folder.exists():
        raise OutputError("exists already", place=str(folder), hint="choose another folder")
    found = [layer for layer in layers(graph) if layer.output.type.quant is not None]
    session = ExactSession(
        graph, device.profile, on_host=device.on_host, codes=[layer.output.name for layer in found]
    )
    files = {layer.output.name: f"{at:04d}_{_safe(layer.name)}" for at, layer in enumerate(found)}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            count = _write_frames(session, frames, temporary / "new", files, progress)
            manifest = _manifest(graph, found, files, device, count)
            (temporary / "new" / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
            (temporary / "new").rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", place=str(folder)) from error
    return len(found)


def _write_frames(
    session: ExactSession,
    frames: DataSource,
    folder: Path,
    files: Mapping[str, str],
    progress: Callable[[int, int | None], None] | None,
) -> int:
    count = 0
    for frame in frames.frames():
        inside = folder / f"frame_{count:04d}"
        inside.mkdir(parents=True)
        _, codes = session.run_codes(frame.feeds)
        for name, array in frame.feeds.items():
            np.save(inside / f"input_{_safe(name)}.npy", array)
        for name, array in codes.items():
            np.save(inside / f"{files[name]}.npy", array)
        count += 1
        if progress is not None:
            progress(count, frames.count)
    return count


def _manifest(
    graph: Graph, found: list[Layer], files: Mapping[str, str], device: Device, count: int
) -> dict[str, Any]:
    return {
        "version": VERSION,
        "network": graph.name,
        "arithmetic": device.profile.name,
        "frames": count,
        "inputs": [
            {"name": value.name, "file": f"input_{_safe(value.name)}", "dtype": value.type.dtype.value}
            for value in graph.inputs
        ],
        "layers": [_entry(layer, files[layer.output.name]) for layer in found],
    }


def _entry(layer: Layer, file: str) -> dict[str, Any]:
    value: Value = layer.output
    quant = value.type.quant
    assert quant is not None  # noqa: S101 - only layers with codes are written
    return {
        "name": layer.name,
        "file": file,
        "nodes": list(dict.fromkeys(name for node in layer.nodes for name in node.location.nodes)),
        "tensors": list(dict.fromkeys(name for node in layer.nodes for name in node.location.tensors)),
        "shape": list(value.type.static_shape),
        "dtype": quant.dtype.value,
        "scale": quant.scale[0],
        "zero_point": quant.zero_point[0],
    }


def _safe(name: str) -> str:
    """A name as part of a file name; the number before it keeps it unique."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:80]


def compare_vectors(first: Path, second: Path) -> tuple[LayerDifference, ...]:
    """Hold traces against golden vectors, layer by layer in executable order.

    Args:
        first: what `write_vectors` wrote.
        second: files of the same names, as ``.npy``, or ``.bin`` or ``.raw`` with nothing but the elements.

    Raises:
        OutputError: when a folder is no set of vectors, or an array has another shape or size.
    """
    manifest = _read_manifest(first)
    found: list[LayerDifference] = []
    for entry in manifest["layers"]:
        total, seen = CodeDifference(), False
        for number in range(int(manifest["frames"])):
            frame = f"frame_{number:04d}"
            golden = _load(first / frame, entry)
            if golden is None:
                raise OutputError(
                    "a file of this set is missing", place=f"{first / frame / entry['file']}.npy"
                )
            trace = _load(second / frame, entry)
            if trace is not None:
                total.add(golden, trace)
                seen = True
        found.append(LayerDifference(entry["name"], total if seen else None))
    if all(entry.codes is None for entry in found):
        example = f"frame_0000/{manifest['layers'][0]['file']}"
        raise OutputError(
            "has none of the layers",
            place=str(second),
            hint=f"files are named as in {first / MANIFEST}: {example}.npy or .bin",
        )
    return tuple(found)


def _load(folder: Path, entry: Mapping[str, Any]) -> Array | None:
    for path in _candidates(folder, str(entry["file"])):
        if not path.is_file():
            continue
        shape = tuple(int(dim) for dim in entry["shape"])
        dtype = np.dtype(str(entry["dtype"])).newbyteorder("<")
        try:
            array = np.fromfile(path, dtype) if path.suffix in RAW else np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise OutputError(f"cannot be read: {error}", place=str(path)) from error
        if array.size != int(np.prod(shape)) or array.dtype.kind not in "iu":
            raise OutputError(
                f"expected {entry['dtype']}{list(shape)}, found {array.dtype}{list(array.shape)}",
                place=str(path),
            )
        return array.reshape(shape)
    return None


def _candidates(folder: Path, file: str) -> Iterator[Path]:
    for suffix in (".npy", *RAW):
        yield folder / f"{file}{suffix}"


def _read_manifest(folder: Path) -> Mapping[str, Any]:
    path = folder / MANIFEST
    try:
        found: object = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(
            "holds no golden vectors", place=str(folder), hint="write them with lowtide run --dump-layers"
        ) from error
    if not is_mapping(found) or found.get("version") != VERSION or not found.get("layers"):
        raise OutputError(f"expected version {VERSION} of the manifest", place=str(path))
    return {str(key): value for key, value in found.items()}
