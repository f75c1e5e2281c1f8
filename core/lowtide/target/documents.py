"""Target descriptions as TOML tables: reading, inheritance and merging."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, cast

import attrs

from lowtide.errors import TargetError, nearest
from lowtide.plugin import Registry, TargetSpec
from lowtide.target.model import SCHEMA_VERSION, Target

Table = dict[str, Any]

OWN_KEYS = frozenset({"schema", "name", "title", "summary", "extends", "abstract", "remove_operators"})
"""Top-level keys that describe one document and are not inherited."""

TOP_KEYS = OWN_KEYS | {field.name for field in attrs.fields(Target)}
"""Every key that may stand at the top of a document."""

REPLACE = "replace_constraints"
"""Key of an operator's table: its constraints replace the inherited ones instead of joining them."""


@attrs.frozen
class Document:
    """One TOML file.

    Attributes:
        name: the target that it describes.
        file: ``package:file.toml``.
        table: what it holds, own keys included.
    """

    name: str
    file: str
    table: Table

    @property
    def extends(self) -> str:
        """The name of the target that it inherits from, empty for none."""
        return str(self.table.get("extends", ""))

    @property
    def abstract(self) -> bool:
        """Whether it is only there to be extended."""
        return bool(self.table.get("abstract", False))

    def place(self, *path: str) -> str:
        """A key of this file, for messages."""
        return f"target {self.name} ({self.file})" + (f": {'.'.join(path)}" if path else "")


def read_document(spec: TargetSpec) -> Document:
    """Read and check what does not depend on inheritance.

    Raises:
        TargetError: for text that is no TOML, another schema, an unknown top-level key, or an own key of a
            wrong type.
        PluginError: when the file cannot be read.
    """
    text = spec.load()
    document = Document(spec.name, spec.implementation, {})
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TargetError(f"the description is no valid TOML: {error}", place=document.place()) from error
    document = attrs.evolve(document, table=table)
    _check_schema(document)
    for key in table:
        if key not in TOP_KEYS:
            raise TargetError("unknown key", place=document.place(key), hint=nearest(key, TOP_KEYS))
    for key, kind in _OWN_KINDS:
        if key in table and type(table[key]) is not kind:
            raise TargetError(f"expected {_KINDS[kind]}, found {table[key]!r}", place=document.place(key))
    if table.get("name", spec.name) != spec.name:
        raise TargetError(
            f"the description calls itself {table['name']!r}, it is registered as {spec.name!r}",
            place=document.place("name"),
        )
    removed = table.get("remove_operators", [])
    if not _is_texts(removed):
        raise TargetError(
            f"expected a list of texts, found {removed!r}", place=document.place("remove_operators")
        )
    return document


_OWN_KINDS = (("name", str), ("title", str), ("summary", str), ("extends", str), ("abstract", bool))
_KINDS: Mapping[type, str] = {str: "a text", bool: "true or false"}


def _check_schema(document: Document) -> None:
    found = document.table.get("schema")
    if type(found) is not int or found != SCHEMA_VERSION:
        raise TargetError(
            f"expected schema = {SCHEMA_VERSION}, found {'nothing' if found is None else repr(found)}",
            place=document.place("schema"),
            hint="the description is written for another version of Lowtide" if found else "",
        )


def as_table(found: object) -> Table | None:
    """What TOML read, where it is a table."""
    return cast(Table, found) if isinstance(found, dict) else None


def as_list(found: object) -> list[object] | None:
    """What TOML read, where it is a list."""
    return cast(list[object], found) if isinstance(found, list) else None


def _is_texts(found: object) -> bool:
    entries = as_list(found)
    return entries is not None and all(isinstance(entry, str) for entry in entries)


def read_chain(name: str, registry: Registry) -> tuple[Document, ...]:
    """A description and those that it inherits from, the root first.

    Raises:
        UnknownNameError: when nobody provides `name`.
        TargetError: when a document is invalid, extends itself or something that does not exist.
    """
    chain = [read_document(registry.get(TargetSpec, name))]
    while chain[-1].extends:
        parent = _parent(chain[-1], registry)
        names = [document.name for document in chain]
        if parent.name in names:
            circle = " extends ".join([*names[names.index(parent.name) :], parent.name])
            raise TargetError(f"a target extends itself: {circle}", place=chain[-1].place("extends"))
        chain.append(read_document(parent))
    return tuple(reversed(chain))


