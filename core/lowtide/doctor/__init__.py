"""What is wrong with calibration frames, and how many of them are needed."""

from __future__ import annotations

from lowtide.doctor.examine import examine_frames
from lowtide.doctor.records import Examination, FrameFinding

__all__ = ["Examination", "FrameFinding", "examine_frames"]
