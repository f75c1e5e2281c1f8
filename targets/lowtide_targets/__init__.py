"""The devices that come with Lowtide, each one file of data."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.plugin import TargetSpec, hookimpl

_DEVICES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("tidl", "common base of the vendor's devices, to be extended", ()),
    ("tidl-asymmetric", "base of the devices with zero points and per-channel weights, to be extended", ()),
    ("tidl-256", "base of those with 256-bit units, to be extended", ()),
    ("tda4vm", "8 TOPS, symmetric only", ("am68pa", "j721e")),
    ("am62a", "2 TOPS, asymmetric and per-channel, no lookup tables", ()),
    ("am67a", "4 TOPS on two cores, asymmetric and per-channel", ("j722s",)),
    ("am68a", "8 TOPS, asymmetric and per-channel", ("j721s2",)),
    ("am69a", "32 TOPS on four cores, asymmetric and per-channel", ("j784s4",)),
    ("generic", "int8 as ONNX Runtime and TFLite run it, no device", ()),
)


@hookimpl
def lowtide_register_targets() -> Iterable[TargetSpec]:
    """Contribute the built-in devices and their bases."""
    return [
        TargetSpec(name=name, summary=summary, implementation=f"lowtide_targets:{name}.toml", aliases=aliases)
        for name, summary, aliases in _DEVICES
    ]