def _parent(document: Document, registry: Registry) -> TargetSpec:
    known = registry.all(TargetSpec)
    for spec in known:
        if document.extends in (spec.name, *spec.aliases):
            return spec
    raise TargetError(
        f"there is no target {document.extends!r} to extend",
        place=document.place("extends"),
        hint=nearest(document.extends, [spec.name for spec in known]),
    )


def merge_chain(chain: Iterable[Document]) -> Table:
    """One table of a chain of documents, the root first.

    Tables merge key by key and the later document wins; the constraints of an operator and the notes are
    added to what is inherited; scale types that one document refuses are removed from the rules of those
    before, and the reverse; another latency model starts without the options of the one before.

    Raises:
        TargetError: when something is removed that is not there.
    """
    merged: Table = {}
    for document in chain:
        own = {key: entry for key, entry in document.table.items() if key not in OWN_KEYS}
        _remove_operators(merged, document)
        _settle_scale_types(merged, own)
        _forget_latency(merged, own)
        operators = own.pop("operators", {})
        notes = own.pop("notes", [])
        merged = _merged(merged, own)
        merged["notes"] = _joined(merged.get("notes", []), notes)
        merged["operators"] = _merge_operators(merged.get("operators", {}), operators, document)
    return merged


def _merged(base: Table, child: Table) -> Table:
    result = dict(base)
    for key, entry in child.items():
        known, new = as_table(result.get(key)), as_table(entry)
        result[key] = entry if known is None or new is None else _merged(known, new)
    return result


def _joined(base: object, child: object) -> object:
    """Lists one after the other; a wrong kind goes on alone, to be found when the table is structured."""
    one, other = as_list(base), as_list(child)
    return child if one is None or other is None else [*one, *other]


def _remove_operators(merged: Table, document: Document) -> None:
    inherited = as_table(merged.get("operators")) or {}
    for name in document.table.get("remove_operators", []):
        if name not in inherited:
            raise TargetError(
                f"there is no inherited operator {name!r} to remove",
                place=document.place("remove_operators"),
                hint=nearest(name, inherited),
            )
        del inherited[name]


def _settle_scale_types(merged: Table, own: Table) -> None:
    for one, other in (("scale_rules", "refused_scale_types"), ("refused_scale_types", "scale_rules")):
        chosen, inherited = as_table(own.get(one)), as_table(merged.get(other))
        if chosen is not None and inherited is not None:
            merged[other] = {key: entry for key, entry in inherited.items() if key not in chosen}


def _forget_latency(merged: Table, own: Table) -> None:
    """Options are those of a model, and the error that is stated belongs to the options."""
    inherited, latency = as_table(merged.get("latency")), as_table(own.get("latency"))
    if inherited is None or latency is None:
        return
    dropped = {"stated_error"} if {"model", "options"} & latency.keys() else set[str]()
    if latency.get("model", inherited.get("model")) != inherited.get("model"):
        dropped.add("options")
    merged["latency"] = {key: entry for key, entry in inherited.items() if key not in dropped}


def _merge_operators(base: object, child: object, document: Document) -> object:
    inherited, own = as_table(base), as_table(child)
    if inherited is None or own is None:
        return child
    result = dict(inherited)
    for name, rule in own.items():
        place = document.place("operators", name, REPLACE)
        result[name] = _merge_operator(result.get(name, {}), rule, place)
    return result


def _merge_operator(base: object, child: object, place: str) -> object:
    inherited, own = as_table(base), as_table(child)
    if inherited is None or own is None:
        return child
    replace = own.get(REPLACE, False)
    if not isinstance(replace, bool):
        raise TargetError(f"expected true or false, found {replace!r}", place=place)
    own = {key: entry for key, entry in own.items() if key != REPLACE}
    if "constraints" in own and not replace:
        own["constraints"] = _joined(inherited.get("constraints", []), own["constraints"])
    return _merged(inherited, own)
