"""Built-in precision strategies."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import StrategySpec, hookimpl


@hookimpl
def lowtide_register_strategies() -> Iterable[StrategySpec]:
    """Contribute ``uniform``, ``manual`` and ``automatic``."""
    return [
        StrategySpec(
            name="uniform",
            summary="every tensor and parameter has the width of tensor_bits",
            implementation="lowtide_plugins.precision.uniform:Uniform",
        ),
        StrategySpec(
            name="manual",
            summary="16 bits for the layers of the two 16-bit lists, tensor_bits for all others",
            implementation="lowtide_plugins.precision.manual:Manual",
            uses=("output_feature_16bit_names_list", "params_16bit_names_list"),
        ),
        StrategySpec(
            name="automatic",
            summary="16 bits where they lower the error most, under a latency budget or for a goal",
            implementation="lowtide_plugins.precision.automatic:Automatic",
            uses=(
                "mixed_precision_factor",
                "budget_ms",
                "goal",
                "front_point",
                "search_frames",
                "output_feature_16bit_names_list",
                "params_16bit_names_list",
            ),
        ),
    ]
