"""What the doctor finds."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class FrameFinding:
    """Something about the frames that costs accuracy, or stops a compile.

    Attributes:
        place: the frame, or ``all frames``.
        cause: what is wrong, in a few words.
        evidence: the figures that say so.
        remedy: what to do, as a literal option where there is one.
        fatal: whether a compile would stop.
    """

    code: str
    place: str
    cause: str
    evidence: str
    remedy: str
    fatal: bool = False


@attrs.frozen
class Moving:
    """A tensor whose range is not settled.

    Attributes:
        missing: the share of the final width that is not covered, at most, with so many frames or more.
    """

    tensor: str
    missing: float


@attrs.frozen(kw_only=True)
class Convergence:
    """How the ranges grow with the number of frames.

    A tensor is settled at n frames when the range of the n evenly spread frames that ``--frames n`` takes,
    and that of every larger number of them, covers all but `tolerance` of the width of the range over all
    frames.

    Attributes:
        frames: how many frames there are, outliers and unusable ones left out.
        tensors: how many tensors are observed.
        allowed: how many of them may be unsettled.
        needed: the smallest number of frames at which no more than `allowed` tensors are unsettled.
        steps: numbers of frames, each with how many tensors are unsettled at it and the worst of them.
        moving: tensors that are unsettled at `needed`; the worst first.
    """

    frames: int
    tensors: int
    tolerance: float
    allowed: int
    needed: int
    steps: tuple[tuple[int, int, Moving | None], ...]
    moving: tuple[Moving, ...]

    @property
    def enough(self) -> bool:
        """Whether the last quarter of the frames was not needed."""
        return self.needed <= 0.75 * self.frames


@attrs.frozen(kw_only=True)
class Examination:
    """Everything.

    Attributes:
        frames: how many frames were read.
        good: how many of them can be used.
        basis: what the judgement on normalisation rests on, or why there is none.
        findings: what is wrong, fatal first.
        convergence: ``None`` with fewer than two usable frames.
    """

    data: str
    frames: int
    good: int
    basis: str
    findings: tuple[FrameFinding, ...]
    convergence: Convergence | None

    @property
    def fatal(self) -> bool:
        """Whether a compile would stop."""
        return any(finding.fatal for finding in self.findings)
