"""Options files: JSON, YAML, and the vendor's model-zoo configurations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from lowtide.errors import OptionError
from lowtide.narrow import is_mapping
from lowtide.options.resolve import OptionLayer
from lowtide.options.text import read_text, read_value

SESSION_KEYS = ("input_mean", "input_scale", "input_optimization")
SKIPPED_RUNTIME_KEYS = ("info", "import")
"""Entries of a runtime_options block that only the vendor's scripts read."""


@attrs.frozen
class LoadedOptions:
    """What an options file says.

    Attributes:
        layer: the options.
        preprocess: the preprocessing block, ``None`` without one.
        model_path: the model that the file is about, if it says.
        ignored: blocks that have no meaning here.
    """

    layer: OptionLayer
    preprocess: Mapping[str, Any] | None = None
    model_path: str | None = None
    ignored: tuple[str, ...] = ()


def load_options_file(path: Path) -> LoadedOptions:
    """Read an options file.

    Raises:
        OptionError: when it is missing, does not parse (with line and column), or is no mapping.
    """
    found = read_text(path)
    if not is_mapping(found):
        raise OptionError(f"expected options by name, found {type(found).__name__}", place=str(path))
    origin = f"options file {path.name}"
    named = {str(key): value for key, value in found.items()}
    if "session" not in named:
        return LoadedOptions(OptionLayer(origin, named))
    return _model_zoo(named, origin, str(path))


def parse_assignment(text: str) -> tuple[str, Any]:
    """``KEY=VALUE`` of the command line; a list, mapping or quoted text is read as YAML, the rest stays text.

    Raises:
        OptionError: when there is no ``=``, or brackets or quotes do not match.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise OptionError(f"expected KEY=VALUE, found {text!r}", place="--set")
    return key.strip(), read_value(value, f"--set {key.strip()}")


def _model_zoo(found: Mapping[str, Any], origin: str, place: str) -> LoadedOptions:
    session = _block(found, "session", place)
    runtime = _block(session, "runtime_options", place)
    values = {key: value for key, value in runtime.items() if key not in SKIPPED_RUNTIME_KEYS}
    values |= {key: session[key] for key in SESSION_KEYS if session.get(key) is not None}
    preprocess = dict(_block(found, "preprocess", place))
    for key in ("input_mean", "input_scale"):
        if session.get(key) is not None and not session.get("input_optimization"):
            preprocess[key] = session[key]
    model: object = session.get("model_path")
    if model is not None and not isinstance(model, str):
        raise OptionError(f"expected a path, found {model!r}", place=f"{place}, session.model_path")
    ignored = tuple(str(key) for key in found if key not in {"session", "preprocess"})
    return LoadedOptions(OptionLayer(origin, values), preprocess or None, model, ignored)


def _block(mapping: Mapping[str, Any], name: str, place: str) -> Mapping[str, Any]:
    block: object = mapping.get(name) or {}
    if not is_mapping(block):
        raise OptionError(f"expected a mapping, found {type(block).__name__}", place=f"{place}, {name}")
    return {str(key): value for key, value in block.items()}
