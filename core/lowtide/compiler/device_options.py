"""What a device makes of options: values that it cannot take, and those that have no effect on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

from lowtide.compiler.recipe import Recipe, chosen_lines, recipe_of, recipe_place
from lowtide.errors import LowtideError, OptionError, counted
from lowtide.options import FIELDS, FLOAT_BITS, EffectiveOption, ResolvedOptions
from lowtide.passes import parse_pipeline
from lowtide.plugin import Registry
from lowtide.precision import check_used
from lowtide.target import ScaleRule, Target, scale_rule, subgraph_limit

CORES = ("num_cores", "core_number", "core_start_idx")
"""The fields that count cores, from 1."""

PROTO = "quant_params_proto_path"

PASS_OPTIONS = ("calibration_iterations", "bias_calibration_factor")
"""The fields that nothing looks at but passes with `Pass.used_options`."""


def scale_type(resolved: ResolvedOptions, target: Target) -> int:
    """The number of the scale rule in force, unless the codes of a network decide."""
    chosen = resolved.options.quantization_scale_type
    return target.default_scale_type if chosen is None else chosen


def impossible(resolved: ResolvedOptions, target: Target, registry: Registry) -> Iterator[LowtideError]:
    """Why nothing can be compiled for the device with these options, the first reason first."""
    options = resolved.options
    bits = options.tensor_bits
    try:
        scale_rule(target, scale_type(resolved, target))
    except LowtideError as error:
        yield error
    if bits != FLOAT_BITS and bits not in target.bits:
        yield OptionError(f"{target.name} has {target.bits} bits, found {bits}", place="tensor_bits")
    try:
        subgraph_limit(target, options)
    except LowtideError as error:
        yield error
    for field in CORES:
        wanted = getattr(options, field)
        if target.cores is not None and wanted > target.cores:
            known = counted(target.cores, "core")
            yield OptionError(f"{target.name} has {known}, found {wanted}", place=_place(field, resolved))
    folder = Path(options.quant_params_proto_path).parent
    if not folder.is_dir():
        yield OptionError(
            f"there is no folder {folder}",
            place=_place(PROTO, resolved),
            hint="correct the path, or make the folder: the file is written there when it is missing",
        )
    try:
        check_used(resolved, registry)
    except LowtideError as error:
        yield error


def with_device_notes(resolved: ResolvedOptions, target: Target, registry: Registry) -> ResolvedOptions:
    """The same, with a note at every option that was set and changes nothing on the device.

    Raises:
        LowtideError: when the device has no such scale rule, or a step of the recipe is wrong.
    """
    rule = scale_rule(target, scale_type(resolved, target))
    set_ = {option.key for option in resolved.effective if option.origin != "default"}
    noted: list[EffectiveOption] = []
    for field, option in zip(FIELDS, resolved.effective, strict=True):
        note = _note(field, resolved, target, rule, registry) if option.key in set_ else ""
        told = "; ".join(part for part in (option.note, note) if part)
        noted.append(attrs.evolve(option, note=told))
    return attrs.evolve(resolved, effective=tuple(noted))


def _note(field: str, resolved: ResolvedOptions, target: Target, rule: ScaleRule, registry: Registry) -> str:
    options = resolved.options
    if options.tensor_bits == FLOAT_BITS:
        return ""  # which is told of every option about codes
    if field == "channel_wise_quantization" and rule.weight_granularity != "per-channel-depthwise":
        each = "channel" if rule.weight_granularity == "per-channel" else "tensor"
        return f"without effect: scale type {scale_type(resolved, target)} always has a scale per {each}"
    if field == "bias_clipping" and not target.bias.split:
        return f"without effect: biases of {target.name} have {target.bias.bits} bits"
    if field == PROTO and options.quant_params_proto_path and not target.vendor_layers:
        return f"no proto is written for {target.name}, whose layers have no types of the vendor's"
    if field in PASS_OPTIONS and field not in _used_by_passes(resolved, target, registry):
        return f"without effect: no step of the recipe {_recipe_name(resolved)} uses it"
    return ""


def _recipe_name(resolved: ResolvedOptions) -> str:
    return resolved.options.recipe or f"of accuracy_level {resolved.options.accuracy_level}"


def _used_by_passes(resolved: ResolvedOptions, target: Target, registry: Registry) -> frozenset[str]:
    options = resolved.options
    place = recipe_place(target.name, target.recipes, options)
    recipe = recipe_of(chosen_lines(target.recipes, options), options, place=place)
    passes = (entry for text in _pipelines(recipe) for entry in parse_pipeline(text, registry))
    return frozenset(name for entry in passes for name in entry.used_options)


def _pipelines(recipe: Recipe) -> Iterator[str]:
    settings = recipe.settings
    yield from (settings.structure, settings.condition, settings.scales, settings.weights)
    yield from (step.text for step in recipe.trials if step.stage != "calibrator")


def _place(field: str, resolved: ResolvedOptions) -> str:
    key = FIELDS[field].key
    origin = next(option.origin for option in resolved.effective if option.key == key)
    return f"{key} ({origin})"
