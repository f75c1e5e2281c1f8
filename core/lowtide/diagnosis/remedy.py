"""Remedies of findings as options."""

from __future__ import annotations

from collections.abc import Iterable

from lowtide.options import FIELDS, parse_assignment
from lowtide.options.fields import Kind
from lowtide.report.model import Finding


def remedy_options(findings: Iterable[Finding]) -> dict[str, object]:
    """What to set to follow all remedies at once.

    Lists of names are joined; of two values for any other option the first stays, that of the worse layer.

    Raises:
        OptionError: when a remedy is no assignment of an option.
    """
    lists = {info.key for info in FIELDS.values() if info.kind is Kind.NAMES}
    names: dict[str, dict[str, None]] = {}
    found: dict[str, object] = {}
    for finding in findings:
        key, value = parse_assignment(finding.remedy)
        if key in lists:
            joined = names.setdefault(key, {})
            joined.update(dict.fromkeys(finding.remedy.partition("=")[2].split(",")))
            found[key] = tuple(joined)
        else:
            found.setdefault(key, value)
    return found
