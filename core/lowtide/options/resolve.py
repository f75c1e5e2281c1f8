"""Layers of options to effective values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import attrs

from lowtide.errors import OptionError, nearest
from lowtide.narrow import is_mapping
from lowtide.options.fields import Effect, Kind, OptionInfo, convert
from lowtide.options.names import ALIASES, OLD_NAMES, SCRIPT_KEYS
from lowtide.options.notes import note, placeholder_note
from lowtide.options.schema import FIELDS, CompileOptions
from lowtide.options.widths import WIDE_BITS

GROUPS = ("advanced_options", "object_detection", "deny_list", "allow_list")
"""Prefixes that files may also hold as mappings: ``advanced_options: {calibration_frames: 20}``."""

NO_FACTOR = -1
LARGEST_FACTOR = 10
"""16 bits take four times the multipliers and twice the memory: more is a slip, such as a percentage."""

_History = dict[str, list[tuple[str, Any]]]
"""What each field was set to, with the origins, the strongest last."""


@attrs.frozen
class OptionLayer:
    """Options from one place, as ``--set`` or ``options file net.yaml``, by any spelling of their names.

    Attributes:
        placeholders: values that stand there but are not meant; they are checked, shown, and not obeyed.
    """

    origin: str
    values: Mapping[str, Any]
    placeholders: Mapping[str, Any] = attrs.field(factory=dict[str, Any])


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

    Args:
        layers: the options by place.

    Raises:
        OptionError: for unknown names, wrong values and contradictions.
    """
    history: _History = {}
    placed: _History = {}
    for layer in layers:
        for values, kept in ((layer.values, history), (layer.placeholders, placed)):
            for field, value in _read(values, layer.origin).items():
                kept.setdefault(field, []).append((layer.origin, value))
    options = CompileOptions(**{field: _combine(field, values) for field, values in history.items()})
    _check(options, history)
    effective = tuple(_effective(field, options, history, placed) for field in FIELDS)
    return ResolvedOptions(options, effective)


def _effective(field: str, options: CompileOptions, history: _History, placed: _History) -> EffectiveOption:
    info, value = FIELDS[field], getattr(options, field)
    given, unmeant = history.get(field, []), placed.get(field, [])
    weaker = (*unmeant, *given[:-1]) if given else ()
    said = note(field, options) if given else ""
    if unmeant and not given:
        said = placeholder_note(field, unmeant[-1][1], unmeant[-1][0])
    return EffectiveOption(
        key=info.key,
        value=value,
        default=getattr(CompileOptions(), field),
        origin=_origin(field, history),
        overridden=weaker,
        effect=info.effect,
        note=said,
    )


def _origin(field: str, history: _History) -> str:
    return history[field][-1][0] if field in history else "default"


def _combine(field: str, values: Sequence[tuple[str, Any]]) -> Any:
    if FIELDS[field].kind is not Kind.SHAPES:
        return values[-1][1]
    return {name: shape for _, shapes in values for name, shape in shapes.items()}


def vendor_options(resolved: ResolvedOptions) -> dict[str, Any]:
    """The vendor's options that were set, by its own keys, for its runtime; lists as comma-separated text."""
    own = {
        "calibrator",
        "strategy",
        "prepare",
        "recipe",
        "structure",
        "condition",
        "scales",
        "weights",
        "statistics_frames",
        "measure_frames",
        "budget_ms",
        "goal",
        "front_point",
        "search_frames",
        "seed",
    }
    own |= {"frontend", "input_shapes", "input_mean", "input_scale", "input_optimization"}
    own |= {"recalibrate", "proto_incomplete", "post_processing"}
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


