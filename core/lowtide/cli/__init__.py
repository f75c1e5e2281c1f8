"""The command line. Commands are imported when they are called."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import click

from lowtide.errors import LowtideError, PluginError, nearest

if TYPE_CHECKING:
    from lowtide.plugin import Registry

BAD_INPUT, GATE_MISSED, INTERRUPTED = 2, 1, 130

_CLICK = (click.ClickException, click.Abort, click.exceptions.Exit)
"""What click and commands end with on purpose."""

COMMANDS = {
    "compile": ("lowtide.cli.compile:command", "Quantize a network for a device."),
    "run": ("lowtide.cli.run:command", "Run frames through a network and keep the outputs."),
    "compare": ("lowtide.cli.compare:command", "Show the error of every layer, worst first."),
    "evaluate": ("lowtide.cli.evaluate:command", "Measure a task metric, float beside fixed."),
    "tune": ("lowtide.cli.tune:command", "Find the options with the best accuracy."),
    "check": ("lowtide.cli.check:command", "Say without data what a compile would meet."),
    "estimate": ("lowtide.cli.estimate:command", "Estimate how long each layer takes on a device."),
    "diff": ("lowtide.cli.diff:command", "Show what differs between two output folders."),
    "inspect": ("lowtide.cli.inspect:command", "Show tensors, ranges and scales."),
    "opt": ("lowtide.cli.opt:command", "Run passes on the text form of a graph."),
    "options": ("lowtide.cli.options:command", "Show effective options, and what has no effect."),
    "targets": ("lowtide.cli.listing:targets", "List devices, or describe one."),
    "calibrators": ("lowtide.cli.listing:calibrators", "List calibrators, or describe one."),
    "strategies": ("lowtide.cli.listing:strategies", "List precision strategies, or describe one."),
    "passes": ("lowtide.cli.listing:passes", "List passes, or describe one with its options."),
    "emitters": ("lowtide.cli.listing:emitters", "List what writes files, or describe one."),
    "metrics": ("lowtide.cli.listing:metrics", "List metrics, or describe one."),
    "diagnoses": ("lowtide.cli.listing:diagnoses", "List what can cost accuracy, or describe a family."),
    "plugins": ("lowtide.cli.listing:plugins", "List what is installed, from where, and what is broken."),
}


@contextmanager
def _until_reader_leaves() -> Generator[None, None, None]:
    """End quietly when whoever reads our output goes away, as `head` does.

    Left alone, click and rich both turn that into status 1, which here means a missed gate.
    """
    try:
        yield
    except (BrokenPipeError, SystemExit) as error:
        if not isinstance(error, BrokenPipeError) and not isinstance(error.__context__, BrokenPipeError):
            raise
        if sys.__stdout__ is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # for the flush at the end
        raise click.exceptions.Exit(0) from error


class LazyGroup(click.Group):
    """Knows its commands by name and imports the one that is called."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the command line, which prints where it asks for help."""
        with _until_reader_leaves():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a plugin's that fails is named."""
        with _until_reader_leaves():
            try:
                return super().invoke(ctx)
            except (LowtideError, *_CLICK, BrokenPipeError):
                raise
            except Exception as error:
                name = ctx.invoked_subcommand
                if name is None or name in COMMANDS:
                    raise
                from lowtide.plugin import CommandSpec  # noqa: PLC0415 - discovery costs time

                place = _registry(ctx).describe(_registry(ctx).get(CommandSpec, name))
                raise PluginError(f"failed with {type(error).__name__}: {error}", place=place) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Built-in commands first, then those of plugins."""
        return [*COMMANDS, *sorted(_plugin_commands(ctx))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name in COMMANDS:
            module, _, name = COMMANDS[cmd_name][0].partition(":")
            return cast(click.Command, getattr(importlib.import_module(module), name))
        if cmd_name in _plugin_commands(ctx):
            from lowtide.plugin import CommandSpec  # noqa: PLC0415 - discovery costs time

            return cast(click.Command, _registry(ctx).load(CommandSpec, cmd_name))
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest names for an unknown command."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            raise click.UsageError(f"there is no command {name!r}; {nearest(name, self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List commands without importing them."""
        rows = [(name, summary) for name, (_, summary) in COMMANDS.items()]
        rows += sorted(_plugin_commands(ctx).items())
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _registry(ctx: click.Context) -> Registry:
    from lowtide.cli.context import registry_of  # noqa: PLC0415 - discovery costs time

    return registry_of(ctx)


def _plugin_commands(ctx: click.Context) -> dict[str, str]:
    from lowtide.plugin import CommandSpec  # noqa: PLC0415 - discovery costs time

    return {spec.name: spec.summary for spec in _registry(ctx).all(CommandSpec)}


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lowtide", prog_name="lowtide")
@click.option("--disable-plugin", "disabled", multiple=True, metavar="NAME", help="Do not load this plugin.")
@click.option(
    "--strict-plugins", is_flag=True, help="Stop at a broken plugin instead of going on without it."
)
@click.pass_context
def cli(ctx: click.Context, disabled: tuple[str, ...], *, strict_plugins: bool) -> None:
    """Quantize trained networks for edge accelerators, and see what every layer lost."""
    ctx.obj = {"disabled": disabled, "strict": strict_plugins}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when it is done, 1 when a quality gate was missed, 2 for bad usage or input, 130 when interrupted.
    """
    try:
        result = cli.main(
            args=None if argv is None else list(argv), prog_name="lowtide", standalone_mode=False
        )
    except LowtideError as error:
        _complain(str(error))
        return BAD_INPUT
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return BAD_INPUT
    except (click.Abort, KeyboardInterrupt) as stop:
        # click raises its own exception from that of Python.
        notes = getattr(stop.__cause__ or stop, "__notes__", ())
        _complain("; ".join(["interrupted", *notes]))
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def _complain(text: str) -> None:
    from lowtide.cli.context import stderr  # noqa: PLC0415 - rich costs time

    stderr().print(f"error: {text}", style="red", markup=False, highlight=False, soft_wrap=True)
