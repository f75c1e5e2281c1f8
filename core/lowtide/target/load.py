"""Targets by name, read from their descriptions and checked to the last constraint."""

from __future__ import annotations

import attrs

from lowtide.errors import LowtideError, TargetError, UnknownNameError, UnsupportedByTargetError, nearest
from lowtide.ir.schema import known_ops
from lowtide.plugin import Registry, TargetSpec
from lowtide.target.constraints import compile_constraint, constraint_place
from lowtide.target.documents import Document, as_list, as_table, merge_chain, read_chain, read_document
from lowtide.target.model import ScaleRule, Target
from lowtide.target.structure import Problem, WrongTableError, structure_target

WIDTHS = (8, 16)
"""Widths that tensors can have at all."""


@attrs.frozen
class TargetListing:
    """A line of the list of targets.

    Attributes:
        name: how it is selected.
        title: how its maker calls it.
        summary: one line.
        aliases: other names of the device.
        extends: the target that it inherits from, empty for none.
        abstract: whether it can only be extended.
        problem: why it cannot be used, empty when it can.
    """

    name: str
    title: str
    summary: str
    aliases: tuple[str, ...]
    extends: str = ""
    abstract: bool = False
    problem: str = ""


def load_target(name: str, registry: Registry) -> Target:
    """The target of a name or alias.

    Raises:
        UnknownNameError: when nobody provides it.
        TargetError: when its description, or one that it extends, is invalid, or when it is abstract; the
            place is target, file and key.
        PluginError: when a file is missing.
    """
    spec = find_target(name, registry)
    chain = read_chain(spec.name, registry)
    if chain[-1].abstract:
        concrete = [entry.name for entry in _family(spec.name, registry) if not entry.abstract]
        raise TargetError(
            "the target is there to be extended and cannot be selected",
            place=chain[-1].place(),
            hint=f"use {' or '.join(concrete)}" if concrete else "no target extends it",
        )
    return _build(spec, chain)


def find_target(name: str, registry: Registry) -> TargetSpec:
    """The record of a target of a name or alias; one that can only be extended is never suggested.

    Raises:
        UnknownNameError: with the nearest names that can be selected.
    """
    try:
        return registry.get(TargetSpec, name)
    except UnknownNameError as error:
        names = (
            known
            for entry in list_targets(registry)
            if not entry.abstract
            for known in (entry.name, *entry.aliases)
        )
        error.hint = nearest(name, names)
        raise


def list_targets(registry: Registry) -> tuple[TargetListing, ...]:
    """Every registered target in the order of names, invalid ones with their problem."""
    return tuple(_listing(spec, registry) for spec in registry.all(TargetSpec))


def scale_rule(target: Target, number: int) -> ScaleRule:
    """The rule for a ``quantization_scale_type``.

    Raises:
        UnsupportedByTargetError: when the device does not have it, saying what to use.
    """
    found = target.scale_rules.get(number)
    if found is not None:
        return found
    known = ", ".join(f"{known} ({rule.name})" for known, rule in sorted(target.scale_rules.items()))
    raise UnsupportedByTargetError(
        target.refused_scale_types.get(number, f"{target.name} has no scale type {number}"),
        place=f"quantization_scale_type={number} on {target.name}",
        hint=f"{target.name} has {known}; its default is {target.default_scale_type}",
    )


def _listing(spec: TargetSpec, registry: Registry) -> TargetListing:
    listing = TargetListing(spec.name, spec.name, spec.summary, spec.aliases)
    try:
        document = read_document(spec)
        title = document.table.get("title", spec.name)
        listing = attrs.evolve(listing, title=title, extends=document.extends, abstract=document.abstract)
        if not document.abstract:
            _build(spec, read_chain(spec.name, registry))
    except LowtideError as error:
        return attrs.evolve(listing, problem=str(error))
    return listing


def _family(name: str, registry: Registry) -> tuple[Document, ...]:
    """A description and all that extend it, directly or not."""
    found: list[Document] = []
    for spec in registry.all(TargetSpec):
        try:
            chain = read_chain(spec.name, registry)
        except LowtideError:
            continue  # a broken relative is reported when it is asked for
        if any(document.name == name for document in chain):
            found.append(chain[-1])
    return tuple(found)


def _build(spec: TargetSpec, chain: tuple[Document, ...]) -> Target:
    table = merge_chain(chain)
    own = chain[-1].table
    table.update(name=spec.name, title=own.get("title", spec.name), summary=own.get("summary", spec.summary))
    try:
        target = structure_target(table)
    except WrongTableError as error:
        raise _error(chain, error.problem) from error
    for problem in (_widths(target), _scale_types(target), _operators(target)):
        if problem is not None:
            raise _error(chain, problem)
    for op, rule in target.operators.items():
        for number, constraint in enumerate(rule.constraints):
            compile_constraint(constraint, constraint_place(target.name, op, number))
    return target


def _error(chain: tuple[Document, ...], problem: Problem) -> TargetError:
    """An error whose place is the file that wrote the key, that is the last one that has it."""
    writers = [document for document in chain if _writes(document, problem.path)]
    place = (writers or chain)[-1].place(*problem.path)
    return TargetError(problem.message, place=place, hint=problem.hint)


def _writes(document: Document, path: tuple[str, ...]) -> bool:
    at: object = document.table
    for key in path:
        table = as_table(at)
        if table is None:
            return as_list(at) is not None  # positions shift when lists are joined
        if key not in table:
            return False
        at = table[key]
    return True


def _widths(target: Target) -> Problem | None:
    if not target.bits or not set(target.bits) <= set(WIDTHS):
        return Problem(("bits",), f"expected one or both of {WIDTHS}, found {target.bits}")
    for width in target.bias.accumulator_bits:
        if width not in {str(bits) for bits in WIDTHS}:
            return Problem(("bias", "accumulator_bits", width), f"expected one of {WIDTHS} as key")
    for bits in WIDTHS:
        if str(bits) not in target.bias.accumulator_bits:
            return Problem(("bias", "accumulator_bits"), f"there is no entry for {bits} bits")
    for op, rule in target.operators.items():
        for number, constraint in enumerate(rule.constraints):
            if not set(constraint.bits) <= set(WIDTHS):
                path = ("operators", op, "constraints", str(number), "bits")
                return Problem(path, f"expected some of {WIDTHS}, found {constraint.bits}")
    return None


def _scale_types(target: Target) -> Problem | None:
    both = sorted(target.scale_rules.keys() & target.refused_scale_types.keys())
    if both:
        return Problem(("refused_scale_types", str(both[0])), "this scale type has a rule too")
    if target.default_scale_type not in target.scale_rules:
        known = ", ".join(str(number) for number in sorted(target.scale_rules))
        found = target.default_scale_type
        return Problem(("default_scale_type",), f"expected one of the scale rules {known}, found {found}")
    return None


def _operators(target: Target) -> Problem | None:
    unknown = sorted(target.operators.keys() - known_ops())
    if unknown:
        return Problem(
            ("operators", unknown[0]), "ONNX has no such operator", nearest(unknown[0], known_ops())
        )
    return None
