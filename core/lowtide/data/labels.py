"""Labels out of a file of their own."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from lowtide.data.source import Label, RawSource, as_label
from lowtide.errors import DataError, counted, nearest

Row = tuple[str, int]


def read_labels(path: Path, raw: RawSource) -> Sequence[Label]:
    """The label of every frame of a source, in its order.

    An ``.npy`` has the labels along its first axis. Text has one label a line, in the last column; a first
    line with words instead is a header. Where the frames are files and every line begins with a name, labels
    are assigned by name, whatever their order; otherwise by order.

    Raises:
        DataError: when the file cannot be read, or has not exactly one label for a frame.
    """
    try:
        if path.suffix.lower() == ".npy":
            values: list[Label] = [as_label(entry, str(path)) for entry in np.load(path, allow_pickle=False)]
            rows: list[Row] = []
        else:
            rows = _rows(path)
            values = [label for _, label in rows]
    except (OSError, ValueError, EOFError, TypeError, csv.Error) as error:
        raise DataError(f"labels cannot be read: {error}", place=str(path)) from error
    names = raw.names()
    if names is not None and rows and all(name for name, _ in rows):
        return _by_name(rows, names, path)
    if raw.count is not None and len(values) != raw.count:
        raise DataError(
            f"{counted(len(values), 'label')} for {counted(raw.count, 'frame')}",
            place=str(path),
            hint="give one label a frame",
        )
    return values


def _rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    cells = [row if len(row) > 1 else row[0].rsplit(maxsplit=1) for row in lines]
    if len(cells) > 1 and not _is_number(cells[0][-1]):
        cells = cells[1:]
    return [(row[0].strip() if len(row) > 1 else "", _whole(row[-1])) for row in cells]


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"expected whole numbers, found {text.strip()!r}") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _by_name(rows: Sequence[Row], names: Sequence[str], path: Path) -> list[Label]:
    labels: dict[str, int] = {}
    for name, label in rows:
        if labels.setdefault(name, label) != label:
            raise DataError(f"two labels for {name!r}", place=str(path))
    # A list may name files without their folders, unless two folders have files of the same name.
    bare = [PurePosixPath(name).name for name in names]
    often = Counter(bare)
    found: list[Label] = []
    for name, short in zip(names, bare, strict=True):
        key = name if name in labels or often[short] > 1 else short
        if key not in labels:
            raise DataError(f"no label for {name!r}", place=str(path), hint=nearest(name, labels))
        found.append(labels[key])
    return found
