"""Calibration and evaluation frames, one at a time."""

from __future__ import annotations

from lowtide.data.fit import BadFrame, DataSource
from lowtide.data.open import open_data
from lowtide.data.preprocess import Preprocess
from lowtide.data.source import Frame, InputSpec
from lowtide.data.words import preprocess_in_words

__all__ = ["BadFrame", "DataSource", "Frame", "InputSpec", "Preprocess", "open_data", "preprocess_in_words"]
