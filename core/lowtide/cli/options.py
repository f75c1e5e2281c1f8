"""``lowtide options``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import click
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lowtide.cli.context import registry_of, stdout
from lowtide.cli.shared import GivenOptions, given_options, option_options
from lowtide.compiler.device_options import impossible, with_device_notes
from lowtide.data import preprocess_in_words
from lowtide.errors import OptionError
from lowtide.narrow import is_sequence
from lowtide.options import (
    Effect,
    EffectiveOption,
    LoadedOptions,
    OptionLayer,
    ResolvedOptions,
    resolve_options,
    written,
)
from lowtide.report.json import json_text
from lowtide.report.terminal import new_table
from lowtide.target import Target, load_target

NAMES_IN_A_ROW = 3
MODEL_TYPES = {
    0: "an ordinary float model",
    1: "trained for quantization: ranges in its clips",
    2: "trained for quantization: scales in its Q/DQ nodes",
}
"""What ``prequantized_model_type`` tells of a model.

Source: the published configurations: 1 stands beside scale type 1 where the names of the models say
``qat-p2``, 2 beside ``prequantized_model``, 0 in all others.
"""


@attrs.frozen
class Listing:
    """All that there is to print.

    Attributes:
        problems: why nothing could be compiled for the device with these options.
    """

    given: GivenOptions
    resolved: ResolvedOptions
    device: Target | None
    problems: tuple[str, ...]


@click.command("options")
@option_options
@click.option("--target", metavar="NAME", help="With the defaults and limits of this device.")
@click.option("--all", "everything", is_flag=True, help="Print options that nobody set, too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def command(
    ctx: click.Context,
    options_file: Path | None,
    assignments: tuple[str, ...],
    target: str | None,
    *,
    everything: bool,
    as_json: bool,
) -> None:
    """Show effective options, where each comes from, and what has no effect; no model is needed."""
    given = given_options(options_file, assignments)
    registry = registry_of(ctx)
    named = target or given.named_target(registry)
    device = None if named is None else load_target(named, registry)
    defaults = [] if device is None else [OptionLayer(f"device {device.name}", dict(device.option_defaults))]
    resolved = resolve_options([*defaults, *given.layers])
    problems: tuple[str, ...] = ()
    if device is not None:
        problems = tuple(str(error) for error in impossible(resolved, device, registry))
        # Where nothing can be compiled, nothing is without effect.
        resolved = resolved if problems else with_device_notes(resolved, device, registry)
    listing = Listing(given, resolved, device, problems)
    everything = everything or not given.layers
    if as_json:
        click.echo(json_text(_plain(listing, everything=everything)), nl=False)
        return
    for number, part in enumerate(_parts(listing, everything=everything)):
        if number:
            stdout().print()
        # Only tables are fitted to the terminal: names of layers are copied from here.
        stdout().print(part, soft_wrap=isinstance(part, Text))


def _parts(listing: Listing, *, everything: bool) -> Iterator[RenderableType]:
    yield _table(listing, everything=everything)
    for option in listing.resolved.effective:
        if len(_listed(option)) > NAMES_IN_A_ROW:
            yield Text("\n".join([f"{option.key}:", *_name_lines(_listed(option))]))
    if listing.given.preprocess is not None:
        yield _grid("preprocessing of images", preprocess_in_words(listing.given.preprocess))
    if listing.given.loaded is not None and (about := _about(listing.given.loaded)):
        yield _grid("what else the file says", about)
    if listing.problems:
        yield Text("\n".join(f"no compile: {problem}" for problem in listing.problems), style="red")


def _table(listing: Listing, *, everything: bool) -> Table:
    loaded, resolved = listing.given.loaded, listing.resolved
    # The name of the file stands in the title: in every row it would take the place of all else.
    file = "options file" if loaded is None else loaded.layer.origin
    title = ("options" if everything else "options that were set or that have a note") + (
        "" if loaded is None else f", file: {loaded.file.name}"
    )
    table = new_table(title, "option", "value", "from", "note")
    for option in _rows(resolved, everything=everything):
        overrode = "".join(f", overrides {_shown(value)} ({place})" for place, value in option.overridden)
        note = option.note or _effect(option)
        row = (option.key, _shown(option.value), option.origin + overrode, note)
        table.add_row(*(Text(text.replace(file, "file"), style=_style(option)) for text in row))
    return table


def _rows(resolved: ResolvedOptions, *, everything: bool) -> list[EffectiveOption]:
    return [
        option for option in resolved.effective if everything or option.origin != "default" or option.note
    ]


def _effect(option: EffectiveOption) -> str:
    return "" if option.effect is Effect.USED else str(option.effect)


def _style(option: EffectiveOption) -> str:
    return "" if option.effect is Effect.USED else "dim"


def _shown(value: Any) -> str:
    if is_sequence(value) and len(value) > NAMES_IN_A_ROW:
        return f"{len(value)} names, see below"
    if value is None:
        return "-"
    return str(int(value)) if isinstance(value, bool) else written(value)


def _listed(option: EffectiveOption) -> tuple[str, ...]:
    """The names of an option that is a list of names."""
    value: object = option.value
    return tuple(entry for entry in value if isinstance(entry, str)) if is_sequence(value) else ()


def _repeated(names: tuple[str, ...]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _name_lines(names: tuple[str, ...]) -> Iterator[str]:
    for index, name in enumerate(names):
        again = "  (named before)" if name in names[:index] else ""
        yield f"  {name}{again}"


def _grid(title: str, rows: Mapping[str, str]) -> Table:
    table = new_table(title, "", "")
    table.show_header = False
    for key, value in rows.items():
        table.add_row(Text(key), Text(value))
    return table


def _about(loaded: LoadedOptions) -> dict[str, str]:
    found: dict[str, str] = {}
    if loaded.model_path is not None:
        file = _model_file(loaded)
        found["model"] = f"{loaded.model_path}, {'not there' if file is None else f'found as {file}'}"
    if loaded.target is not None:
        found["device"] = loaded.target
    for key, value in loaded.info.items():
        words = (
            MODEL_TYPES.get(value) if key == "prequantized_model_type" and isinstance(value, int) else None
        )
        found[key] = f"{value!s:.80}{f', {words}' if words else ''}; the model itself decides"
    if loaded.ignored:
        found["ignored"] = ", ".join(loaded.ignored)
    return found


def _model_file(loaded: LoadedOptions) -> str | None:
    try:
        found = loaded.find_model()
    except OptionError:
        return None
    return None if found is None else str(found)


def _plain(listing: Listing, *, everything: bool) -> dict[str, object]:
    loaded, chosen = listing.given.loaded, listing.given.preprocess
    return {
        "options": [
            {
                "option": option.key,
                "value": option.value,
                "default": option.default,
                "from": option.origin,
                "overridden": [{"value": value, "from": origin} for origin, value in option.overridden],
                "effect": str(option.effect),
                "note": option.note,
            }
            for option in _rows(listing.resolved, everything=everything)
        ],
        "duplicates": {
            option.key: repeated
            for option in listing.resolved.effective
            if (repeated := _repeated(_listed(option)))
        },
        "preprocess": None if chosen is None else attrs.asdict(chosen),
        "preprocess_in_words": None if chosen is None else preprocess_in_words(chosen),
        "model": None if loaded is None else loaded.model_path,
        "model_file": None if loaded is None else _model_file(loaded),
        "device": None if listing.device is None else listing.device.name,
        "info": {} if loaded is None else loaded.info,
        "ignored": [] if loaded is None else loaded.ignored,
        "problems": listing.problems,
    }
