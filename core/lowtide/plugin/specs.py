"""What plugins hand in: frozen records that name an implementation without importing it."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import ClassVar, cast, get_args

import attrs

from lowtide.errors import LowtideError, PluginError

_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[\w./-]+")


def _check_name(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not _NAME.fullmatch(value):
        raise PluginError(
            f"{attribute.name} should be lower-case letters, digits and dashes, found {value!r}", place=value
        )


def _check_reference(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not _REFERENCE.fullmatch(value):
        raise PluginError(f"{attribute.name} should read 'package.module:attribute', found {value!r}")


@attrs.frozen(kw_only=True)
class Spec:
    """A named contribution.

    Attributes:
        name: how users select it.
        summary: one line for the listing commands.
        implementation: ``package.module:attribute``, imported when it is used and not before.

    Raises:
        PluginError: on construction, when the name or the reference is malformed.
    """

    kind: ClassVar[str]
    base: ClassVar[str] = ""
    """``module:class`` that the implementation must derive from; empty for a plain function."""

    name: str = attrs.field(validator=_check_name)
    summary: str
    implementation: str = attrs.field(validator=_check_reference)

    def load(self) -> object:
        """Import the implementation.

        Raises:
            PluginError: when it cannot be imported, is missing, is no complete class derived from the base of
                its kind, lacks the attrs decorator that such a class needs, or has another name or a fact
                of another type than its kind requires.
        """
        found = _import(self.implementation, f"{self.kind} {self.name}")
        if self.base:
            self._check_class(found)
        return found

    def _check_class(self, found: object) -> None:
        place = f"{self.kind} {self.name}"
        base = _import(self.base, place)
        if not (isinstance(found, type) and isinstance(base, type) and issubclass(found, base)):
            raise PluginError(
                f"{self.implementation} should be a class derived from {self.base}", place=place
            )
        if inspect.isabstract(found):
            missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
            raise PluginError(f"{self.implementation} does not implement {missing}", place=place)
        # A subclass without the attrs decorator silently has no fields, so its options would be lost.
        if "__attrs_attrs__" in vars(base) and "__attrs_attrs__" not in vars(found):
            raise PluginError(
                f"{self.implementation} lacks the decorator @attrs.frozen",
                place=place,
                hint="add @attrs.frozen",
            )
        if "name" in inspect.get_annotations(base):
            self._check_named(found)

    def _check_named(self, found: object) -> None:
        """Results, pipelines and options files refer to a contribution by the name in its class."""
        named = getattr(found, "name", None)
        if named != self.name:
            raise PluginError(
                f"{self.implementation} has the name {named!r}, expected {self.name!r} as in its record",
                place=f"{self.kind} {self.name}",
                hint=f'give the class: name: ClassVar[str] = "{self.name}"',
            )


@attrs.frozen(kw_only=True)
class FrontendSpec(Spec):
    """A model format; the implementation is a `lowtide.frontend.Frontend`.

    Attributes:
        suffixes: file name endings that it reads, with the dot.
    """

    kind: ClassVar[str] = "frontend"
    base: ClassVar[str] = "lowtide.frontend:Frontend"
    suffixes: tuple[str, ...]


@attrs.frozen(kw_only=True)
class StatisticSpec(Spec):
    """An accumulator over activations; the implementation is a `lowtide.calibrate.Statistic`."""

    kind: ClassVar[str] = "statistic"
    base: ClassVar[str] = "lowtide.calibrate.api:Statistic"

    def _check_class(self, found: object) -> None:
        super()._check_class(found)
        place = f"{self.kind} {self.name}"
        legal = get_args(_import("lowtide.calibrate.api:Wants", place))
        wants = getattr(found, "wants", None)
        if wants not in legal:
            raise PluginError(
                f"wants in {self.implementation} should be {' or '.join(map(repr, legal))}, found {wants!r}",
                place=place,
                hint='give the class: wants: ClassVar[Wants] = "extremes"',
            )


@attrs.frozen(kw_only=True)
class CalibratorSpec(Spec):
    """Statistics to range; the implementation is a `lowtide.calibrate.Calibrator`."""

    kind: ClassVar[str] = "calibrator"
    base: ClassVar[str] = "lowtide.calibrate.api:Calibrator"

    def _check_class(self, found: object) -> None:
        super()._check_class(found)
        names: object = getattr(found, "statistics", None)
        # A text is a sequence of names, too: each of one letter.
        if not (
            isinstance(names, tuple)
            and all(isinstance(name, str) for name in cast("Iterable[object]", names))
        ):
            raise PluginError(
                f"statistics in {self.implementation} should be a tuple of names, found {names!r}",
                place=f"{self.kind} {self.name}",
                hint='for instance statistics: ClassVar[tuple[str, ...]] = ("minmax",)',
            )


@attrs.frozen(kw_only=True)
class EncodingsSpec(Spec):
    """What is known before calibration; the implementation is a `lowtide.encodings.EncodingSource`."""

    kind: ClassVar[str] = "encoding"
    base: ClassVar[str] = "lowtide.encodings:EncodingSource"


@attrs.frozen(kw_only=True)
class StrategySpec(Spec):
    """Precision assignment; the implementation is a `lowtide.precision.PrecisionStrategy`.

    Attributes:
        uses: which of `lowtide.options.WIDTH_OPTIONS` it looks at, by field name; who names the strategy and
            sets another one is told that it has no effect.
    """

    kind: ClassVar[str] = "strategy"
    base: ClassVar[str] = "lowtide.precision.api:PrecisionStrategy"
    uses: tuple[str, ...] = ()

    def _check_class(self, found: object) -> None:
        super()._check_class(found)
        place = f"{self.kind} {self.name}"
        known = cast("Mapping[str, str]", _import("lowtide.options:WIDTH_OPTIONS", place))
        # Third parties write it. A text is a sequence of names, too: each of one letter.
        names = cast("object", self.uses)
        if not isinstance(names, tuple) or not set(self.uses) <= set(known):
            raise PluginError(
                f"uses in its record should be a tuple of names among {', '.join(known)}; found {names!r}",
                place=place,
            )


@attrs.frozen(kw_only=True)
class PassSpec(Spec):
    """A graph pass; the implementation is a `lowtide.passes.Pass`."""

    kind: ClassVar[str] = "pass"
    base: ClassVar[str] = "lowtide.passes.base:Pass"


@attrs.frozen(kw_only=True)
class TargetSpec(Spec):
    """A device; the implementation is ``package:file.toml``, a resource in the package.

    Attributes:
        aliases: other names that users know the device by.
    """

    kind: ClassVar[str] = "target"
    aliases: tuple[str, ...] = ()

    def load(self) -> str:
        """The text of the description.

        Raises:
            PluginError: when the package or the file is missing.
        """
        package, _, path = self.implementation.partition(":")
        try:
            return resources.files(package).joinpath(path).read_text("utf-8")
        except (ImportError, OSError, TypeError, ValueError) as error:
            raise PluginError(
                f"{self.implementation} cannot be read: {error}", place=f"target {self.name}"
            ) from error


@attrs.frozen(kw_only=True)
class LatencyModelSpec(Spec):
    """What layers cost on a device; the implementation is a `lowtide.latency.LatencyModel`."""

    kind: ClassVar[str] = "latency-model"
    base: ClassVar[str] = "lowtide.latency.api:LatencyModel"


@attrs.frozen(kw_only=True)
class EmitterSpec(Spec):
    """An output file; the implementation is a `lowtide.emit.Emitter`.

    Attributes:
        default: whether every compile writes it.
    """

    kind: ClassVar[str] = "emitter"
    base: ClassVar[str] = "lowtide.emit:Emitter"
    default: bool = True


@attrs.frozen(kw_only=True)
class MetricSpec(Spec):
    """An output or task metric; the implementation is a `lowtide.measure.Metric`."""

    kind: ClassVar[str] = "metric"
    base: ClassVar[str] = "lowtide.measure.api:Metric"


@attrs.frozen(kw_only=True)
class ComparisonSpec(Spec):
    """Compares two files; the implementation is a `lowtide.difference.Comparison`.

    Attributes:
        suffixes: file name endings that it reads, with the dot.
    """

    kind: ClassVar[str] = "comparison"
    base: ClassVar[str] = "lowtide.difference:Comparison"
    suffixes: tuple[str, ...]


@attrs.frozen(kw_only=True)
class DiagnosisSpec(Spec):
    """A family of causes of lost accuracy; the implementation is a `lowtide.diagnosis.Diagnosis`."""

    kind: ClassVar[str] = "diagnosis"
    base: ClassVar[str] = "lowtide.diagnosis.api:Diagnosis"


@attrs.frozen(kw_only=True)
class ReportSectionSpec(Spec):
    """A part of the report; the implementation is a `lowtide.report.Section`."""

    kind: ClassVar[str] = "report-section"
    base: ClassVar[str] = "lowtide.report.section:Section"


@attrs.frozen(kw_only=True)
class CommandSpec(Spec):
    """A subcommand of ``lowtide``; the implementation is a `click.Command`."""

    kind: ClassVar[str] = "command"

    def load(self) -> object:
        """Import the command.

        Raises:
            PluginError: when it cannot be imported, or is no command.
        """
        found, place = super().load(), f"{self.kind} {self.name}"
        command = _import("click:Command", place)
        if not (isinstance(command, type) and isinstance(found, command)):
            raise PluginError(
                f"{self.implementation} should be a click.Command, found {found!r}",
                place=place,
                hint="decorate the function with @click.command",
            )
        return found


SPEC_KINDS: Mapping[str, type[Spec]] = {
    spec.kind: spec
    for spec in (
        FrontendSpec,
        StatisticSpec,
        CalibratorSpec,
        EncodingsSpec,
        StrategySpec,
        PassSpec,
        TargetSpec,
        LatencyModelSpec,
        EmitterSpec,
        MetricSpec,
        ComparisonSpec,
        DiagnosisSpec,
        ReportSectionSpec,
        CommandSpec,
    )
}
"""Every kind of contribution by the name that listings use."""


def _import(reference: str, place: str) -> object:
    module, _, attribute = reference.partition(":")
    try:
        found: object = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except LowtideError:  # raised on purpose
        raise
    except SystemExit as error:  # which has no text of its own, and would end the command
        raise PluginError(f"{reference} cannot be loaded: SystemExit: {error}", place=place) from error
    except Exception as error:  # a module may fail with anything while it is imported
        raise PluginError(f"{reference} cannot be loaded: {error}", place=place) from error
    return found
