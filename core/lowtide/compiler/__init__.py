"""The compile itself: stages, result, output folder, and the functions that users call."""

from __future__ import annotations
