"""From what the user names to a source of frames."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from lowtide.data.archive import NpzSource
from lowtide.data.fit import DataSource, check_names
from lowtide.data.folder import FolderSource, open_folder
from lowtide.data.labels import read_labels
from lowtide.data.preprocess import Preprocess
from lowtide.data.raw import ArraySource, IterableSource, RandomSource
from lowtide.data.source import Array, InputSpec, RawSource, label_name
from lowtide.diagnostics import Diagnostics
from lowtide.errors import DataError
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
        spec: a folder of images, ``.npy`` or ``.npz``; one ``.npz`` or ``.npy`` with a leading frame axis; an
            array or a mapping of arrays by input name, with a leading frame axis; a sequence or another
            iterable of frames; a callable that returns one; ``package.module:callable``; or ``random:N``.
            A frame is an array or a mapping by input name. Beside other arrays, one that is named
            ``labels``, ``label`` or ``y`` is the label.
        inputs: what the network wants.
        preprocess: how images become arrays; arrays are taken as they are.
        labels: a file with one label a frame: ``.npy``, or text with the label in the last column and, for
            frames that are files, their names in the first.
        seed: of random data.
        diagnostics: where guesses and suspicious frames are noted.

    Raises:
        DataError: when there is no such data, or it cannot fit. Frames are checked when they are read.
    """
    notes = diagnostics if diagnostics is not None else Diagnostics()
    raw = _raw(spec, inputs, preprocess, seed, notes)
    if raw.count == 0:
        raise DataError("there are no frames", place=raw.describe())
    given_some = preprocess is not None and preprocess != Preprocess()
    if given_some and not (raw.synthetic or _holds_images(raw)):
        notes.warning(
            "LT756",
            raw.describe(),
            "the arrays are taken as they are: resize, mean, scale and the like apply to images only",
            "give the arrays as the network wants them",
        )
    if raw.synthetic:
        notes.warning(
            "LT755",
            raw.describe(),
            "the frames are random numbers: ranges, errors and metrics say nothing about real inputs",
            "give real frames with --data",
        )
    given = None if labels is None else read_labels(Path(labels), raw)
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
        held = isinstance(spec, list | tuple)
        return IterableSource(lambda: spec, inputs, len(spec), "sequence", held=held)
    if callable(spec):
        make = cast(Callable[[], Iterable[Any]], spec)
        return IterableSource(make, inputs, None, getattr(spec, "__name__", "callable"))
    if isinstance(spec, Iterator):
        # An iterator can be read once, but calibration and measuring both read.
        kept = list(cast(Iterator[object], spec))
        return IterableSource(lambda: kept, inputs, len(kept), "iterator", held=True)
    if isinstance(spec, Iterable):
        again = cast(Iterable[object], spec)
        return IterableSource(lambda: again, inputs, None, type(again).__name__)
    raise DataError(f"cannot be read as data: {type(spec).__name__}", hint="give a path, arrays or frames")


def _holds_images(raw: RawSource) -> bool:
    return isinstance(raw, FolderSource) and raw.preprocess is not None


def _arrays(arrays: dict[str, Array], inputs: Sequence[InputSpec]) -> RawSource:
    name = label_name(arrays, inputs)
    labels = None if name is None else arrays.pop(name)
    check_names(arrays, inputs, "arrays")
    return ArraySource(arrays, labels, "arrays")


def _named(
    spec: str, inputs: Sequence[InputSpec], preprocess: Preprocess | None, seed: int, notes: Diagnostics
) -> RawSource:
    if spec.startswith("random:"):
        number = spec.removeprefix("random:")
        if not number.isdecimal() or int(number) == 0:
            raise DataError(f"expected a number of frames, found {number!r}", place=spec, hint="random:16")
        return RandomSource(inputs, int(number), seed)
    path = Path(spec)
    if path.is_dir():
        return open_folder(path, inputs, preprocess, notes)
    if path.is_file():
        return _file(path, inputs)
    if _CALLABLE.fullmatch(spec):
        return IterableSource(_callable(spec), inputs, None, spec)
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


def _callable(spec: str) -> Callable[[], Iterable[Any]]:
    module, _, name = spec.partition(":")
    try:
        with _current_folder_importable():
            found = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # importing runs code of the user's
        raise DataError(f"cannot be imported: {type(error).__name__}: {error}", place=spec) from error
    if not callable(found):
        raise DataError(f"is {type(found).__name__}, expected a callable", place=spec)
    return cast(Callable[[], Iterable[Any]], found)


@contextmanager
def _current_folder_importable() -> Generator[None, None, None]:
    sys.path.insert(0, "")
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove("")
