"""Checks of options that passes share."""

from __future__ import annotations

from lowtide.errors import PassError
from lowtide.passes import Pass


def at_least(step: Pass, **lowest: float) -> None:
    """Check options of a pass that have a lowest value.

    Args:
        step: the pass.
        lowest: by option, the lowest value that it may have.

    Raises:
        PassError: for the first option that is below, or no number.
    """
    for option, least in lowest.items():
        found = getattr(step, option)
        if not found >= least:
            raise PassError(f"expected at least {least}, found {found}", place=f"{step.name}, {option}")
