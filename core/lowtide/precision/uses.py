"""Whether a strategy that is named uses the options about widths that are set."""

from __future__ import annotations

from collections.abc import Mapping

from lowtide.errors import OptionError
from lowtide.options import FLOAT_BITS, WIDTH_OPTIONS, EffectiveOption, ResolvedOptions
from lowtide.plugin import Registry, StrategySpec


def check_used(resolved: ResolvedOptions, registry: Registry) -> None:
    """Refuse options that ask a strategy for what it does not do; one that nobody names is chosen by them.

    Raises:
        OptionError: for an option that the record of the strategy does not have in `uses`.
        UnknownNameError: when nobody provides the strategy.
        PluginError: when it cannot be loaded, or its record has other names.
    """
    named = resolved.options.strategy
    if not named or resolved.options.tensor_bits == FLOAT_BITS:
        return
    spec = registry.get(StrategySpec, named.partition("{")[0].strip())
    registry.load(StrategySpec, spec.name)  # which holds the record against what there is to use
    origin = next(option.origin for option in resolved.effective if option.key == "strategy")
    for field, option in asked_widths(resolved).items():
        if field not in spec.uses:
            nothing = "none" if option.default in (None, ()) else f"{option.default:g}"
            raise OptionError(
                f"{registry.describe(spec)} does not use this option",
                place=f"{option.key} ({option.origin}) and strategy ({origin})",
                hint=f"leave one of them out; --set {field}={nothing} takes back what a file says",
            )


def asked_widths(resolved: ResolvedOptions) -> Mapping[str, EffectiveOption]:
    """The options about widths that are set, by field name."""
    set_ = {option.key: option for option in resolved.effective if option.value != option.default}
    return {field: set_[key] for field, key in WIDTH_OPTIONS.items() if key in set_}
