"""Layers of options to effective values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import attrs

from lowtide.errors import OptionError, nearest
from lowtide.narrow import is_mapping
from lowtide.options.fields import Effect, Kind, OptionInfo, convert
from lowtide.options.notes import note
from lowtide.options.schema import ALIASES, FIELDS, OLD_NAMES, CompileOptions

GROUPS = ("advanced_options", "object_detection", "deny_list", "allow_list")
"""Prefixes that files may also hold as mappings: ``advanced_options: {calibration_frames: 20}``."""


@attrs.frozen
class OptionLayer:
    """Options from one place, as ``--set`` or ``options file net.yaml``, by any spelling of their names."""

    origin: str
    values: Mapping[str, Any]


@attrs.frozen
class EffectiveOption:
    """One option after all layers were looked at.

    Attributes:
        overridden: values that a stronger layer replaced, each with its origin.
        note: what limits the effect of the value; empty when nothing does.
    """

    key: str
    value: Any
    default: Any
    origin: str
    overridden: tuple[tuple[str, Any], ...]
    effect: Effect
    note: str = ""


@attrs.frozen
class ResolvedOptions:
    """The values, and where each comes from."""

    options: CompileOptions
    effective: tuple[EffectiveOption, ...]


def resolve_options(layers: Iterable[OptionLayer]) -> ResolvedOptions:
    """Combine layers, the strongest last; shapes are combined input by input.

    Raises:
        OptionError: for unknown names, wrong values, contradictions, and what is not implemented.
    """
    history: dict[str, list[tuple[str, Any]]] = {}
    for layer in layers:
        for field, value in _read(layer).items():
            history.setdefault(field, []).append((layer.origin, value))
    options = CompileOptions(**{field: _combine(field, values) for field, values in history.items()})
    origins = {field: values[-1][0] for field, values in history.items()}
    _check(options, origins)
    defaults = CompileOptions()
    effective = tuple(
        EffectiveOption(
            key=info.key,
            value=getattr(options, field),
            default=getattr(defaults, field),
            origin=origins.get(field, "default"),
            overridden=tuple(history.get(field, [])[:-1]),
            effect=info.effect,
            note=note(field, options) if field in history else "",
        )
        for field, info in FIELDS.items()
    )
    return ResolvedOptions(options, effective)


def _combine(field: str, values: Sequence[tuple[str, Any]]) -> Any:
    if FIELDS[field].kind is not Kind.SHAPES:
        return values[-1][1]
    return {name: shape for _, shapes in values for name, shape in shapes.items()}


def vendor_options(resolved: ResolvedOptions) -> dict[str, Any]:
    """The vendor's options that were set, by its own keys, for its runtime; lists as comma-separated text."""
    own = {"calibrator", "strategy", "prepare", "weights", "statistics_frames", "measure_frames", "seed"}
    own |= {"frontend", "input_shapes", "input_mean", "input_scale", "input_optimization"}
    own |= {"recalibrate", "proto_incomplete"}
    always = {"tensor_bits", "accuracy_level"}
    found: dict[str, Any] = {}
    for option in resolved.effective:
        value = option.value
        unset = value is None or (option.origin == "default" and option.key not in always)
        if option.key in own or unset:
            continue
        listed = cast(tuple[str, ...], value) if isinstance(value, tuple) else None
        found[option.key] = _plain(value) if listed is None else ", ".join(map(str, listed))
    return found


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def _read(layer: OptionLayer) -> dict[str, Any]:
    found: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    for key, value in _flat(layer.values):
        field, part = _field(key, layer.origin)
        info = FIELDS[field]
        if value is None and not info.optional and info.kind in (Kind.INT, Kind.FLOAT, Kind.FLAG, Kind.TEXT):
            continue  # files of the vendor write null for what they leave to the tool
        made = convert(info, {part: value} if part else value, layer.origin)
        if field in found:
            made = _agree(found[field], made, f"{spelled[field]} and {key}", layer.origin)
        found[field], spelled[field] = made, key
    return found


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if str(key) in GROUPS and is_mapping(value):
            yield from ((f"{key}:{name}", inner) for name, inner in value.items())
        else:
            yield str(key), value


def _agree(before: Any, now: Any, spellings: str, origin: str) -> Any:
    """One value from two spellings in one layer; shapes of different inputs complete each other."""
    if is_mapping(before) and is_mapping(now):
        clash = any(before[name] != now[name] for name in before.keys() & now.keys())
        merged: Any = {**before, **now}
    else:
        clash, merged = before != now, now
    if clash:
        raise OptionError(f"{spellings} are the same option with different values", place=origin)
    return merged


def _field(key: str, origin: str) -> tuple[str, str]:
    """The field of a spelling, and the part after the dot for options that are mappings."""
    stem, _, part = key.partition(".")
    for field, info in FIELDS.items():
        if key in _spellings(field, info):
            return field, ""
        if part and info.kind is Kind.SHAPES and stem in _spellings(field, info):
            return field, part
    if key in OLD_NAMES:
        raise OptionError(f"{key} is the name of an older tool", place=origin, hint=f"use {OLD_NAMES[key]}")
    known = {name for field, info in FIELDS.items() for name in _spellings(field, info)}
    raise OptionError(f"unknown option {key!r}", place=origin, hint=nearest(key, known))


def _spellings(field: str, info: OptionInfo) -> tuple[str, ...]:
    short = info.key.rpartition(":")[2] if info.key.startswith("advanced") else info.key
    return (info.key, short, field, *(name for name, meant in ALIASES.items() if meant == field))


def _check(options: CompileOptions, origins: Mapping[str, str]) -> None:
    defaults = CompileOptions()
    for field, info in FIELDS.items():
        value = getattr(options, field)
        later = info.effect is Effect.UNAVAILABLE and value != getattr(defaults, field)
        missing = info.available is not None and value is not None and value not in info.available
        if later or missing:
            have = ", ".join(f"{entry:g}" for entry in info.available or ())
            raise OptionError(
                f"this version does not implement {value!r}",
                place=f"{info.key} ({origins.get(field, 'default')})",
                hint=f"it has {have}" if have else "leave the option out",
            )
    for denied in ("deny_list_layer_type", "deny_list_layer_name"):
        if options.allow_list_layer_name and getattr(options, denied):
            key = FIELDS[denied].key
            raise OptionError(
                f"allow_list:layer_name and {key} exclude each other",
                place=f"{origins['allow_list_layer_name']} and {origins[denied]}",
                hint="give one of them",
            )
    if options.input_optimization and not (options.input_mean or options.input_scale):
        raise OptionError("needs input_mean or input_scale to fold", place="input_optimization")
