"""Built-in passes on ranges and scales, between calibrating and solving."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import PassSpec, hookimpl

_MODULE = "lowtide_plugins.scales"


@hookimpl
def lowtide_register_passes() -> Iterable[PassSpec]:
    """Contribute what the pipeline ``scales`` is made of."""
    return [
        PassSpec(
            name="add-headroom",
            summary="widen the ranges of 16-bit tensors",
            implementation=f"{_MODULE}.headroom:AddHeadroom",
        ),
        PassSpec(
            name="choose-ranges",
            summary="narrow ranges by the error that reaches the outputs",
            implementation=f"{_MODULE}.ranges:ChooseRanges",
        ),
        PassSpec(
            name="joint-scales",
            summary="choose the scales of weights and activations together, where devices can only shift",
            implementation=f"{_MODULE}.joint:JointScales",
        ),
    ]
