"""From what the user names to a source of frames."""

from __future__ import annotations

import csv
import importlib
import re
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import attrs
import numpy as np

from lowtide.data.fit import DataSource
from lowtide.data.preprocess import Preprocess
from lowtide.data.raw import (
    IMAGE_SUFFIXES,
    LABEL_NAMES,
    ArraySource,
    FolderSource,
    IterableSource,
    NpzSource,
    RandomSource,
)
from lowtide.data.source import InputSpec, Label, RawSource
from lowtide.diagnostics import Diagnostics
from lowtide.errors import DataError
from lowtide.ir import Array
from lowtide.narrow import is_mapping, is_sequence

_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def open_data(
    spec: object,
    inputs: Sequence[InputSpec],
    *,
    preprocess: Preprocess | None = None,
    labels: str | None = None,
    seed: int = 0,
    diagnostics: Diagnostics | None = None,
) -> DataSource:
    """Open calibration or evaluation data.

    Args:
        spec: a folder of images, ``.npy`` or ``.npz``; one ``.npz`` or ``.npy`` with a leading frame axis;
            an array or a
            mapping of arrays by input name, with a leading frame axis; a sequence of frames; a callable that
            returns an
            iterable of frames; ``package.module:callable``; or ``random:N``. A frame is an array or a
            mapping by name.
        inputs: what the network wants.
        preprocess: how images become arrays.
        labels: a file with one label a frame: ``.npy``, or text with the label in the last column.
        seed: of random data.
        diagnostics: where guesses and suspicious frames are noted.

    Raises:
        DataError: when there is no such data, or it cannot fit. Frames are checked when they are read.
    """
    notes = diagnostics if diagnostics is not None else Diagnostics()
    raw = _raw(spec, inputs, preprocess, seed, notes)
    if raw.count == 0:
        raise DataError("there are no frames", place=raw.describe())
    given = None if labels is None else _labels(Path(labels), raw)
    return DataSource(raw, tuple(inputs), notes, labels=given)


def _raw(
    spec: object, inputs: Sequence[InputSpec], preprocess: Preprocess | None, seed: int, notes: Diagnostics
) -> RawSource:
    if isinstance(spec, np.ndarray):
        return ArraySource({"": np.asarray(cast(Array, spec))}, None, "array")
    if is_mapping(spec):
        return _arrays({str(name): np.asarray(array) for name, array in spec.items()}, inputs)
    if isinstance(spec, str | Path):
        return _named(str(spec), inputs, preprocess, seed, notes)
    if is_sequence(spec):
        return IterableSource(lambda: spec, len(spec), "sequence")
    if callable(spec):
        make = cast(Callable[[], Iterable[Any]], spec)
        return IterableSource(make, None, getattr(spec, "__name__", "callable"))
    if isinstance(spec, Iterable):
        # An iterator can be read once, but calibration and measuring both read.
        kept: list[Any] = list(cast(Iterable[object], spec))
        return IterableSource(lambda: kept, len(kept), "iterator")
    raise DataError(f"cannot be read as data: {type(spec).__name__}", hint="give a path, arrays or frames")


def _arrays(arrays: dict[str, Array], inputs: Sequence[InputSpec]) -> RawSource:
    wanted = {spec.name for spec in inputs}
    names = [name for name in LABEL_NAMES if name in arrays and name not in wanted and len(arrays) > 1]
    return ArraySource(arrays, arrays.pop(names[0]) if names else None, "arrays")


def _named(
    spec: str, inputs: Sequence[InputSpec], preprocess: Preprocess | None, seed: int, notes: Diagnostics
) -> RawSource:
    if spec.startswith("random:"):
        number = spec.removeprefix("random:")
        if not number.isdigit() or int(number) == 0:
            raise DataError(f"expected a number of frames, found {number!r}", place=spec, hint="random:16")
        return RandomSource(inputs, int(number), seed)
    path = Path(spec)
    if path.is_dir():
        return _folder(path, inputs, preprocess, notes)
    if path.is_file():
        return _file(path, inputs)
    if _CALLABLE.fullmatch(spec):
        return IterableSource(_callable(spec), None, spec)
    raise DataError(
        "there is no such file or folder", place=spec, hint="or give package.module:callable, or random:N"
    )


