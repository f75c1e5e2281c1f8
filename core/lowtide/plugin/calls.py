"""How the core calls the code of plugins."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from lowtide.errors import LowtideError, PluginError


@contextmanager
def plugin_code(place: str, *, passing: tuple[type[Exception], ...] = ()) -> Generator[None, None, None]:
    """Blame a plugin for what its code raises within the block.

    Args:
        place: the contribution and who provides it, as `lowtide.plugin.Registry.describe` says it.
        passing: further errors that the caller deals with.

    Raises:
        PluginError: for every exception but a `LowtideError`, which the plugin raises on purpose, and but an
            interruption. An attempt to end the program is one, since its status would pass for ours.
    """
    try:
        yield
    except LowtideError:
        raise
    except passing:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"failed with {type(error).__name__}: {error}", place=place) from error
