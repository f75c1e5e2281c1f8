"""Layers of options to effective values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import attrs

from lowtide.errors import OptionError, nearest
from lowtide.options.fields import Effect, Kind, OptionInfo, convert
from lowtide.options.schema import FIELDS, OLD_NAMES, CompileOptions

LEVEL_NINE_FLAGS = ("activation_clipping", "weight_clipping", "bias_calibration")


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
    """Combine layers, the strongest last.

    Raises:
        OptionError: for unknown names, wrong values, contradictions, and what is not implemented.
    """
    history: dict[str, list[tuple[str, Any]]] = {}
    for layer in layers:
        for field, value in _read(layer).items():
            history.setdefault(field, []).append((layer.origin, value))
    options = CompileOptions(**{field: values[-1][1] for field, values in history.items()})
    _check(options)
    defaults = CompileOptions()
    effective = tuple(
        EffectiveOption(
            key=info.key,
            value=getattr(options, field),
            default=getattr(defaults, field),
            origin=history[field][-1][0] if field in history else "default",
            overridden=tuple(history.get(field, [])[:-1]),
            effect=info.effect,
            note=_note(field, info, options) if field in history else "",
        )
        for field, info in FIELDS.items()
    )
    return ResolvedOptions(options, effective)


def vendor_options(resolved: ResolvedOptions) -> dict[str, Any]:
    """The vendor's options that were set, by its own keys, for its runtime; lists as comma-separated text."""
    own = {"calibrator", "strategy", "prepare", "weights", "statistics_frames", "measure_frames", "seed"}
    own |= {"frontend", "input_shapes", "input_mean", "input_scale", "input_optimization"}
    always = {"tensor_bits", "accuracy_level"}
    found: dict[str, Any] = {}
    for option in resolved.effective:
        if option.key in own or (option.origin == "default" and option.key not in always):
            continue
        value = option.value
        listed = cast(tuple[str, ...], value) if isinstance(value, tuple) else None
        found[option.key] = _plain(value) if listed is None else ", ".join(map(str, listed))
    return found


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def _read(layer: OptionLayer) -> dict[str, Any]:
    found: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    for key, value in layer.values.items():
        field, part = _field(str(key), layer.origin)
        info = FIELDS[field]
        if part:
            made = {**found.get(field, {}), **convert(info, {part: value}, layer.origin)}
        else:
            made = convert(info, value, layer.origin)
        if field in found and not part and found[field] != made:
            raise OptionError(
                f"{spelled[field]} and {key} are the same option with different values", place=layer.origin
            )
        found[field], spelled[field] = made, str(key)
    return found


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
    return (info.key, info.key.rpartition(":")[2] if info.key.startswith("advanced") else info.key, field)


def _check(options: CompileOptions) -> None:
    defaults = CompileOptions()
    for field, info in FIELDS.items():
        value = getattr(options, field)
        later = info.effect is Effect.UNAVAILABLE and value != getattr(defaults, field)
        missing = info.available is not None and value is not None and value not in info.available
        if later or missing:
            have = ", ".join(f"{entry:g}" for entry in info.available or ())
            raise OptionError(
                f"this version does not implement {value!r}",
                place=info.key,
                hint=f"it has {have}" if have else "leave the option out",
            )
    denied = options.deny_list_layer_type or options.deny_list_layer_name
    if options.allow_list_layer_name and denied:
        raise OptionError(
            "allow_list:layer_name and deny_list exclude each other", place="allow_list:layer_name"
        )
    if options.input_optimization and not (options.input_mean or options.input_scale):
        raise OptionError("needs input_mean or input_scale to fold", place="input_optimization")


def _note(field: str, info: OptionInfo, options: CompileOptions) -> str:
    if info.effect is Effect.VENDOR_ONLY:
        limited = field in LEVEL_NINE_FLAGS and options.accuracy_level != 9
        return "read at accuracy_level 9 only" if limited else str(info.effect)
    if field == "channel_wise_quantization" and options.quantization_scale_type == 4:
        return "scale type 4 always has a scale per channel"
    return ""


def known_keys() -> Sequence[str]:
    """The key of every option, for listings."""
    return [info.key for info in FIELDS.values()]
