"""Options files: JSON, YAML, and the vendor's model-zoo configurations."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import attrs

from lowtide.errors import OptionError
from lowtide.narrow import is_mapping
from lowtide.options.notes import ADVISED_FRAMES
from lowtide.options.resolve import OptionLayer
from lowtide.options.text import read_text, read_value

SESSION_OPTIONS = ("input_mean", "input_scale", "input_optimization")
SESSION_KEYS = (*SESSION_OPTIONS, "runtime_options", "model_path", "target_device", "input_data_layout")
"""What is read of a session block; the rest is for the vendor's scripts."""

_ASSIGNED = re.compile(r"^\s*\w[\w:.]*\s*=", re.MULTILINE)

PLACEHOLDERS = ("calibration_frames", "calibration_iterations")
"""Options that hold placeholders below ten in configurations, which the vendor's scripts replace.

Source: of sixty published configurations one holds twelve frames, the others one or three; the vendor's
scripts set 12, 25 or 50 when they run.
"""


@attrs.frozen
class LoadedOptions:
    """What an options file says.

    Attributes:
        file: the file itself.
        layer: the options.
        preprocess: the preprocessing block, ``None`` without one.
        model_path: the model that the file is about, as it is written there; see `find_model`.
        target: the device that the file is made for, in lower case.
        info: what the file tells of the model without being an option, as ``prequantized_model_type``.
        ignored: blocks and keys that have no meaning here.
    """

    file: Path
    layer: OptionLayer
    preprocess: Mapping[str, Any] | None = None
    model_path: str | None = None
    target: str | None = None
    info: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    ignored: tuple[str, ...] = ()

    def find_model(self) -> Path | None:
        """The model file, looked for beside the file, in the folder above, and in their folders ``model``.

        Raises:
            OptionError: when the model is named and in none of these places.
        """
        if self.model_path is None:
            return None
        candidates = list(_candidates(self.file, self.model_path))
        for candidate in candidates:
            if candidate.is_file():
                return candidate
        # The published zoo holds the address of a model in a small file of nearly the same name.
        linked = [path.name + ".link" for path in candidates if path.with_name(path.name + ".link").is_file()]
        raise OptionError(
            f"the model {self.model_path!r} is not there",
            place=f"{self.file}, session.model_path",
            hint=f"download it from the address in {linked[0]}"
            if linked
            else "put it beside the file, or name the model on the command line",
        )


def load_options_file(path: Path) -> LoadedOptions:
    """Read an options file.

    Raises:
        OptionError: when it is missing, does not parse (with line and column), or is no mapping.
    """
    found = read_text(path)
    if not is_mapping(found):
        raise _no_options(found, path)
    origin = f"options file {path.name}"
    named = {str(key): value for key, value in found.items()}
    preprocess = dict(_block(named, "preprocess", path))
    if "session" in named:
        return _model_zoo(named, preprocess, origin, path)
    values = {key: value for key, value in named.items() if key != "preprocess"}
    return LoadedOptions(path, OptionLayer(origin, values), preprocess or None)


def _no_options(found: object, path: Path) -> OptionError:
    expected = "expected options by name"
    hint = "write YAML, one option a line, as `tensor_bits: 8`"
    if found is None:
        return OptionError(f"{expected}, and the file is empty", place=str(path), hint=hint)
    if isinstance(found, str) and _ASSIGNED.search(found):
        message = f"{expected}, found lines of KEY=VALUE, which are not read"
        return OptionError(message, place=str(path), hint=f"{hint} for tensor_bits=8")
    return OptionError(f"{expected}, found {reprlib.repr(found)}", place=str(path), hint=hint)


def parse_assignment(text: str) -> tuple[str, Any]:
    """``KEY=VALUE`` of the command line; a list, mapping or quoted text is read as YAML, the rest stays text.

    Raises:
        OptionError: when there is no ``=``, or brackets or quotes do not match.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise OptionError(f"expected KEY=VALUE, found {text!r}", place="--set")
    return key.strip(), read_value(value, f"--set {key.strip()}")


def _model_zoo(
    found: Mapping[str, Any], preprocess: dict[str, Any], origin: str, path: Path
) -> LoadedOptions:
    session = _block(found, "session", path)
    runtime = _block(session, "runtime_options", path, "session.")
    placeholders = {key: value for key, value in runtime.items() if _is_placeholder(key, value)}
    values = {key: value for key, value in runtime.items() if key not in placeholders}
    values |= {key: session[key] for key in SESSION_OPTIONS if session.get(key) is not None}
    for key in ("input_mean", "input_scale"):
        if session.get(key) is not None and not session.get("input_optimization"):
            preprocess[key] = session[key]
    if session.get("input_data_layout") is not None and preprocess.get("data_layout") is None:
        preprocess["data_layout"] = session["input_data_layout"]
    target = _word(session, "target_device", path)
    return LoadedOptions(
        file=path,
        layer=OptionLayer(origin, values, placeholders),
        preprocess=preprocess or None,
        model_path=_word(session, "model_path", path),
        target=None if target is None else target.lower(),
        info=_block(runtime, "info", path, "session.runtime_options."),
        ignored=(
            *(key for key in found if key not in {"session", "preprocess"}),
            *_ignored_session_keys(session, path),
        ),
    )


def _is_placeholder(key: str, value: object) -> bool:
    if key.rpartition(":")[2] not in PLACEHOLDERS or not isinstance(value, int):
        return False
    return 1 <= value < ADVISED_FRAMES and value is not True


def _ignored_session_keys(session: Mapping[str, Any], path: Path) -> Iterator[str]:
    """The keys that are set and not read; a misspelt one must not be among them."""
    for key, value in session.items():
        if key in SESSION_KEYS:
            continue
        if meant := difflib.get_close_matches(key, SESSION_KEYS, n=1, cutoff=0.85):
            raise OptionError(
                f"unknown key {key!r}", place=f"{path}, session", hint=f"did you mean {meant[0]}?"
            )
        if value is not None:
            yield f"session.{key}"


def _candidates(file: Path, model: str) -> Iterator[Path]:
    """Where the model may be; archives of the zoo keep it in ``model`` and the file elsewhere."""
    written = Path(model)
    if written.is_absolute():
        yield written
    names = dict.fromkeys([model, PurePosixPath(model).name])
    for folder in (file.parent, file.parent.parent):
        for inner in (folder, folder / "model"):
            yield from (inner / name for name in names if not Path(name).is_absolute())


def _word(session: Mapping[str, Any], key: str, path: Path) -> str | None:
    value: object = session.get(key)
    if value is not None and (not isinstance(value, str) or not value.strip() or "\0" in value):
        raise OptionError(f"expected text, found {reprlib.repr(value)}", place=f"{path}, session.{key}")
    return None if value is None else value.strip()


def _block(mapping: Mapping[str, Any], name: str, path: Path, above: str = "") -> Mapping[str, Any]:
    block: object = mapping.get(name)
    if block is None:
        return {}
    if not is_mapping(block):
        raise OptionError(f"expected a mapping, found {type(block).__name__}", place=f"{path}, {above}{name}")
    return {str(key): value for key, value in block.items()}
