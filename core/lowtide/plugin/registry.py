"""What is installed: every contribution with the distribution that provides it, and what failed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from typing import Any, TypeVar

import attrs
import pluggy

from lowtide.errors import LowtideError, PluginConflictError, PluginError, UnknownNameError, nearest
from lowtide.plugin import hookspecs
from lowtide.plugin.calls import plugin_code, prints_aside
from lowtide.plugin.hookspecs import GROUP, PROJECT
from lowtide.plugin.specs import SPEC_KINDS, Spec, TargetSpec

S = TypeVar("S", bound=Spec)

REGISTRATION_HOOKS = (
    "lowtide_register_frontends",
    "lowtide_register_statistics",
    "lowtide_register_calibrators",
    "lowtide_register_encodings",
    "lowtide_register_strategies",
    "lowtide_register_passes",
    "lowtide_register_targets",
    "lowtide_register_latency_models",
    "lowtide_register_emitters",
    "lowtide_register_metrics",
    "lowtide_register_comparisons",
    "lowtide_register_diagnoses",
    "lowtide_register_report_sections",
    "lowtide_register_commands",
)
HOOK_KINDS: Mapping[str, type[Spec]] = dict(zip(REGISTRATION_HOOKS, SPEC_KINDS.values(), strict=True))
"""The kind of record that each registration hook returns."""

OBSERVER_HOOKS = ("lowtide_pass_finished", "lowtide_compile_finished")


DISTRIBUTION = "lowtide"
"""What comes with it is there first: who takes one of its names is the newcomer."""

_API_GROUP = re.compile(r"lowtide\.v\d+")


@attrs.frozen(order=True)
class Provider:
    """Who provides something."""

    distribution: str
    version: str
    entry_point: str

    @classmethod
    def of(cls, entry_point: metadata.EntryPoint) -> Provider:
        """The provider that an entry point belongs to."""
        owner = entry_point.dist
        if owner is None:
            return cls("unknown distribution", "?", entry_point.name)
        return cls(owner.name, owner.version, entry_point.name)

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} ({self.entry_point})"


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


@attrs.define
class Registry:
    """Contributions by kind and name.

    Attributes:
        providers: all plugins that were loaded.
        broken: plugins that failed to load, with the reason.
        unfit: plugins for other versions of the plugin API, which are never imported.
    """

    providers: list[Provider] = attrs.field(factory=list[Provider])
    broken: dict[Provider, str] = attrs.field(factory=dict[Provider, str])
    unfit: dict[Provider, str] = attrs.field(factory=dict[Provider, str])
    _specs: dict[tuple[str, str], tuple[Spec, Provider]] = attrs.field(
        factory=dict[tuple[str, str], tuple[Spec, Provider]]
    )
    _observers: pluggy.PluginManager = attrs.field(factory=_manager)

    def add(self, spec: Spec, provider: Provider) -> None:
        """Add a contribution.

        Raises:
            PluginConflictError: when another plugin provides the same kind and name.
            PluginError: when the same plugin does.
        """
        aliases = spec.aliases if isinstance(spec, TargetSpec) else ()
        for name in (spec.name, *aliases):
            owner = self._owner(spec.kind, name)
            if owner == provider:
                raise PluginError(
                    f"lists the {spec.kind} {name!r} twice", place=str(provider), hint="leave one of them out"
                )
            if owner is not None:
                raise self.conflict(spec.kind, name, owner, provider)
        self._specs[spec.kind, spec.name] = (spec, provider)

    def conflict(self, kind: str, name: str, owner: object, newcomer: Provider) -> PluginConflictError:
        """The error for a name that is taken; it advises to do without the newcomer."""
        namesakes = {known for known in self.providers if known.entry_point == newcomer.entry_point}
        alone = namesakes <= {newcomer}
        return PluginConflictError(
            f"{owner} and {newcomer} both provide the {kind} {name!r}",
            place=f"{kind} {name}",
            hint=f"uninstall {newcomer.distribution}"
            + (f" or use --disable-plugin {newcomer.entry_point}" if alone else ""),
        )

    def _owner(self, kind: str, name: str) -> Provider | None:
        for (known_kind, known), (spec, provider) in self._specs.items():
            aliases = spec.aliases if isinstance(spec, TargetSpec) else ()
            if known_kind == kind and name in (known, *aliases):
                return provider
        return None

    def all(self, kind: type[S]) -> tuple[S, ...]:
        """All contributions of a kind, sorted by name."""
        found = [spec for spec, _ in self._specs.values() if isinstance(spec, kind)]
        return tuple(sorted(found, key=lambda spec: spec.name))

    def get(self, kind: type[S], name: str) -> S:
        """One contribution by name or alias.

        Raises:
            UnknownNameError: with the nearest names and, if plugins are broken, with those.
        """
        names: list[str] = []
        for spec in self.all(kind):
            aliases = spec.aliases if isinstance(spec, TargetSpec) else ()
            if name in (spec.name, *aliases):
                return spec
            names += [spec.name, *aliases]
        error = UnknownNameError(
            f"there is no {kind.kind} of this name", place=f"{kind.kind} {name!r}", hint=nearest(name, names)
        )
        for provider, reason in self.broken.items():
            error.add_note(f"the plugin {provider} is broken and may have provided it: {reason}")
        raise error

    def load(self, kind: type[S], name: str) -> Any:
        """The implementation of a contribution; the kind says what it is.

        Raises:
            UnknownNameError: as `get`.
            PluginError: naming the provider, when it cannot be imported.
            LowtideError: which its module raises on purpose, naming the provider, too.
        """
        spec = self.get(kind, name)
        try:
            with prints_aside():
                return spec.load()
        except LowtideError as error:
            note = f"provided by {self.provider(spec)}"
            if note not in getattr(error, "__notes__", ()):
                error.add_note(note)
            raise

    def provider(self, spec: Spec) -> Provider:
        """Who provides a contribution."""
        return self._specs[spec.kind, spec.name][1]

    def describe(self, spec: Spec) -> str:
        """A contribution and who provides it, for messages."""
        return f"the {spec.kind.replace('-', ' ')} {spec.name} of {self.provider(spec)}"

    @property
    def hook(self) -> pluggy.HookRelay:
        """The observer hooks of all loaded plugins."""
        return self._observers.hook

    def notify(self, event: str, **arguments: object) -> None:
        """Call one of `OBSERVER_HOOKS` in every plugin that listens.

        Raises:
            PluginError: naming the plugin, when one fails.
        """
        caller: pluggy.HookCaller = getattr(self.hook, event)
        for listener in caller.get_hookimpls():
            given = {name: arguments[name] for name in listener.argnames}
            with plugin_code(f"{event} of {listener.plugin_name}"):
                listener.function(**given)

    def add_plugin(self, plugin: object, provider: Provider) -> None:
        """Take in all that a plugin contributes, or nothing.

        Raises:
            PluginError: when a hook does not exist, fails, or returns something else than records of its
                kind, or the plugin is registered already.
            PluginConflictError: when a name is taken.
        """
        manager = _manager()
        try:
            manager.register(plugin, name=provider.entry_point)
            _check_hooks(manager, plugin, provider)
            if self._observers.is_registered(plugin) or self._observers.has_plugin(str(provider)):
                raise PluginError("the plugin is registered already", place=str(provider))
        except pluggy.PluginValidationError as error:
            raise PluginError(f"{error}", place=str(provider)) from error
        before = dict(self._specs)
        try:
            for spec in _collect(manager, provider):
                self.add(spec, provider)
        except Exception:
            self._specs = before
            raise
        self._observers.register(plugin, name=f"{provider}")
        self.providers.append(provider)


def discover(*, disabled: Iterable[str] = (), strict: bool = False) -> Registry:
    """Find all plugins by entry point.

    Args:
        disabled: names of entry points that are not to be loaded.
        strict: raise for a broken plugin instead of listing it under `Registry.broken`.

    Raises:
        PluginConflictError: when two plugins provide the same name.
        PluginError: for a broken plugin, if `strict`.
        UnknownNameError: when no entry point has a name that is disabled.
    """
    registry, skipped = Registry(), frozenset(disabled)
    groups = sorted(group for group in metadata.entry_points().groups if _API_GROUP.fullmatch(group))
    found = [point for group in groups for point in metadata.entry_points(group=group)]
    _check_disabled(skipped, {point.name for point in found})
    for entry_point in sorted(dict.fromkeys(found), key=_order):
        if entry_point.name in skipped:
            continue
        provider = Provider.of(entry_point)
        if entry_point.group != GROUP:
            registry.unfit[provider] = f"made for {entry_point.group}, this is {GROUP}"
            continue
        try:
            with prints_aside():
                registry.add_plugin(entry_point.load(), provider)
        except PluginConflictError:
            raise
        except (Exception, SystemExit) as error:  # one that ends the program would end every command
            reason = _reason(error)
            if strict:
                raise PluginError(f"the plugin failed to load: {reason}", place=str(provider)) from error
            registry.broken[provider] = reason
    return registry


def _reason(error: BaseException) -> str:
    if isinstance(error, LowtideError):
        return error.message + (f" ({error.hint})" if error.hint else "")
    return f"{type(error).__name__}: {error}"


def _order(entry_point: metadata.EntryPoint) -> tuple[bool, str, str, str]:
    """Ours first, then by name."""
    foreign = Provider.of(entry_point).distribution != DISTRIBUTION
    return foreign, entry_point.group, entry_point.name, entry_point.value


def _check_disabled(skipped: Iterable[str], known: Iterable[str]) -> None:
    for name in sorted(set(skipped) - set(known)):
        raise UnknownNameError(
            "there is no plugin of this name to disable", place=f"plugin {name!r}", hint=nearest(name, known)
        )


def _check_hooks(manager: pluggy.PluginManager, plugin: object, provider: Provider) -> None:
    for caller in manager.get_hookcallers(plugin) or ():
        wanted = any(not found.optionalhook for found in caller.get_hookimpls())
        if wanted and not caller.has_spec():
            hint = nearest(caller.name, (*REGISTRATION_HOOKS, *OBSERVER_HOOKS))
            raise PluginError(f"there is no hook {caller.name}", place=str(provider), hint=hint)


def _collect(manager: pluggy.PluginManager, provider: Provider) -> Iterator[Spec]:
    for hook, kind in HOOK_KINDS.items():
        try:
            found = [spec for contributed in getattr(manager.hook, hook)() for spec in contributed]
        except PluginError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{hook} failed: {type(error).__name__}: {error}", place=str(provider)
            ) from error
        for spec in found:
            if type(spec) is not kind:
                raise PluginError(
                    f"{hook} should return {kind.__name__}, found {type(spec).__name__}", place=str(provider)
                )
            yield spec
