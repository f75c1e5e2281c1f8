"""Made for another version of the plugin API, so nobody imports it."""

from __future__ import annotations

raise AssertionError("imported")
