"""How the core calls the code of plugins."""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO

from lowtide.errors import LowtideError, PluginError

_LOCK = threading.Lock()
_replaced: list[TextIO] = []
"""What standard output was, once for every block that is under way; threads may end theirs in any order."""


@contextmanager
def prints_aside() -> Generator[None, None, None]:
    """Send what is printed within the block to standard error: standard output is the result of a command."""
    with _LOCK:
        _replaced.append(_replaced[0] if _replaced else sys.stdout)
        sys.stdout = sys.stderr
    try:
        yield
    finally:
        with _LOCK:
            before = _replaced.pop()
            if not _replaced:
                sys.stdout = before


@contextmanager
def plugin_code(place: str, *, passing: tuple[type[Exception], ...] = ()) -> Generator[None, None, None]:
    """Blame a plugin for what its code raises within the block; what it prints goes to standard error.

    Args:
        place: the contribution and who provides it, as `lowtide.plugin.Registry.describe` says it.
        passing: further errors that the caller deals with.

    Raises:
        PluginError: for every exception but a `LowtideError`, which the plugin raises on purpose, and but an
            interruption. An attempt to end the program is one, since its status would pass for ours.
    """
    try:
        with prints_aside():
            yield
    except LowtideError:
        raise
    except passing:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"failed with {type(error).__name__}: {error}", place=place) from error
