"""Exact execution: what a device computes, integer by integer."""

from __future__ import annotations

from lowtide.exact.profile import PROFILES, Profile, find_profile
from lowtide.exact.session import ExactSession

__all__ = ["PROFILES", "ExactSession", "Profile", "find_profile"]
