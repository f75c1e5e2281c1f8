"""The commands that list what is installed."""

from __future__ import annotations

import inspect as introspection
import json

import attrs
import click
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lowtide.cli.context import registry_of, stdout
from lowtide.cli.prose import reflow
from lowtide.diagnosis import Cause, Diagnosis
from lowtide.passes.text import option_defaults, option_types, print_types, written
from lowtide.plugin import (
    SPEC_KINDS,
    CalibratorSpec,
    DiagnosisSpec,
    EmitterSpec,
    MetricSpec,
    PassSpec,
    Registry,
    Spec,
    StrategySpec,
    TargetSpec,
)
from lowtide.report.json import json_text
from lowtide.report.terminal import new_table, spaced
from lowtide.target import Target, list_targets, load_target

CONFIGURED = (CalibratorSpec, PassSpec, StrategySpec)
"""Kinds that are named with options; the fields of others are not for users to set."""


def _listing(command: str, kind: type[Spec], help_: str) -> click.Command:
    @click.command(command, help=help_)
    @click.argument("name", required=False)
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
    @click.pass_context
    def show(ctx: click.Context, name: str | None, *, as_json: bool) -> None:
        registry = registry_of(ctx)
        specs = registry.all(kind) if name is None else (registry.get(kind, name),)
        if as_json:
            extra = {} if name is None else _extra(registry, specs[0])
            click.echo(json_text([{**_row(registry, spec), **extra} for spec in specs]), nl=False)
        elif name is None:
            hidden = _abstract(registry) if kind is TargetSpec else frozenset[str]()
            stdout().print(_table(registry, specs, hidden))
        else:
            stdout().print(_details(registry, specs[0]))

    return show


def _row(registry: Registry, spec: Spec) -> dict[str, str]:
    provider = registry.provider(spec)
    return {
        "name": spec.name,
        "summary": spec.summary,
        "distribution": provider.distribution,
        "version": provider.version,
        "plugin": provider.entry_point,
        "implementation": spec.implementation,
    }


def _table(registry: Registry, specs: tuple[Spec, ...], hidden: frozenset[str]) -> Table:
    table = new_table("", "name", "what it is", "provided by")
    for spec in specs:
        if isinstance(spec, TargetSpec) and spec.name in hidden:
            continue
        aliases = spec.aliases if isinstance(spec, TargetSpec) else ()
        name = f"{spec.name} ({', '.join(aliases)})" if aliases else spec.name
        table.add_row(Text(name), Text(spec.summary), Text(str(registry.provider(spec))))
    return table


def _details(registry: Registry, spec: Spec) -> RenderableType:
    row = _row(registry, spec)
    grid = Table.grid(padding=(0, 2))
    for key, value in row.items():
        grid.add_row(Text(key, style="bold"), Text(value))
    parts: list[RenderableType] = [grid]
    if isinstance(spec, TargetSpec):
        parts.append(_device(registry, spec.name))
    else:
        found = registry.load(type(spec), spec.name)
        parts.append(Group(*reflow(introspection.getdoc(found) or "")))
        if isinstance(spec, CONFIGURED):
            parts.append(_options(found))
        if isinstance(spec, DiagnosisSpec):
            parts.append(_table_of_causes(_causes(registry, spec.name)))
        if isinstance(spec, StrategySpec):
            parts.append(Text(f"uses {', '.join(spec.uses) or 'no option about widths but tensor_bits'}"))
    return spaced(parts)


def _extra(registry: Registry, spec: Spec) -> dict[str, object]:
    """What the description of one contribution says beyond its row."""
    if isinstance(spec, TargetSpec):
        if spec.name in _abstract(registry):
            return {"extended_by": _heirs(registry, spec.name)}
        return {"device": attrs.asdict(load_target(spec.name, registry))}
    found = registry.load(type(spec), spec.name)
    extra: dict[str, object] = {"documentation": introspection.getdoc(found) or ""}
    if isinstance(spec, CONFIGURED):
        fields, defaults = attrs.fields_dict(found), option_defaults(found)
        extra["options"] = [
            {
                "option": written(field),
                "type": print_types(types),
                "required": field not in defaults,
                "default": fields[field].default if field in defaults else None,
            }
            for field, types in option_types(found).items()
        ]
    if isinstance(spec, DiagnosisSpec):
        extra["causes"] = [attrs.asdict(cause) for cause in _causes(registry, spec.name)]
    if isinstance(spec, StrategySpec):
        extra["uses"] = spec.uses
    return extra


def _options(found: type[attrs.AttrsInstance]) -> RenderableType:
    table = new_table("options", "option", "type", "default")
    defaults = option_defaults(found)
    for field, types in option_types(found).items():
        default = defaults.get(field, "(required)")
        table.add_row(*map(Text, (written(field), print_types(types), default)))
    return table if table.row_count else Text("no options")


