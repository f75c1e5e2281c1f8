"""YAML and JSON as options files hold them.

YAML 1.1 reads ``0711`` as 457, ``11_01_00_00`` as 11010000 and ``2020-01-01`` as a date. All three are
names in options files, so only numbers as everybody writes them are numbers here. A key that stands
twice is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from lowtide.errors import OptionError

_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_MOST_BYTES = 1_000_000
"""No options file comes near this; a parse of more would take minutes."""

_MOST_VALUES = 200_000
"""How many values a file may stand for once every alias is followed."""

_FLOW = ("[", "{", '"', "'")
_YAML_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """YAML with fewer numbers and no repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """See `yaml.SafeLoader`; a merged key (``<<``) may be replaced, any other key stands once."""
        seen = set[str]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep=deep)

    def get_single_data(self) -> Any:
        """See `yaml.SafeLoader`; aliases are counted before anything follows them."""
        node = self.get_single_node()
        if node is None:
            return None
        if _spelled_out(node, {}) > _MOST_VALUES:
            raise ValueError("its aliases stand for too many values")
        return self.construct_document(node)  # pyright: ignore[reportUnknownMemberType] - no types there


class _TextLoader(yaml.BaseLoader):
    """YAML whose scalars are all text."""


def _spelled_out(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for; aliases of aliases grow by powers."""
    if id(node) not in known:
        known[id(node)] = _MOST_VALUES + 1  # found again below only by a node that holds itself
        inner = 0
        if isinstance(node, yaml.MappingNode):
            inner = sum(_spelled_out(part, known) for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            inner = sum(_spelled_out(part, known) for part in node.value)
        known[id(node)] = 1 + inner
    return known[id(node)]


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int | str:
    text = str(loader.construct_scalar(node))
    return int(text) if _DECIMAL.fullmatch(text) else text


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float | str:
    text = str(loader.construct_scalar(node))
    return text if set("_:") & set(text) else loader.construct_yaml_float(node)


def _tuple(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


def _as_text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


_Loader.add_constructor(f"{_YAML_TAG}int", _integer)
_Loader.add_constructor(f"{_YAML_TAG}float", _number)
_Loader.add_constructor(f"{_YAML_TAG}timestamp", _as_text)
# Written by dumps of settings that hold Python tuples.
_Loader.add_constructor(f"{_YAML_TAG}python/tuple", _tuple)


def read_text(path: Path) -> Any:
    """What a JSON (by suffix) or YAML file holds.

    Raises:
        OptionError: when it is missing or does not parse, with line and column where they are known.
    """
    text = _content(path)
    is_json = path.suffix.lower() == ".json"
    try:
        return json.loads(text, object_pairs_hook=_object) if is_json else yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except json.JSONDecodeError as error:
        raise OptionError(error.msg, place=f"{path}:{error.lineno}:{error.colno}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise OptionError(f"does not parse: {error.problem}", place=where) from error
    except (yaml.YAMLError, ValueError) as error:
        raise OptionError(f"does not parse: {error}", place=str(path)) from error
    except RecursionError as error:
        raise OptionError("is nested too deeply", place=str(path)) from error


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise OptionError(f"cannot be read: {error}", place=str(path)) from error
    if len(content) > _MOST_BYTES:
        raise OptionError(f"is larger than {_MOST_BYTES // 1000} kB: no options file", place=str(path))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = content[error.start]
        raise OptionError(
            f"is no UTF-8 text: byte {error.start} is {found:#04x}", place=str(path), hint="save it as UTF-8"
        ) from error


def read_value(text: str, place: str) -> Any:
    """A value of the command line: a list, mapping or quoted text of YAML, else an integer or the text.

    Everything inside lists stays text, so names with leading zeros keep them.

    Raises:
        OptionError: when brackets or quotes do not match.
    """
    stripped = text.strip()
    if stripped.startswith(_FLOW):
        try:
            return yaml.load(stripped, _TextLoader)  # noqa: S506 - it makes text, lists and mappings only
        except (yaml.YAMLError, RecursionError) as error:
            problem = getattr(error, "problem", None) or "it does not parse"
            raise OptionError(
                f"{problem} in {text!r}", place=place, hint="close brackets and quotes"
            ) from error
    return int(stripped) if _DECIMAL.fullmatch(stripped) else stripped


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice")
        found[key] = value
    return found