def _read(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    for key, value in _flat(values):
        if key in SCRIPT_KEYS:
            continue
        field, part = _field(key, origin)
        info = FIELDS[field]
        if value is None and not info.optional and info.kind in (Kind.INT, Kind.FLOAT, Kind.FLAG, Kind.TEXT):
            continue  # files of the vendor write null for what they leave to the tool
        made = convert(info, {part: value} if part else value, origin)
        if field in found:
            made = _agree(found[field], made, spelled[field], key, origin)
        found[field], spelled[field] = made, key
    return found


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if str(key) in GROUPS and is_mapping(value):
            yield from ((f"{key}:{name}", inner) for name, inner in value.items())
        else:
            yield str(key), value


def _agree(before: Any, now: Any, first: str, second: str, origin: str) -> Any:
    """One value from two spellings in one layer; shapes of different inputs complete each other."""
    if is_mapping(before) and is_mapping(now):
        clash = any(before[name] != now[name] for name in before.keys() & now.keys())
        merged: Any = {**before, **now}
    else:
        clash, merged = before != now, now
    if clash and first == second:
        raise OptionError(
            f"{first} stands twice with different values: {before} and {now}",
            place=origin,
            hint="give it by its whole name or inside of the mapping, once",
        )
    if clash:
        raise OptionError(f"{first} and {second} are the same option with different values", place=origin)
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
    raise OptionError(f"unknown option {key[:100]!r}", place=origin, hint=_meant(key))


def _meant(key: str) -> str:
    """What an unknown key may stand for: a known one behind another prefix, or one that looks like it."""
    stem = key.rpartition(":")[2]
    known = {name for field, info in FIELDS.items() for name in _spellings(field, info)}
    whole = [info.key for info in FIELDS.values() if stem in (info.key, info.key.rpartition(":")[2])]
    if whole:
        return f"did you mean {' or '.join(whole)}?"
    hint = nearest(key, known)
    return hint if hint.startswith("did you mean") else "`lowtide options` prints them all"


def _spellings(field: str, info: OptionInfo) -> tuple[str, ...]:
    short = info.key.rpartition(":")[2] if info.key.startswith("advanced") else info.key
    return (info.key, short, field, *(name for name, meant in ALIASES.items() if meant == field))


def _check(options: CompileOptions, history: _History) -> None:
    for denied in ("deny_list_layer_type", "deny_list_layer_name"):
        if options.allow_list_layer_name and getattr(options, denied):
            key = FIELDS[denied].key
            raise OptionError(
                f"allow_list:layer_name and {key} exclude each other",
                place=f"{_origin('allow_list_layer_name', history)} and {_origin(denied, history)}",
                hint="give one of them",
            )
    if options.input_optimization and not (options.input_mean or options.input_scale):
        raise OptionError("needs input_mean or input_scale to fold", place="input_optimization")
    _check_budget(options, history)


def _check_budget(options: CompileOptions, history: _History) -> None:
    factor = options.mixed_precision_factor
    if factor != NO_FACTOR and not 1 < factor <= LARGEST_FACTOR:
        raise OptionError(
            f"expected a number above 1 and up to {LARGEST_FACTOR}, or {NO_FACTOR}; found {factor:g}",
            place=_place("mixed_precision_factor", history),
            hint="the latency may grow by this factor over that with 8 bits: 1.2 allows 20 % more",
        )
    if options.budget_ms is not None and options.budget_ms <= 0:
        raise OptionError(
            f"expected milliseconds above 0, found {options.budget_ms:g}",
            place=_place("budget_ms", history),
            hint="`lowtide estimate` tells what 8 bits take, which is the least",
        )
    if factor != NO_FACTOR and options.budget_ms is not None:
        raise OptionError(
            "mixed_precision_factor and budget_ms are two budgets",
            place=f"{_origin('mixed_precision_factor', history)} and {_origin('budget_ms', history)}",
            hint="give one of them",
        )
    if options.seeks_widths and options.tensor_bits == WIDE_BITS:
        raise OptionError(
            "mixed precision raises tensors of 8 bits, and tensor_bits is 16",
            place=_place("tensor_bits", history),
            hint="leave out tensor_bits, or the budget, goal and point of the front",
        )


def _place(field: str, history: _History) -> str:
    return f"{FIELDS[field].key} ({_origin(field, history)})"
