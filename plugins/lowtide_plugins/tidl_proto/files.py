"""Which files a proto and the network that it is for have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import onnx

from lowtide.compiler.request import model_digest
from lowtide.errors import OptionError

OPTION = "advanced_options:quant_params_proto_path"


def numbered(path: Path, parts: int) -> tuple[Path, ...]:
    """The files of so many parts: the path itself for one, ``stem_0.suffix`` and so on for several."""
    if parts == 1:
        return (path,)
    return tuple(path.with_name(f"{path.stem}_{number}{path.suffix}") for number in range(parts))


def named(chosen: str, parts: int) -> tuple[Path, ...]:
    """The files of the path that the user gave.

    Raises:
        OptionError: for a folder, or when what is there is the file of another number of parts: new files
            would be written beside it.
    """
    path = Path(chosen)
    if path.is_dir():
        hint = f"name the file: {path / 'quant_params.prototxt'}"
        raise OptionError(f"{path} is a folder", place=OPTION, hint=hint)
    files = numbered(path, parts)
    if parts > 1 and path.exists():
        names = f"{files[0].name} to {files[-1].name}"
        found = re.fullmatch(r"(.+)_\d+", path.stem)
        whole = path.with_name(f"{found[1]}{path.suffix}") if found else None
        hint = "give the name of a file that does not exist, or remove this one"
        if whole is not None and numbered(whole, parts)[0].exists():
            hint = f"name all parts, without a number: {whole}"
        raise OptionError(
            f"{path} is one file, and the accelerator has {parts} parts of the network, which would be "
            f"{names}",
            place=OPTION,
            hint=hint,
        )
    first = numbered(path, 2)[0]
    if parts == 1 and not path.exists() and first.exists():
        raise OptionError(
            f"{first} is the first of several parts, and the accelerator has one part of the network, which "
            f"would be {path.name}",
            place=OPTION,
            hint=f"give the name of a file that does not exist, or for this one part {first}",
        )
    return files


def description(proto: Path) -> str:
    """What a network says of itself that was written for a proto."""
    return f"the float network that {proto.name} is for, written by Lowtide"


def network_file(proto: Path, model: str) -> Path:
    """Where the network of a proto goes: to ``stem.onnx``, or where another model has this name beside it.

    The network of an earlier proto of this name is replaced, unless it is the one that was compiled.

    Args:
        proto: the path without a number.
        model: SHA-256 of the model that was compiled.
    """
    return next(path for path in _candidates(proto) if not path.exists() or _is_old(path, proto, model))


def network_of(proto: Path, model: str) -> Path | None:
    """The network that was written for a proto, if it is there and is not the one that was compiled."""
    for path in _candidates(proto):
        if not path.exists():
            return None
        if _is_old(path, proto, model):
            return path
    return None


def _candidates(proto: Path) -> Iterator[Path]:
    yield proto.with_suffix(".onnx")
    yield proto.with_name(f"{proto.stem}_network.onnx")
    for number in count(2):
        yield proto.with_name(f"{proto.stem}_network_{number}.onnx")


def _is_old(path: Path, proto: Path, model: str) -> bool:
    try:
        found = onnx.ModelProto.FromString(path.read_bytes()).doc_string
    except Exception:  # noqa: BLE001 - whatever it is, it is no network of ours
        return False
    return found == description(proto) and model_digest(path) != model
