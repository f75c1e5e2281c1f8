"""Remedies of findings as options."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.options import FIELDS, parse_assignment
from lowtide.options.fields import Kind, convert
from lowtide.report.model import Finding


def remedy_options(findings: Iterable[Finding]) -> dict[str, object]:
    """What to set to follow all remedies at once.

    Lists of names are joined; of two values for any other option the first stays, that of the worse layer.

    Raises:
        OptionError: when a remedy is no assignment of an option.
    """
    infos = {info.key: info for info in FIELDS.values()}
    found: dict[str, object] = {}
    for finding in findings:
        key, value = parse_assignment(finding.remedy)
        info = infos.get(key)
        if info is not None and info.kind is Kind.NAMES:
            before = found.get(key, ())
            names = convert(info, value, finding.code)
            found[key] = tuple(dict.fromkeys([*before, *names])) if isinstance(before, tuple) else names
        else:
            found.setdefault(key, value)
    return found
