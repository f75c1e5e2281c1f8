"""What is found where the scales of a network do not suit a device."""

from __future__ import annotations

import attrs

from lowtide.calibrate import Range


@attrs.frozen
class Finding:
    """One place where the scales of a network do not suit a device.

    Attributes:
        code: ``LTnnn``.
        place: the node in the words of the model file.
        tensor: the value, weights or bias.
        message: what was found and what the device wants.
        action: what a compile does: ``repaired``, ``converted`` (other codes for the same range), ``kept``
            (for what costs precision and is legal), or ``refused``.
    """

    code: str
    place: str
    tensor: str
    message: str
    action: str


@attrs.define
class Legal:
    """The outcome.

    Attributes:
        findings: of activations in executable order, then of layers.
        ranges: of the tensors that lost their scales, for the solver.
        bits: the width that these tensors had, where the device has it.
    """

    findings: list[Finding] = attrs.field(factory=list[Finding])
    ranges: dict[str, Range] = attrs.field(factory=dict[str, Range])
    bits: dict[str, int] = attrs.field(factory=dict[str, int])

    @property
    def refused(self) -> tuple[Finding, ...]:
        """What stops a compile."""
        return tuple(finding for finding in self.findings if finding.action == "refused")

    @property
    def converted(self) -> bool:
        """Whether anything gave up its codes."""
        return any(finding.action == "converted" for finding in self.findings)
