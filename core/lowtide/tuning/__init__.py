"""The best-accuracy workflow: one configuration after the other, each held against frames set aside."""

from __future__ import annotations

from lowtide.tuning.api import TuneResult, tune
from lowtide.tuning.goal import Goal, parse_goal
from lowtide.tuning.record import Figures, Tried

__all__ = ["Figures", "Goal", "Tried", "TuneResult", "parse_goal", "tune"]
