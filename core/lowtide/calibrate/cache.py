"""Statistics kept between runs, in chunks of frames, under a key made of everything that they depend on."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO

import attrs
import numpy as np
import platformdirs

from lowtide.calibrate.api import Statistic, TensorInfo
from lowtide.diagnostics import Diagnostics
from lowtide.ir import Array, Graph, print_graph

DISTRIBUTION = "lowtide"
FORMAT = 2
"""Raised when the files change their meaning."""

_DAMAGE = (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


@attrs.frozen
class StatisticsCache:
    """A folder of statistics. What it holds can be deleted at any time.

    Attributes:
        folder: made when something is first written.
    """

    folder: Path = attrs.field(converter=Path)

    @classmethod
    def default(cls) -> StatisticsCache:
        """The one in the user's cache folder."""
        return cls(platformdirs.user_cache_path(DISTRIBUTION) / "statistics")

    def entry(self, key: str, diagnostics: Diagnostics) -> CacheEntry:
        """The chunks of one collection.

        Args:
            key: see `cache_key`.
            diagnostics: told of damaged files and of a folder that cannot be written.
        """
        return CacheEntry(self.folder / key[:2] / key, diagnostics)


@attrs.frozen
class CacheEntry:
    """The chunks of one collection: one ``.npz`` each."""

    folder: Path
    diagnostics: Diagnostics

    def path(self, index: int) -> Path:
        """Where a chunk is."""
        return self.folder / f"{index:06d}.npz"

    def load(self, index: int) -> dict[str, Array] | None:
        """A chunk, or ``None`` if it is not there or damaged."""
        path = self.path(index)
        try:
            # numpy leaves a file that it opened itself open when it turns out to be no archive.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except FileNotFoundError:
            return None
        except _DAMAGE as error:
            self.damaged(index, error)
            return None

    def damaged(self, index: int, error: Exception) -> None:
        """Report a chunk that cannot be used; it is made anew."""
        self.diagnostics.warning(
            "LT761",
            str(self.path(index)),
            f"these saved statistics are damaged ({type(error).__name__}: {error}) and are collected again",
        )

    def save(self, index: int, arrays: Mapping[str, Array]) -> None:
        """Write a chunk; it appears complete or not at all."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(suffix=".tmp", dir=self.folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    _write(file, arrays)
                Path(name).replace(self.path(index))
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            self.diagnostics.warning(
                "LT762",
                str(self.folder),
                f"statistics cannot be saved ({error.strerror}); the next run will collect them again",
                "choose another folder with --cache, or --no-cache",
            )


def cache_key(
    graph: Graph,
    fingerprint: str,
    statistics: Sequence[type[Statistic]],
    infos: Sequence[TensorInfo],
    array_positions: Sequence[int],
) -> str:
    """SHA-256 over all that the statistics depend on.

    That is: the network with its constants, the data, the observed tensors, the statistics with the code that
        defines
    them, the positions of the frames that are seen whole, and the versions of Lowtide and of ONNX Runtime.
    """
    content = [
        FORMAT,
        _version(DISTRIBUTION),
        _version("onnxruntime"),
        print_graph(graph),
        fingerprint,
        [_identity(kind) for kind in statistics],
        [info.name for info in infos],
        list(array_positions),
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _identity(kind: type[Statistic]) -> list[str]:
    """Name, class, distribution and source of a statistic: a changed one must not find old results."""
    top = kind.__module__.partition(".")[0]
    owners = [] if top.startswith(DISTRIBUTION) else metadata.packages_distributions().get(top, [])
    versions = [f"{owner} {_version(owner)}" for owner in sorted(set(owners))]
    return [kind.name, f"{kind.__module__}:{kind.__qualname__}", *versions, _source_digest(kind)]


def _source_digest(kind: type[Statistic]) -> str:
    import inspect  # noqa: PLC0415 - loads the tokenizer, for compiles with a cache only

    try:
        source = inspect.getsourcefile(kind)
        return hashlib.sha256(Path(source).read_bytes()).hexdigest() if source else ""
    except (OSError, TypeError):
        return ""


def _write(file: IO[bytes], arrays: Mapping[str, Array]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
