"""Targets written in the tests themselves."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from lowtide.plugin import Provider, Registry, TargetSpec

RegistryOf = Callable[..., Registry]


@attrs.frozen(kw_only=True)
class TextTarget(TargetSpec):
    """A target whose description is a text and not a file."""

    text: str

    def load(self) -> str:
        return self.text


BASE = """
schema = 1
default_scale_type = 1
prepare = ""
[scale_rules.1]
name = "power-of-two"
activation = "symmetric"
[operators.Conv]
kind = "mac"
constraints = [{ require = "stride_h == stride_w", reason = "unequal strides" }]
[operators.Relu]
kind = "elementwise"
[operators.Add]
kind = "elementwise"
layer_type = "MAKER_Sum"
[operators.Mul]
kind = "elementwise"
[operators.ArgMax]
kind = "float"
[operators.Reshape]
kind = "same-codes"
"""


@pytest.fixture
def base() -> str:
    """A small valid description."""
    return BASE


@pytest.fixture
def registry_of() -> RegistryOf:
    """Makes a registry of descriptions given by name; `base` is always there."""

    def make(*, aliases: tuple[str, ...] = (), **texts: str) -> Registry:
        registry = Registry()
        provider = Provider("tests", "1", "tests")
        for name, text in {"base": BASE, **texts}.items():
            given = aliases if name != "base" else ()
            spec = TextTarget(
                name=name, summary=f"{name}.", implementation="t:f.toml", text=text, aliases=given
            )
            registry.add(spec, provider)
        return registry

    return make
