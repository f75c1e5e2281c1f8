"""One of two that provide the same name."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import StrategySpec, hookimpl


@hookimpl
def lowtide_register_strategies() -> Iterable[StrategySpec]:
    return [StrategySpec(name="fake-best", summary="the best", implementation="fake:Best")]
