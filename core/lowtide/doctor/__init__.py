"""What is wrong with calibration frames, and how many of them are needed."""

from __future__ import annotations

from lowtide.doctor.diagnose import diagnose
from lowtide.doctor.records import Diagnosis, FrameFinding

__all__ = ["Diagnosis", "FrameFinding", "diagnose"]