def _file(path: Path, inputs: Sequence[InputSpec]) -> RawSource:
    match path.suffix.lower():
        case ".npz":
            return NpzSource(path, inputs)
        case ".npy":
            try:
                return ArraySource({"": np.load(path, mmap_mode="r", allow_pickle=False)}, None, path.name)
            except (OSError, ValueError, EOFError, TypeError) as error:
                raise DataError(f"is no readable .npy file: {error}", place=str(path)) from error
        case _:
            raise DataError(
                f"data in {path.suffix or 'a file without a suffix'} is not known",
                place=str(path),
                hint="give .npz, .npy, or a folder of images",
            )


def _folder(
    folder: Path, inputs: Sequence[InputSpec], preprocess: Preprocess | None, notes: Diagnostics
) -> RawSource:
    everything = sorted(
        path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")
    )
    kinds = {"images": IMAGE_SUFFIXES, ".npy": frozenset({".npy"}), ".npz": frozenset({".npz"})}
    found = {
        kind: [path for path in everything if path.suffix.lower() in suffixes]
        for kind, suffixes in kinds.items()
    }
    present = [kind for kind, files in found.items() if files]
    if not present:
        raise DataError("the folder has no images, .npy or .npz files", place=str(folder))
    if len(present) > 1:
        raise DataError(f"the folder mixes {' and '.join(present)}", place=str(folder), hint="keep one kind")
    files = found[present[0]]
    if len(files) < len(everything):
        notes.info("LT754", str(folder), f"{len(everything) - len(files)} other files are ignored")
    if present[0] != "images":
        return FolderSource(folder, files, None, grey=False)
    chosen, grey = _image_preprocess(inputs, preprocess, notes, str(folder))
    return FolderSource(folder, files, chosen, grey=grey)


def _image_preprocess(
    inputs: Sequence[InputSpec], preprocess: Preprocess | None, notes: Diagnostics, place: str
) -> tuple[Preprocess, bool]:
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise DataError(
            f"images fit one input of 4 dimensions, the network has {[spec.shape for spec in inputs]}",
            place=place,
        )
    _, first, second, last = inputs[0].shape
    channels_first = first in {1, 3} or last not in {1, 3}
    size = (second, last) if channels_first else (first, second)
    grey = (first if channels_first else last) == 1
    base = preprocess
    if base is None:
        notes.warning(
            "LT753",
            place,
            "no preprocessing is given: RGB pixels 0..255, resized to the input",
            "describe it in the options file: preprocess, input_mean, input_scale",
        )
        base = Preprocess()
    resize = size if base.resize is None and base.crop is None else base.resize
    return attrs.evolve(base, resize=resize, layout="NCHW" if channels_first else "NHWC"), grey


def _callable(spec: str) -> Callable[[], Iterable[Any]]:
    module, _, name = spec.partition(":")
    try:
        with _current_folder_importable():
            found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise DataError(f"cannot be imported: {error}", place=spec) from error
    if not callable(found):
        raise DataError(f"is {type(found).__name__}, expected a callable", place=spec)
    return cast(Callable[[], Iterable[Any]], found)


@contextmanager
def _current_folder_importable() -> Generator[None, None, None]:
    sys.path.insert(0, "")
    try:
        yield
    finally:
        sys.path.remove("")


def _labels(path: Path, raw: RawSource) -> Sequence[Label]:
    try:
        if path.suffix.lower() == ".npy":
            found = np.load(path, allow_pickle=False)
            values: Sequence[Label] = [int(entry) for entry in found.reshape(-1)]
        else:
            with path.open(encoding="utf-8", newline="") as file:
                rows = [row for row in csv.reader(file) if row]
            values = [int(row[-1].split()[-1]) for row in rows]
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"labels cannot be read: {error}", place=str(path)) from error
    if raw.count is not None and len(values) != raw.count:
        raise DataError(f"{len(values)} labels for {raw.count} frames", place=str(path))
    return values