def _causes(registry: Registry, name: str) -> tuple[Cause, ...]:
    kind: type[Diagnosis] = registry.load(DiagnosisSpec, name)
    return kind.causes


def _table_of_causes(causes: tuple[Cause, ...]) -> Table:
    table = new_table("causes", "code", "cause", "named when")
    for cause in causes:
        table.add_row(*map(Text, (cause.code, cause.text, cause.threshold)))
    return table


def _abstract(registry: Registry) -> frozenset[str]:
    """Targets that are there to be extended: nobody can compile for them."""
    return frozenset(target.name for target in list_targets(registry) if target.abstract)


def _device(registry: Registry, name: str) -> RenderableType:
    if name in _abstract(registry):
        heirs = ", ".join(_heirs(registry, name))
        return Text(f"to be extended, not to be compiled for; extended by {heirs or 'none'}")
    target = load_target(name, registry)
    return spaced([Text(target.title, style="bold"), _rules(target), *_operators(target)])


def _heirs(registry: Registry, name: str) -> list[str]:
    return [target.name for target in list_targets(registry) if target.extends == name]


def _rules(target: Target) -> RenderableType:
    rules = new_table("scale types", "number", "activations", "weights", "from the accumulator")
    for number, rule in sorted(target.scale_rules.items()):
        chosen = " (default)" if number == target.default_scale_type else ""
        activations = f"{rule.activation}, {rule.activation_scale}"
        weights = f"{rule.weight_granularity}, {rule.weight_scale}"
        rules.add_row(f"{number}{chosen}", activations, weights, rule.requantize)
    refused = sorted(target.refused_scale_types.items())
    return Group(rules, *(Text(f"scale type {number} is refused: {reason}") for number, reason in refused))


def _operators(target: Target) -> tuple[Table, Table]:
    known = sorted(target.operators.items())
    operators = new_table("operators", "operator", "layer", "arithmetic")
    conditions = new_table("conditions on them", "operator", "condition", "reason")
    for op, operator in known:
        operators.add_row(*map(Text, (op, operator.layer_type, operator.kind)))
        for found in operator.constraints:
            widths = f" (at {', '.join(map(str, found.bits))} bits)" if found.bits else ""
            conditions.add_row(Text(op), Text(found.require + widths), Text(found.reason))
    return operators, conditions


targets = _listing("targets", TargetSpec, "List the devices, or describe one.")
calibrators = _listing("calibrators", CalibratorSpec, "List the calibrators, or describe one.")
strategies = _listing("strategies", StrategySpec, "List the precision strategies, or describe one.")
passes = _listing("passes", PassSpec, "List the passes, or describe one with its options.")
emitters = _listing("emitters", EmitterSpec, "List what writes files, or describe one.")
metrics = _listing("metrics", MetricSpec, "List the metrics, or describe one.")
diagnoses = _listing("diagnoses", DiagnosisSpec, "List what can cost accuracy, or describe a family.")


@click.command("plugins", help="List what is installed, from which distribution, and what is broken and why.")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def plugins(ctx: click.Context, name: str | None, *, as_json: bool) -> None:
    """List plugins."""
    registry = registry_of(ctx)
    rows = _plugin_rows(registry)
    if name is not None:
        rows = [row for row in rows if name in (row["plugin"], row["distribution"])]
        if not rows:
            raise click.UsageError(f"there is no plugin {name!r}; see `lowtide plugins`")
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    table = new_table("", "plugin", "distribution", "version", "state", "contributes")
    for row in rows:
        style = "" if row["state"] == "loaded" else "red"
        table.add_row(*(Text(text, style=style) for text in row.values()))
    stdout().print(table)


def _plugin_rows(registry: Registry) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for provider in registry.providers:
        found = [
            f"{kind}: {', '.join(spec.name for spec in specs)}"
            for kind, record in SPEC_KINDS.items()
            if (specs := [spec for spec in registry.all(record) if registry.provider(spec) == provider])
        ]
        rows.append(
            _plugin_row(provider.entry_point, provider.distribution, provider.version, "loaded", found)
        )
    for state, failed in (("broken", registry.broken), ("other API", registry.unfit)):
        for provider, reason in failed.items():
            rows.append(
                _plugin_row(provider.entry_point, provider.distribution, provider.version, state, [reason])
            )
    return rows


def _plugin_row(plugin: str, distribution: str, version: str, state: str, found: list[str]) -> dict[str, str]:
    return {
        "plugin": plugin,
        "distribution": distribution,
        "version": version,
        "state": state,
        "contributes": "\n".join(found),
    }
